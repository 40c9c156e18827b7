"""Two workers over one store: single use holds among them, and one that dies is missed by nobody."""

import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from authz.storage.sqlite.store import open_store
from gateway.audit.verification import verify
from gateway.demo import world
from gateway.demo.client import Person
from tests.support.processes import GatewayProcess
from tests.support.workers import at_once, counted, one_to_each, post, start_workers, workers_of
from tests.support.workers_load import Load, own_chart, patient_store, reading, until

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("workers"),
]
PROOFS, ASSERTIONS, CODES = 300, 100, 30
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    gateway = await start_workers(tmp_path_factory.mktemp("workers"))
    async with patient_store(gateway):
        yield gateway
    await gateway.stop()


async def test_a_proof_used_at_two_workers_at_once_is_taken_once(running: GatewayProcess) -> None:
    async with running.session("portal-dpop") as app:
        token = await own_chart(running, app)
        async with one_to_each(running) as pair:
            won = Counter[int]()
            for _ in range(PROOFS):
                request = reading(running, app, token)
                replies = await at_once(pair, [request, request])
                assert sorted(reply.status for reply in replies) == [200, 401]
                won[next(c.pid for c, reply in zip(pair, replies, strict=True) if reply.status == 200)] += 1
            assert len(won) == 2  # or it was no race
            assert await counted(running, r"securus_dpop_proofs_total") >= 2 * PROOFS


async def test_an_assertion_used_at_two_workers_at_once_is_taken_once(running: GatewayProcess) -> None:
    async with running.session("lab-backend") as app:
        await running.own_token(app, "system/Observation.rs")
        url = app.endpoint("token_endpoint")
        async with one_to_each(running) as pair:
            for _ in range(ASSERTIONS):
                form = {
                    "grant_type": "client_credentials",
                    "scope": "system/Observation.rs",
                    "client_assertion_type": _ASSERTION_TYPE,
                    "client_assertion": app._assertion(),
                }
                requests = [post(url, [("DPoP", app.proof("POST", url))], form) for _ in pair]
                replies = await at_once(pair, requests)
                assert sorted(reply.status for reply in replies) == [200, 400]
                assert {reply.json.get("error") for reply in replies} == {None, "invalid_client"}


async def test_a_code_used_at_two_workers_at_once_is_redeemed_once(running: GatewayProcess) -> None:
    async with running.session("portal-dpop") as app:
        await own_chart(running, app)
        url = app.endpoint("token_endpoint")
        async with one_to_each(running) as pair:
            user = next(user for user in running.facts["users"] if user["username"] == "stephen")
            person, won = Person(app.http), 0
            for _ in range(CODES):
                pushed, verifier, _ = await app.push(world.REDIRECT_URI, "launch/patient patient/*.rs")
                link = app.authorization_url(pushed.json["request_uri"])
                answer = await person.authorize(link, "stephen", user["password"])
                forms = [
                    {
                        "grant_type": "authorization_code",
                        "code": answer["code"],
                        "code_verifier": verifier,
                        "redirect_uri": world.REDIRECT_URI,
                        "client_assertion_type": _ASSERTION_TYPE,
                        "client_assertion": app._assertion(),
                    }
                    for _ in pair
                ]
                requests = [post(url, [("DPoP", app.proof("POST", url))], form) for form in forms]
                replies = await at_once(pair, requests)
                redeemed = [reply for reply in replies if reply.status == 200]
                # None where the second use ended the grant before the first had read it.
                assert len(redeemed) <= 1
                assert {reply.json["error"] for reply in replies if reply not in redeemed} == {
                    "invalid_grant"
                }
                won += len(redeemed)
            assert won


async def test_a_revoked_token_is_refused_by_every_worker(running: GatewayProcess) -> None:
    async with running.session("portal-dpop") as app:
        token = await own_chart(running, app)
        async with one_to_each(running) as pair:
            requests = [reading(running, app, token) for _ in pair]
            assert [reply.status for reply in await at_once(pair, requests)] == [200, 200]
            assert (await app.post(app.endpoint("revocation_endpoint"), {"token": token})).status == 200

            async def refused() -> bool:
                replies = await at_once(pair, [reading(running, app, token) for _ in pair])
                return [reply.status for reply in replies] == [401, 401]

            await until(refused, 5)


async def test_a_worker_killed_under_load_is_started_again_and_no_counter_falls(
    running: GatewayProcess,
) -> None:
    async with running.session("portal-dpop") as app:
        load = Load(running, app, await own_chart(running, app))
        await load.grow(50)
        seen = await counted(running, "securus_requests_total")
        for life in range(3):
            before = {worker["number"]: worker["pid"] for worker in await workers_of(running)}
            victim = life % 2
            os.kill(before[victim], signal.SIGKILL)
            await load.grow(50)  # the other one answers

            async def is_back(gone: int = before[victim], place: int = victim) -> bool:
                nonlocal seen
                now = await counted(running, "securus_requests_total")
                assert now >= seen
                seen = now
                worker = (await workers_of(running))[place]
                return worker["pid"] not in (None, gone) and worker["status"] == "ready"

            await until(is_back)
        await load.grow(50)
        await load.stop()
        assert load.statuses.keys() <= {200, 0}
        assert load.statuses[0] <= 3 * 6  # those that the killed one had in hand
        assert not {"the store does not answer", "background work failed"} & {
            line["message"] for line in running.log
        }
        store = await open_store(running.folder / "securus.db")
        assert (await verify(store)).whole
        await store.close()
        read = [line for line in running.audit() if line["event"] == "access" and line["status"] == 200]
        assert len(read) >= load.statuses[200]
        assert await counted(running, "securus_worker_ends_total") == 3
        assert (await running.operations("/readyz"))[0] == 200
        led = [line["worker"] for line in running.log if line["message"] == "a worker leads"]
        assert led[:3] == [0, 1, 0]  # whoever leads and dies is followed by one that is ready


async def test_a_worker_started_again_has_the_configuration_that_the_others_have(
    running: GatewayProcess,
) -> None:
    config = Path(running.facts["config"])
    config.write_text(config.read_text().replace("Example Hospital", "Another Hospital") + "\nunknown: 1\n")
    first = (await workers_of(running))[0]["pid"]
    os.kill(first, signal.SIGKILL)

    async def is_back() -> bool:
        worker = (await workers_of(running))[0]
        return worker["pid"] not in (None, first) and worker["status"] == "ready"

    await until(is_back)
    assert (await running.operations("/readyz"))[0] == 200


async def test_SIGHUP_puts_new_policies_in_force_in_every_worker(running: GatewayProcess) -> None:
    async with running.session("portal-dpop") as app:
        token = await own_chart(running, app)
        async with one_to_each(running) as pair:
            before = {worker["policies"] for worker in await workers_of(running)}
            assert len(before) == 1
            (running.folder / "policies" / "10-patient-own-record.yaml").unlink()
            running.send_signal(signal.SIGHUP)

            async def is_changed() -> bool:
                now = [worker["policies"] for worker in await workers_of(running)]
                return len(now) == 2 and len({*now}) == 1 and not before & {*now}

            await until(is_changed)
            requests = [reading(running, app, token) for _ in pair]
            assert [reply.status for reply in await at_once(pair, requests)] == [403, 403]
            assert await counted(running, "securus_policies_in_force") == 2
