"""Reads that follow one like them while what decided that one changes: time, policies, limits, certificates.

As in test_precedents each sequence is played at two gateways, where it is not said otherwise.
"""

import asyncio
import gc
import json
import random
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.policies_folder import load_policies, policy_files
from gateway.policy.engine import Engine
from gateway.settings import Limits, RequestRate
from tests.attacks.test_facts_and_consents import CONSENTS, consent, team
from tests.attacks.test_group_q import certificate_thumbprint
from tests.attacks.test_precedents import ODD_ANSWERS
from tests.support.gateway import MOUNT, Reply, RunningGateway
from tests.support.hostile_upstream import Handler
from tests.support.twins import NOW, Line, Twins, start_twins, stop_twins

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("precedents-that-end")]
SECOND = "/fhir/second"
DEFINITIONS = """\
definitions: house
version: 1
claims:
  patient: {path: patient, type: id}
  user: {path: fhirUser, type: reference, of: [Practitioner, Patient]}
  roles: {path: roles, type: codes}
sets:
  day: {hours: "08:00-18:00", zone: UTC}
  night: {hours: ["18:00-24:00", "00:00-08:00"], zone: UTC}
facts:
  my-patients: {ask: "CareTeam?participant={token.user}", take: CareTeam.subject, keep: 5s, at_most: 3}
"""
POLICY = """\
policy: house
version: 1
owner: tests
status: enforce
text: Who reads what, and when.
rules:
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: [read]
    resources: [Observation, Patient]
    where: {compartment: {patient: "{token.patient}"}}
    conceal: true
    because: A person sees the own record.
  - rule: by-day
    effect: permit
    who: {context: user, role: [physician]}
    when: {hours: $day}
    may: [read]
    resources: [Observation]
    shared: true
    because: Staff sees charts by day.
  - rule: up-to-normal
    effect: permit
    who: {context: user, role: [clerk]}
    may: [read]
    resources: [Observation]
    where: {labels: {at_most: N, unlabelled: N}}
    because: Up to normal confidentiality.
  - rule: without-notes
    effect: permit
    who: {context: user, role: [nurse]}
    may: [read]
    resources: [Observation]
    shared: true
    return: {hide: [Observation.note]}
    because: Notes are for physicians.
  - rule: so-often
    effect: permit
    who: {context: user, role: [porter]}
    may: [read]
    resources: [Observation]
    shared: true
    then: {rate: 3/h}
    because: A porter looks now and then.
  - rule: on-the-ward-by-day
    effect: permit
    who: {context: user, role: [on-call, researcher]}
    when: {hours: $day}
    may: [read]
    resources: [Observation]
    shared: true
    because: By day everybody is there.
  - rule: on-call
    effect: permit
    who: {context: user, role: [on-call]}
    when: {hours: $night}
    may: [read]
    resources: [Observation]
    where: {compartment: {patient: {in: $facts.my-patients}}}
    because: By night those who care.
  - rule: study
    effect: permit
    who: {context: user, role: [researcher]}
    when: {hours: $night}
    may: [read]
    resources: [Observation]
    where: {consent: {scope: research, decision: permit, for: "urn:study:dm2"}}
    because: By night those who agreed.
"""
TESTS = """\
tests:
  - {test: t, as: {context: patient, patient: A}, request: GET /Patient/B, expect: {status: 404}}
"""
OBSERVATION = {
    "resourceType": "Observation", "id": "x", "status": "final", "subject": {"reference": "Patient/A"},
}  # fmt: skip
NOON = NOW - NOW % 86400 + 12 * 3600
EVENING = NOON + 6 * 3600  # the first second at which it is no more day
PLAIN = json.dumps(OBSERVATION, separators=(",", ":")).encode()
SPACED = json.dumps(OBSERVATION, indent=1).encode()


def answering(body: bytes, do: Callable[[], None] = lambda: None, status: int = 200) -> Handler:
    """A store that answers with this, and does something else beside."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        do()
        return web.Response(status=status, body=body, content_type="application/fhir+json")

    return answer


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def twins(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Twins]:
    folder = tmp_path_factory.mktemp("twins")
    (folder / "policies").mkdir()
    (folder / "policies" / "00-definitions.yaml").write_text(DEFINITIONS)
    (folder / "policies" / "house.yaml").write_text(POLICY + TESTS)
    limits = Limits(drain=2.0, rates={"user": RequestRate(900, 3600, 900, True)}, at_once={"user": 2})
    with pytest.MonkeyPatch.context() as patch:
        started = await start_twins(
            folder, patch, policies=folder / "policies", second_mount=SECOND, limits=limits, consents=CONSENTS
        )
        await started.at(NOON)
        yield started
        await stop_twins(started)


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def as_at_first(twins: Twins) -> AsyncIterator[None]:
    engines = [gateway.gateway.engines.engine for gateway in twins.each]
    yield
    for gateway, engine in zip(twins.each, engines, strict=True):
        gateway.upstream.reset()
        gateway.gateway.engines.engine = engine
    await twins.at(NOON)


_NAMES: list[str] = []


def person(**claims: Any) -> dict[str, Any]:
    """A token of its own for somebody of whom no other test knows."""
    _NAMES.append(f"one-{len(_NAMES)}")
    return {"name": _NAMES[-1], "sub": _NAMES[-1], **claims}


async def warm(twins: Twins, *, shortly: bool = True, **claims: Any) -> dict[str, Any]:
    """Somebody whose read of an Observation has a precedent."""
    who = person(**claims)
    twins.store_answers(answering(PLAIN))
    before = replace(twins.uses)
    for _ in range(2):
        assert (await twins.read("/Observation/x", **who)).status == 200
    assert twins.uses.followed == before.followed + 1
    assert (twins.uses.shortly == before.shortly + 1) is shortly
    return who


def staff(role: str) -> dict[str, Any]:
    """The claims of somebody with this role."""
    return {"who": "dr1", "roles": [role]}


# Time


async def test_who_may_read_by_day_is_refused_from_the_first_second_of_the_evening(twins: Twins) -> None:
    who = await warm(twins, **staff("physician"), exp=NOON + 90_000)
    for now, status in ((EVENING - 1, 200), (EVENING, 403), (EVENING + 1, 403), (NOON + 20 * 3600, 200)):
        await twins.at(now)
        assert (await twins.read("/Observation/x", **who)).status == status


@pytest.mark.parametrize("body", [PLAIN, SPACED], ids=["plain", "spaced"])
@pytest.mark.parametrize("status", [200, 404])
async def test_a_read_that_was_permitted_by_day_ends_well_in_the_evening(
    twins: Twins, body: bytes, status: int
) -> None:
    """It was decided when it came, however long the store takes."""
    who = await warm(twins, **staff("physician"), exp=NOON + 90_000)
    await twins.at(EVENING - 1)

    def evening_comes() -> None:
        twins.now[0] = EVENING

    async def ask(gateway: RunningGateway) -> Reply:
        twins.now[0] = EVENING - 1
        return await twins.line(gateway).ask(await twins.head(gateway, "/Observation/x", **who))

    twins.store_answers(answering(body, evening_comes, status))
    before = twins.uses.followed
    assert (await twins.same(ask)).status == status
    assert twins.uses.followed == before + 1


# Policies


CLOSED = "  - {rule: closed, effect: deny, may: [read], resources: [Observation], because: It is closed.}\n"


def engine_of(gateway: RunningGateway, folder: Path, more: str = "") -> Engine:
    """Another engine, with these rules besides."""
    (folder / "00-definitions.yaml").write_text(DEFINITIONS)
    (folder / "house.yaml").write_text(POLICY + more + TESTS)
    return gateway.gateway._engine(load_policies(policy_files(folder)))


@pytest.mark.parametrize("is_there", [True, False], ids=["others", "none"])
async def test_policies_that_change_are_in_force_for_the_next_read(
    twins: Twins, tmp_path: Path, is_there: bool
) -> None:
    who = await warm(twins)
    for gateway in twins.each:
        gateway.gateway.engines.engine = engine_of(gateway, tmp_path, CLOSED) if is_there else None
    assert (await twins.read("/Observation/x", **who)).status == (403 if is_there else 503)
    assert (await twins.read("/Observation/x", **who)).status == (403 if is_there else 503)


@pytest.mark.parametrize("is_there", [True, False], ids=["others", "none"])
@pytest.mark.parametrize("step", ["claim", "spend"])
async def test_policies_that_change_while_a_proof_is_claimed_decide_about_it(
    twins: Twins, tmp_path: Path, step: str, is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = await warm(twins)
    before = twins.uses.followed
    with monkeypatch.context() as patch:
        for gateway in twins.each:
            other = engine_of(gateway, tmp_path, CLOSED) if is_there else None
            patch.setattr(gateway.gateway.store, step, changing(gateway, step, other))
        assert (await twins.read("/Observation/x", **who)).status == (403 if is_there else 503)
    assert twins.uses.followed == before + 1


def changing(gateway: RunningGateway, step: str, other: Engine | None) -> Callable[..., Awaitable[Any]]:
    """The step, by whose end other policies are in force."""
    right = getattr(gateway.gateway.store, step)

    async def step_of(*said: Any, **more: Any) -> Any:
        done = await right(*said, **more)
        gateway.gateway.engines.engine = other
        return done

    return step_of


async def test_what_was_decided_by_policies_of_before_is_kept_no_longer_than_until_the_next_read(
    twins: Twins, tmp_path: Path
) -> None:
    """The heads of then may never come again, and policies are large."""
    right = [gateway.gateway.engines.engine for gateway in twins.each]
    for gateway in twins.each:
        gateway.gateway.engines.engine = engine_of(gateway, tmp_path)
    await warm(twins)
    assert twins.first.gateway.engines.engine is not None
    old = weakref.ref(twins.first.gateway.engines.engine)
    for gateway, engine in zip(twins.each, right, strict=True):
        gateway.gateway.engines.engine = engine
    await warm(twins)
    gc.collect()
    assert old() is None


# What is not as usual


async def test_views_labels_and_rates_are_looked_at_each_time(twins: Twins) -> None:
    noted = {**OBSERVATION, "note": [{"text": "secret"}]}
    restricted = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
    secret = {**OBSERVATION, "meta": {"security": [restricted]}}
    nurse, clerk = await warm(twins, **staff("nurse")), await warm(twins, **staff("clerk"))
    for value, of_nurse, of_clerk in ((noted, 200, 200), (secret, 200, 403), (OBSERVATION, 200, 200)):
        for body in (json.dumps(value, separators=(",", ":")).encode(), json.dumps(value, indent=1).encode()):
            twins.store_answers(answering(body))
            before = twins.uses.followed
            reply = await twins.read("/Observation/x", **nurse)
            assert (reply.status, b"secret" in reply.body) == (of_nurse, False)
            assert (await twins.read("/Observation/x", **clerk)).status == of_clerk
            assert twins.uses.followed == before + 2


async def test_a_rate_of_a_rule_is_spent_by_each_read(twins: Twins) -> None:
    twins.store_answers(answering(PLAIN))
    porter = person(**staff("porter"))
    found = [(await twins.read("/Observation/x", **porter)).status for _ in range(5)]
    assert found == [200, 200, 200, 429, 429]


@pytest.mark.parametrize("role", ["on-call", "researcher"])
async def test_what_only_the_night_asks_for_is_asked_for_at_night(twins: Twins, role: str) -> None:
    """By day nobody looks for patients in care, or for consents: reads that follow at night do, and find what is now."""
    who = await warm(twins, **staff(role), exp=NOON + 90_000)
    found: list[dict[str, Any]] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/Observation/x"):
            return web.Response(body=PLAIN, content_type="application/fhir+json")
        link = [{"relation": "self", "url": str(request.url)}]
        entries = [
            {"resource": each, "search": {"mode": "match"}}
            for each in found
            if each["resourceType"] in request.path
        ]
        bundle = {"resourceType": "Bundle", "type": "searchset", "link": link, "entry": entries}
        return web.Response(body=json.dumps(bundle).encode(), content_type="application/fhir+json")

    twins.store_answers(answer)
    for minute, there, status in (
        (0, [], 403),
        (1, [team("t", "A"), consent("c")], 200),
        (2, [], 403),
        (3, [team("t", "A"), consent("c")], 200),
    ):
        found[:] = there
        await twins.at(EVENING + 60 * minute)
        before = twins.uses.followed
        reply = await twins.read("/Observation/x", **who)
        assert (reply.status, twins.uses.followed) == (status, before + 1)
        said = (await twins.first.audit())[-1]
        assert said.keys() & {"facts", "consents"} or status == 403


# Mounts


async def test_mounts_have_precedents_of_their_own(twins: Twins) -> None:
    twins.store_answers(answering(PLAIN))
    both = person(aud=[twins.first.origin + MOUNT, twins.first.origin + SECOND])
    for gateway in twins.each:
        audience = [gateway.origin + MOUNT, gateway.origin + SECOND]
        await twins.token(gateway, both["name"], sub=both["sub"], aud=audience)
    before = twins.uses.followed
    for _ in range(3):
        for mount, route in ((MOUNT, "fhir"), (SECOND, "second")):
            assert (await twins.read("/Observation/x", mount=mount, **both)).status == 200
            assert (await twins.first.audit())[-1]["route"] == route
    assert twins.uses.followed == before + 4


async def test_a_token_for_one_mount_is_none_for_another_that_has_precedents(twins: Twins) -> None:
    who = await warm(twins)
    assert (await twins.read("/Observation/x", mount=SECOND, **who)).status == 401


# Certificates


async def test_a_certificate_is_looked_at_on_each_connection(twins: Twins) -> None:
    gateway = twins.first
    gateway.upstream.answer = answering(PLAIN)
    own, other = gateway.folder / "own.pem", gateway.folder / "other.pem"
    token = await gateway.token("pA-r", mtls=certificate_thumbprint(own), sub="of-a-certificate")
    head = f"GET {MOUNT}/Observation/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    lines = [Line(gateway, port=gateway.mtls_port, certificate=each) for each in (own, other)]
    lines += [
        Line(gateway, port=gateway.mtls_port),
        Line(gateway),
        Line(gateway, port=gateway.mtls_port, certificate=own),
    ]
    before = twins.uses.followed
    for _ in range(3):
        assert [(await line.ask(head)).status for line in lines] == [200, 401, 401, 401, 200]
    assert twins.uses.followed == before + 5
    for line in lines:
        await line.close()


# Callers that leave


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds; five seconds are for ever."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def is_idle(gateway: RunningGateway) -> bool:
    """Whether nothing is in work, no place held, and no connection to the store in use."""
    registry = gateway.gateway.metrics.registry
    return (
        registry.get_sample_value("securus_inflight_requests") == 0
        and not gateway.gateway._admission._used
        and all(mount.client.in_use == 0 for mount in gateway.gateway._mounts)
    )


@pytest.mark.parametrize("step", ["claim", "spend", "store", "body", "append_audit"])
async def test_who_leaves_in_the_middle_leaves_nothing_behind(
    twins: Twins, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each place where the gateway waits; the places that were held are free again, each once."""
    who = await warm(twins)

    async def leave(gateway: RunningGateway) -> Reply | None:
        reached = asyncio.Event()

        async def waits(*_: Any, **__: Any) -> Any:
            reached.set()
            await asyncio.Event().wait()

        async def half(request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse(
                headers={"Content-Type": "application/fhir+json", "Content-Length": "900"}
            )
            await response.prepare(request)
            await response.write(PLAIN)
            await waits()
            return response

        line = Line(gateway)
        with monkeypatch.context() as patch:
            if step in ("store", "body"):
                gateway.upstream.answer = waits if step == "store" else half
            elif step == "append_audit":
                patch.setattr(gateway.gateway.audit, "_queue", waits)
            else:
                patch.setattr(gateway.gateway.store, step, waits)
            _, writer = await line.opened()
            writer.write(await twins.head(gateway, "/Observation/x", **who))
            await asyncio.wait_for(reached.wait(), 5)
            assert not is_idle(gateway)
            line.leave()
            await until(lambda: is_idle(gateway))
        gateway.upstream.answer = answering(PLAIN)
        return None

    before = twins.uses.followed
    await twins.same(leave)
    assert twins.uses.followed == before + 1
    assert (await twins.read("/Observation/x", **who)).status == 200
    assert all(is_idle(gateway) for gateway in twins.each)


async def test_so_many_at_once_are_counted_also_of_those_that_follow(twins: Twins) -> None:
    who = await warm(twins)

    async def three(gateway: RunningGateway) -> list[Reply]:
        go_on, reached = asyncio.Event(), []

        async def slow(request: web.BaseRequest) -> web.StreamResponse:
            reached.append(1)
            await go_on.wait()
            return web.Response(body=PLAIN, content_type="application/fhir+json")

        gateway.upstream.answer = slow
        lines = [Line(gateway) for _ in range(2)]
        asked = [
            asyncio.create_task(line.ask(await twins.head(gateway, "/Observation/x", **who)))
            for line in lines
        ]
        await until(lambda: len(reached) == 2)
        third = await twins.line(gateway).ask(await twins.head(gateway, "/Observation/x", **who))
        go_on.set()
        replies = [await each for each in asked]
        gateway.upstream.answer = answering(PLAIN)
        fourth = await twins.line(gateway).ask(await twins.head(gateway, "/Observation/x", **who))
        for line in lines:
            await line.close()
        return [third, *replies, fourth]

    before = twins.uses.followed
    assert [each.status for each in await twins.same(three)] == [429, 200, 200, 200]
    assert twins.uses.followed == before + 4
    assert all(is_idle(gateway) for gateway in twins.each)


# All of it together


@pytest.mark.parametrize("seed", range(6))
async def test_any_sequence_of_reads_and_changes_is_answered_and_recorded_the_same(
    twins: Twins, tmp_path: Path, seed: int
) -> None:
    """Drawn: who asks for what, with which headers, proofs used again, what the store answers, time and policies."""
    draw = random.Random(seed)
    people = [person(**claims, exp=NOON + 90_000) for claims in [{}, *draw.sample(CALLERS, 2)]]
    engines = [
        [gateway.gateway.engines.engine, engine_of(gateway, tmp_path, CLOSED)] for gateway in twins.each
    ]
    heads: list[dict[int, bytes]] = []
    before, replayed = twins.uses.followed, 0

    async def fresh(gateway: RunningGateway) -> Reply:
        heads[-1][id(gateway)] = await twins.head(gateway, path, headers=headers, mount=mount, **who)
        return await twins.line(gateway).ask(heads[-1][id(gateway)])

    for step in range(160):
        if step % 8 == 0:  # most of the time it is day, and the house is open
            await twins.at(NOON + step)
            for gateway, those in zip(twins.each, engines, strict=True):
                gateway.gateway.engines.engine = those[0]
        match draw.randrange(20):
            case 0:
                await twins.at(NOON + draw.choice([0, 1, EVENING - NOON - 1, EVENING - NOON, 13 * 3600]))
            case 1:
                which = draw.choice([0, 1])
                for gateway, those in zip(twins.each, engines, strict=True):
                    gateway.gateway.engines.engine = those[which]
            case 2 if draw.random() < 0.3:
                revoked = draw.choice(people)["name"]
                for gateway in twins.each:
                    gateway.gateway.authorization.resource_server._revocations.add(revoked)
                people.append(person(**draw.choice(CALLERS), exp=NOON + 90_000))
            case 3 | 4 if heads:
                again = draw.choice(heads)
                await twins.same(lambda gateway, again=again: twins.line(gateway).ask(again[id(gateway)]))
                replayed += 1
            case _:
                odd = draw.choice(["usual", "usual", draw.choice(list(ODD_ANSWERS))])
                twins.store_answers(ODD_ANSWERS.get(odd, answering(PLAIN)))
                who, path = draw.choice(people), draw.choice(PATHS)
                headers, mount = draw.choice(HEADERS), draw.choice([MOUNT, MOUNT, MOUNT, SECOND])
                heads.append({})
                await twins.same(fresh)
    assert twins.uses.followed > before + 10
    assert replayed


CALLERS: list[dict[str, Any]] = [
    {}, {}, {"patient": "B", "fhirUser": "Patient/B"}, staff("physician"), staff("clerk"), staff("nurse"), staff("porter"),
    {"scope": "patient/Observation.rs"}, {"scope": "patient/Patient.rs"},
]  # fmt: skip
PATHS = ["/Observation/x"] * 8 + [
    "/Observation/y",
    "/Patient/A",
    "/Patient/x",
    "/Binary/x",
    "/Observation/x?_summary=true",
]
HEADERS: list[tuple[tuple[str, str], ...]] = [
    (), (), (), (), (), (), (("Accept-Encoding", "gzip"),), (("Accept", "application/fhir+xml"),), (("Accept", "*/*"),),
    (("If-None-Match", 'W/"1"'),), (("Origin", "https://app.example"),),
]  # fmt: skip
