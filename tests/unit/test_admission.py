"""Limits: who may ask how often and how much at once; what is refused spends nothing; what is held is given back."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from authz.protocol.request import Answer
from authz.protocol.tokens import Binding, BindingKind, Caller
from authz.storage.effects import RateLimit
from authz.storage.sqlite.store import open_store
from authz.storage.store import StoreUnavailable
from gateway.admission import Admission, Limited
from gateway.settings import Limits, RequestRate
from tests.support.authorization_server import http_request

NOW = 1_800_000_000
CALLER = Caller(
    issuer="https://as.example",
    subject="ann",
    client_id="portal",
    scope=(),
    audience=(),
    binding=Binding(BindingKind.DPOP, "k"),
    token_id="t",
    grant_id=None,
    issued_at=NOW,
    expires_at=NOW + 300,
    claims={},
)


class Bench:
    """An Admission with a clock in hand, and what it counted."""

    def __init__(self, store: Any = None, *, at_once: dict[str, int] | None = None, **rates: Any) -> None:
        self.now = 0.0
        self.counted: list[str] = []
        self.admission = Admission(
            Limits(rates=rates, at_once=at_once or {}),
            store,
            counted=self.counted.append,
            clock=lambda: NOW + int(self.now),
            steady=lambda: self.now,
        )

    async def door(self, path: str, peer: str = "192.0.2.1") -> int:
        """0, or the seconds to wait."""
        try:
            await self.admission.at_door(replace(http_request("GET", path), peer=peer))
        except Limited as limited:
            return limited.seconds
        return 0

    async def caller(self, caller: Caller = CALLER, route: str = "fhir") -> str:
        """The limit that refuses a caller, '' for none; what it holds is given back."""
        try:
            (await self.admission.of_caller(caller, route)).release()
        except Limited as limited:
            return limited.limit
        return ""


def rate(uses: int, seconds: int = 10, *, shared: bool = False) -> RequestRate:
    return RequestRate(uses, seconds, uses, shared)


async def test_without_limits_nothing_is_counted_and_no_store_is_asked() -> None:
    bench = Bench()
    assert {await bench.door("/token") for _ in range(1000)} == {0}
    assert await bench.caller() == ""
    assert bench.counted == []


async def test_an_address_waits_until_its_bucket_has_a_token() -> None:
    bench = Bench(address=rate(2))
    assert [await bench.door("/any") for _ in range(3)] == [0, 0, 5]
    assert await bench.door("/any", "192.0.2.2") == 0
    bench.now = 5
    assert [await bench.door("/any") for _ in range(2)] == [0, 5]
    assert bench.counted == ["rates.address", "rates.address"]


async def test_a_network_of_one_IPv6_subscriber_counts_as_one_address() -> None:
    bench = Bench(address=rate(1))
    assert await bench.door("/any", "2001:db8::1") == 0
    assert await bench.door("/any", "2001:db8::ffff") == 10
    assert await bench.door("/any", "2001:db8:0:1::1") == 0


@pytest.mark.parametrize(
    ("limit", "paths", "other"),
    [
        ("token", ("/token", "/par", "/revoke", "/introspect"), "/authorize"),
        ("register", ("/register", "/register/abc"), "/registered"),
        ("admin", ("/admin/clients",), "/administration"),
    ],
)
async def test_doors_have_limits_of_their_own(limit: str, paths: tuple[str, ...], other: str) -> None:
    bench = Bench(**{limit: rate(len(paths))})
    assert {await bench.door(path) for path in paths} == {0}
    assert all([await bench.door(path) > 0 for path in paths])
    assert await bench.door(other) == 0
    assert {*bench.counted} == {f"rates.{limit}"}


async def test_a_refusal_by_one_limit_spends_nothing_of_another() -> None:
    bench = Bench(address=rate(10), token=rate(1))
    assert await bench.door("/token") == 0
    assert all([await bench.door("/token") > 0 for _ in range(50)])
    assert [await bench.door("/any") > 0 for _ in range(10)] == [False] * 9 + [True]


async def test_clients_people_and_routes_are_counted_apart() -> None:
    bench = Bench(user=rate(1), client=rate(3), route=rate(4))
    ann, bob = CALLER, replace(CALLER, subject="bob")
    assert await bench.caller(ann) == ""
    assert await bench.caller(ann) == "rates.user"
    assert await bench.caller(bob) == ""
    assert await bench.caller(replace(CALLER, subject="eve")) == ""
    assert await bench.caller(replace(CALLER, subject="dan")) == "rates.client"
    assert await bench.caller(replace(CALLER, subject="dan", client_id="other")) == ""
    assert await bench.caller(replace(CALLER, subject="fay", client_id="third")) == "rates.route"
    assert await bench.caller(replace(CALLER, subject="fay", client_id="third"), "archive") == ""


async def test_the_same_name_at_two_issuers_is_two_people() -> None:
    bench = Bench(user=rate(1))
    assert await bench.caller() == ""
    assert await bench.caller(replace(CALLER, issuer="https://other.example")) == ""


async def test_a_client_is_told_how_long_to_wait_at_the_authorization_server() -> None:
    bench = Bench(client=rate(1))
    assert [await bench.admission.of_client("portal") for _ in range(2)] == [0, 10]
    assert await bench.admission.of_client("other") == 0
    assert await bench.caller() == "rates.client"  # one limit for both


async def test_a_shared_limit_counts_for_all_processes_of_a_store(tmp_path: Path) -> None:
    stores = [await open_store(tmp_path / "securus.db") for _ in range(2)]
    one, other = (Bench(store, user=rate(3, 60, shared=True)) for store in stores)
    assert [await bench.caller() for bench in (one, other, one)] == ["", "", ""]
    assert [await bench.caller() for bench in (one, other)] == ["rates.user", "rates.user"]
    one.now = other.now = 60
    assert await other.caller() == ""
    for store in stores:
        await store.close()


class Away:
    """A store that does not answer."""

    async def spend(self, limits: list[RateLimit], *, now: int) -> int:
        """Nothing."""
        raise StoreUnavailable("away")


async def test_a_shared_limit_that_cannot_be_counted_lets_nobody_pass() -> None:
    bench = Bench(Away(), address=rate(3, shared=True), user=rate(3, shared=True), at_once={"user": 1})
    with pytest.raises(StoreUnavailable):
        await bench.door("/any")
    for _ in range(3):  # and what was held is given back
        with pytest.raises(StoreUnavailable):
            await bench.caller()


async def test_so_many_at_once_and_no_more_until_one_ends() -> None:
    bench = Bench(at_once={"user": 2, "client": 3})
    bob = replace(CALLER, subject="bob")
    held = [await bench.admission.of_caller(CALLER, "fhir") for _ in range(2)]
    assert await bench.caller() == "at_once.user"
    held.append(await bench.admission.of_caller(bob, "fhir"))
    assert await bench.caller(replace(CALLER, subject="eve")) == "at_once.client"
    held[0].release()
    held[0].release()  # once is enough, twice is not two
    assert await bench.caller() == ""
    held.append(await bench.admission.of_caller(CALLER, "fhir"))
    assert await bench.caller() == "at_once.client"
    assert {*bench.counted} == {"at_once.user", "at_once.client"}


async def test_one_that_is_refused_for_its_rate_holds_no_place() -> None:
    bench = Bench(user=rate(1), at_once={"user": 1})
    assert [await bench.caller() for _ in range(3)] == ["", "rates.user", "rates.user"]


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x"


async def test_a_whole_answer_gives_its_place_back_at_once() -> None:
    bench = Bench(at_once={"user": 1})
    held = await bench.admission.of_caller(CALLER, "fhir")
    assert held.until_sent(Answer(200, body=b"whole")).body == b"whole"
    assert await bench.caller() == ""


@pytest.mark.parametrize("end", ["read", "closed", "failed", "forgotten"])
async def test_a_stream_gives_its_place_back_however_it_ends(end: str) -> None:
    bench = Bench(at_once={"user": 1})

    async def failing() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionError

    held = await bench.admission.of_caller(CALLER, "fhir")
    answer = held.until_sent(Answer(200, body=failing() if end == "failed" else pieces(2)))
    body: Any = answer.body
    assert await bench.caller() == "at_once.user"
    if end != "forgotten":
        assert await anext(body) == b"x"
        assert await bench.caller() == "at_once.user"
    if end == "read":
        assert [piece async for piece in body] == [b"x"]
    elif end == "closed":
        await body.aclose()
    elif end == "failed":
        with pytest.raises(ConnectionError):
            await anext(body)
    del answer, body, held
    assert await bench.caller() == ""


async def test_Retry_After_is_whole_seconds_and_never_none() -> None:
    assert Limited("x", 0.01).headers == (("Retry-After", "1"),)
    assert Limited("x", 12.2).headers == (("Retry-After", "13"),)
