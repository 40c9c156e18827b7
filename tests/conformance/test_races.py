"""What counts once counts once in all processes together: codes, request_uri, refresh tokens, proofs, assertions.

Each round lets two to four processes over one store, SQLite's or PostgreSQL's, answer the same request at the same moment.
SECURUS_RACES says how many rounds.
"""

import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from authz.protocol.request import HttpRequest
from authz.settings import Lifetimes
from authz.storage.settings import StoreSettings
from tests.support.authorization_server import VERIFIER, World, http_request
from tests.support.postgresql import PrivateServer
from tests.support.racers import Racers, racers
from tests.support.variants import (
    BY_AUTHORITY,
    BY_KEY,
    DPOP,
    MTLS,
    Variant,
    VariantApp,
    open_variants,
    signed_in,
)

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("races"),
]
ROUNDS = int(os.environ.get("SECURUS_RACES", "0")) or 30
FORM = ("content-type", "application/x-www-form-urlencoded")
APPS = [Variant(BY_KEY, DPOP, True, True, True), Variant(BY_AUTHORITY, MTLS, False, False, False)]
of_both = pytest.mark.parametrize("variant", [pytest.param(app, id=app.name) for app in APPS])


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["sqlite", "postgresql"])
async def world(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    storage = None
    if request.param == "postgresql":
        server: PrivateServer = request.getfixturevalue("postgresql")
        database = await server.new_database()
        storage = StoreSettings(kind="postgresql", path="", postgresql=server.settings(database))
    async with open_variants(tmp_path_factory.mktemp("races"), storage) as opened:
        yield opened


@pytest.fixture(scope="module")
def many(world: World) -> Iterator[Racers]:
    with racers(world) as running:
        yield running


@pytest.fixture
def app(world: World, variant: Variant) -> VariantApp:
    return VariantApp(world, variant)


def token_request(app: VariantApp, form: Mapping[str, str], **more: Any) -> HttpRequest:
    """A token request with an assertion and a proof of its own, or with the one in more."""
    headers = [FORM]
    if app.is_dpop:
        headers.append(("dpop", more.get("proof") or app.proof()))
    body = urlencode(more.get("credentials", app.credentials()) | dict(form)).encode()
    return http_request(
        "POST", "/token", headers=headers, body=body, origin=app.origin, certificate=app.certificate
    )


def sizes() -> Iterator[int]:
    """How many race in each round."""
    for number in range(ROUNDS):
        yield 2 + number % 3


@of_both
async def test_A3_of_parallel_uses_of_one_code_one_wins_and_its_tokens_die_everywhere(
    many: Racers, app: VariantApp
) -> None:
    await app.learn_nonce()
    won = 0
    for size in sizes():
        code = await app.code()
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER}
        replies = many.together([token_request(app, form) for _ in range(size)])
        winners = [reply for reply in replies if reply.status == 200]
        losers = [reply for reply in replies if reply.status != 200]
        # None wins where the second use was seen before the first was answered.
        assert len(winners) <= 1
        assert {reply.refusal for reply in losers} == {(400, "invalid_grant")}
        won += len(winners)
        many.refresh()
        for reply in winners:
            token = reply.json["access_token"]
            refusals = many.callers([app.reading(token) for _ in range(many.count)])
            assert all("revoked" in refusal for refusal in refusals)
            refresh = {"grant_type": "refresh_token", "refresh_token": reply.json["refresh_token"]}
            late = many.together([token_request(app, refresh) for _ in range(many.count)])
            assert {reply.refusal for reply in late} == {(400, "invalid_grant")}
    assert won > 0


@of_both
async def test_A3_a_late_second_use_revokes_for_all_processes(many: Racers, app: VariantApp) -> None:
    await app.learn_nonce()
    for _ in range(ROUNDS // 2):
        code = await app.code()
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER}
        (first,) = many.together([token_request(app, form)])
        token = first.json["access_token"]
        assert many.callers([app.reading(token) for _ in range(many.count)]) == [""] * many.count
        assert (await app.redeem(code)).refusal == (400, "invalid_grant")
        many.refresh()
        refusals = many.callers([app.reading(token) for _ in range(many.count)])
        assert all("revoked" in refusal for refusal in refusals)


@of_both
async def test_P8_of_parallel_consents_to_one_request_exactly_one_counts(
    many: Racers, world: World, app: VariantApp
) -> None:
    ends = Counter[str]()
    for size in sizes():
        pushed = await app.request()
        consents = []
        for number in range(size):
            person = await signed_in(world)
            page = await person.sign_in(pushed, app.client_id)
            # Every other person says no: that completes the request as well.
            consents.append(person.consent_request(page, "deny" if number % 2 else "allow"))
        replies = many.together(consents)
        answers = [app.answer(reply) for reply in replies if reply.status == 303]
        assert len(answers) == 1
        assert {reply.status for reply in replies} == {303, 400}
        ends["code" if "code" in answers[0] else answers[0]["error"]] += 1
        if "code" in answers[0]:
            assert (await app.redeem(answers[0]["code"])).status == 200
    assert ends.keys() <= {"code", "access_denied"}


@of_both
async def test_C6_of_parallel_uses_of_one_assertion_exactly_one_is_taken(
    many: Racers, world: World, app: VariantApp
) -> None:
    if app.variant.authentication is not BY_KEY:
        app = VariantApp(world, Variant(BY_KEY, MTLS, False, False, False))
    for size in sizes():
        body = urlencode(app.form() | app.credentials()).encode()
        replies = many.together([http_request("POST", "/par", headers=[FORM], body=body)] * size)
        assert sorted(reply.status for reply in replies) == [201] + [400] * (size - 1)
        assert {reply.json.get("error") for reply in replies} == {None, "invalid_client"}


async def test_D5_of_parallel_uses_of_one_proof_exactly_one_is_taken(many: Racers, world: World) -> None:
    app = VariantApp(world, APPS[0])
    tokens = await app.tokens()
    refresh = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    for size in sizes():
        proof = app.proof()
        replies = many.together([token_request(app, refresh, proof=proof) for _ in range(size)])
        assert sorted(reply.status for reply in replies) == [200] + [400] * (size - 1)
        assert {reply.json.get("error") for reply in replies} == {None, "invalid_dpop_proof"}
        seen = many.callers([app.reading(tokens["access_token"])] * size)
        assert seen.count("") == 1
        assert sum("jti was used before" in refusal for refusal in seen) == size - 1


@of_both
async def test_K3_of_parallel_uses_of_one_refresh_token_without_grace_exactly_one_wins(
    world: World, app: VariantApp
) -> None:
    once = {"rotate_refresh_tokens": True, "lifetimes": Lifetimes(refresh_grace=0)}
    await app.learn_nonce()
    with racers(world, **once) as strict:
        for size in sizes():
            token = (await app.tokens())["refresh_token"]
            form = {"grant_type": "refresh_token", "refresh_token": token}
            replies = strict.together([token_request(app, form) for _ in range(size)])
            assert sorted(reply.status for reply in replies) == [200] + [400] * (size - 1)
            losers = {reply.refusal for reply in replies if reply.status != 200}
            assert losers == {(400, "invalid_grant")}


@of_both
async def test_K3_within_the_grace_each_use_has_a_successor_and_after_it_the_grant_ends(
    world: World, app: VariantApp
) -> None:
    await app.learn_nonce()
    with racers(world, rotate_refresh_tokens=True) as rotating:
        for size in (2, 3, 4):
            app.nonce = None
            await app.learn_nonce()
            token = (await app.tokens())["refresh_token"]
            form = {"grant_type": "refresh_token", "refresh_token": token}
            replies = rotating.together([token_request(app, form) for _ in range(size)])
            successors = [reply.json["refresh_token"] for reply in replies]
            assert len({token, *successors}) == size + 1
            world.clock.now += 61
            late = rotating.together([token_request(app, form) for _ in range(size)])
            assert {reply.refusal for reply in late} == {(400, "invalid_grant")}
            forms = [{"grant_type": "refresh_token", "refresh_token": each} for each in successors]
            ended = rotating.together([token_request(app, each) for each in forms])
            assert {reply.refusal for reply in ended} == {(400, "invalid_grant")}


async def test_I2_a_revocation_beside_a_refresh_leaves_nothing_alive(many: Racers, world: World) -> None:
    app = VariantApp(world, APPS[1])
    for _ in range(ROUNDS):
        token = (await app.tokens())["refresh_token"]
        refresh = token_request(app, {"grant_type": "refresh_token", "refresh_token": token})
        revoke = http_request(
            "POST",
            "/revoke",
            headers=[FORM],
            body=urlencode(app.credentials() | {"token": token}).encode(),
            origin=app.origin,
            certificate=app.certificate,
        )
        refreshed, revoked = many.together([refresh, revoke])
        assert revoked.status == 200
        many.refresh()
        if refreshed.status == 200:
            token = refreshed.json["access_token"]
            assert all("revoked" in each for each in many.callers([app.reading(token)] * many.count))
        else:
            assert refreshed.refusal == (400, "invalid_grant")
