"""D8 and C5: how far off a client's clock is, told to its developer in seconds and to our operators as a metric."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from authz.events import ClockCompared, ConsentChanged, ConsentGiven, GrantRevoked, OwnRecordShown, Refused
from gateway.telemetry import Metrics
from tests.support.authorization_server import NOW, Person, Reply, World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


def compared(world: World, kind: str) -> list[int]:
    """The offsets that were seen of one kind."""
    return [e.seconds for e in world.events if isinstance(e, ClockCompared) and e.kind == kind]


def counted(metrics: Metrics, name: str, **labels: str) -> float:
    """The value of a sample, 0 where there is none."""
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def test_D8_a_proof_from_the_future_says_by_how_much_and_is_counted(world: World) -> None:
    app = world.app("lab")
    await app.learn_nonce()
    world.events.clear()
    reply = await app.post("/token", {"grant_type": "client_credentials"}, proof=app.proof(iat=NOW + 394))
    assert reply.json["error_description"] == "iat is 394 s in the future, at most 300 s is accepted"
    assert compared(world, "dpop") == [394]


async def test_D8_without_nonces_the_ten_seconds_are_named(world: World) -> None:
    other = await world.reopen(dpop_nonce_required=False)
    app = other.app("lab")
    reply = await app.post("/token", {"grant_type": "client_credentials"}, proof=app.proof(iat=NOW + 94))
    assert reply.json["error_description"] == "iat is 94 s in the future, at most 10 s is accepted"
    late = await app.post("/token", {"grant_type": "client_credentials"}, proof=app.proof(iat=NOW - 94))
    assert late.json["error_description"] == "iat is 94 s in the past, at most 60 s is accepted"
    assert compared(other, "dpop") == [94, -94]


async def test_C5_an_assertion_says_by_how_much_and_is_counted(world: World) -> None:
    app = world.app()
    world.events.clear()

    async def push(**claims: int) -> Reply:
        return await world.post(
            "/par", app.asking() | app.credentials() | {"client_assertion": app.assertion(**claims)}
        )

    reply = await push(iat=NOW + 94)
    assert reply.json["error_description"] == "iat is 94 s in the future, at most 10 s is accepted"
    old = await push(iat=NOW - 400, exp=NOW - 100)
    assert old.json["error_description"] == "the client_assertion expired 100 s ago"
    assert (await push(iat=NOW - 2)).status == 201
    assert compared(world, "assertion") == [94, -400, -2]


async def test_S1_a_request_object_says_by_how_much_and_is_counted(world: World) -> None:
    app = world.app()
    world.events.clear()
    reply = await app.push_signed(nbf=NOW + 94, iat=NOW + 94, exp=NOW + 200)
    assert reply.json["error_description"] == "nbf is 94 s in the future, at most 10 s is accepted"
    early = await app.push_signed(nbf=NOW - 5, iat=NOW + 94, exp=NOW + 200)
    assert early.json["error_description"] == "iat is 94 s in the future, at most 10 s is accepted"
    assert (await app.push_signed(nbf=NOW - 5, iat=NOW + 8, exp=NOW + 200)).status == 201
    assert compared(world, "request_object") == [94, 94, 8]


async def test_the_gateway_counts_clocks_too(world: World) -> None:
    app = world.app("lab")
    token = (await app.own_token()).json["access_token"]
    world.events.clear()
    with pytest.raises(Exception, match="at most 300 s is accepted"):
        await app.read(token, iat=NOW - 301)
    assert compared(world, "dpop") == [-301]


def test_the_histogram_tells_fast_clocks_from_slow_ones() -> None:
    metrics = Metrics()
    for seconds in (-400, -61, 0, 11):
        metrics.event(ClockCompared("dpop", seconds))
    name = "securus_clock_skew_seconds_bucket"
    slow = counted(metrics, name, kind="dpop", le="-60.0")
    slow_or_right = counted(metrics, name, kind="dpop", le="10.0")
    everything = counted(metrics, name, kind="dpop", le="+Inf")
    assert (slow, slow_or_right, everything) == (2, 3, 4)
    assert counted(metrics, name, kind="assertion", le="+Inf") == 0


def test_no_label_is_taken_from_a_caller() -> None:
    metrics = Metrics()
    metrics.event(Refused("/jwks/../../etc", "invalid_request", None, ""))
    metrics.event(Refused("/token", "invalid_grant", "portal", ""))
    assert counted(metrics, "securus_oauth_errors_total", endpoint="other", error="invalid_request") == 1
    assert counted(metrics, "securus_oauth_errors_total", endpoint="/token", error="invalid_grant") == 1
    assert b"/etc" not in metrics.text()
    assert b"portal" not in metrics.text()


def test_consents_and_ended_grants_are_counted() -> None:
    metrics = Metrics()
    metrics.event(ConsentGiven("denied", "s1", "portal", (), None))
    metrics.event(GrantRevoked("g1", "portal", "code-replayed"))
    metrics.event(ConsentChanged("given", "s1", "https://fhir.example", "A", "c1", 1, "MTH"))
    metrics.event(OwnRecordShown("accesses", "s1", "https://fhir.example", "A"))
    assert counted(metrics, "securus_consents_total", outcome="denied") == 1
    assert counted(metrics, "securus_own_consents_total", outcome="given", by="representative") == 1
    assert counted(metrics, "securus_own_records_total", what="accesses", by="patient") == 1
    assert counted(metrics, "securus_grants_revoked_total", reason="code-replayed") == 1


async def test_errors_that_go_to_the_app_are_counted_at_the_authorization_endpoint(world: World) -> None:
    person = Person(world)
    await person.consent(await person.sign_in(await world.app().push()), action="deny")
    refused = [(e.endpoint, e.code, e.client_id) for e in world.events if isinstance(e, Refused)]
    assert ("/authorize", "access_denied", "portal") in refused


async def test_errors_of_protected_doors_are_counted_without_ids(world: World) -> None:
    await world.get("/userinfo", headers=[("authorization", "DPoP x")])
    await world.get("/grants/made-up", headers=[("authorization", "DPoP x")])
    refused = [(e.endpoint, e.code) for e in world.events if isinstance(e, Refused)]
    assert refused == [("/userinfo", "invalid_token"), ("/grants/", "invalid_token")]
