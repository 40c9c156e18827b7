"""Key sets by URL: when they are fetched, when not, and for how long they are believed."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from authz import client_keys
from authz.client_keys import ClientKeys, KeySet, KeySetUnavailable
from authz.events import Event, KeySetFetched
from authz.fetched import Fetched, FetchError
from authz.protocol.clients import AuthenticationMethod, Client, GrantType
from authz.protocol.jwk import JoseError, read_key_set
from tests.support.authorization_server import Clock
from tests.support.jose import ec_key, private_jwk, public_jwk

URL = "https://keys.example/jwks"
KEY = ec_key()


def client(client_id: str = "app", url: str | None = URL, **more: object) -> Client:
    return Client(
        client_id=client_id,
        name="App",
        authentication_method=AuthenticationMethod.PRIVATE_KEY_JWT,
        scope=("system/Patient.r",),
        grant_types=frozenset({GrantType.CLIENT_CREDENTIALS}),
        jwks_uri=url,
        **more,  # type: ignore[arg-type]
    )


def body(*kids: str) -> bytes:
    return json.dumps({"keys": [public_jwk(KEY, kid=kid) for kid in kids]}).encode()


def holding(kid: str) -> Callable[[KeySet], bool]:
    return lambda known: kid in {key.kid for key in known.keys}


@dataclass
class Publisher:
    """A fetch of our own, which counts."""

    answer: Fetched | FetchError = field(default_factory=lambda: Fetched(body("a"), None))
    asked: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None

    async def __call__(self, url: str, *, media_types: tuple[str, ...], max_bytes: int) -> Fetched:
        assert max_bytes == 64 * 1024
        self.asked.append(url)
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.answer, FetchError):
            raise self.answer
        return self.answer


class Desk:
    """ClientKeys over a publisher and a clock that stands still."""

    def __init__(self) -> None:
        self.publisher, self.clock, self.events = Publisher(), Clock(), list[Event]()
        self.keys = ClientKeys(self.publisher, self.clock, self.events.append)

    async def kids(self, wanted: str = "a", of: Client | None = None) -> set[str | None]:
        found = await self.keys.of(of or client(), holds=holding(wanted))
        return {key.kid for key in found.keys}

    @property
    def fetches(self) -> int:
        return len(self.publisher.asked)

    def publish(self, *kids: str, max_age: int | None = None) -> None:
        self.publisher.answer = Fetched(body(*kids), max_age)

    def fail(self) -> None:
        self.publisher.answer = FetchError("unreachable", "keys.example cannot be connected to")


async def test_I3_a_key_set_is_fetched_once_and_kept() -> None:
    desk = Desk()
    for _ in range(3):
        assert await desk.kids() == {"a"}
    assert desk.fetches == 1
    assert await desk.kids(of=client("other")) == {"a"}  # by URL, not by client
    assert desk.fetches == 1


@pytest.mark.parametrize(
    ("max_age", "seconds"), [(None, 300), (0, 60), (30, 60), (61, 61), (3600, 3600), (86400, 3600)]
)
async def test_I3_it_is_fresh_as_long_as_its_sender_says_within_a_minute_and_an_hour(
    max_age: int | None, seconds: int
) -> None:
    desk = Desk()
    desk.publish("a", max_age=max_age)
    await desk.kids()
    desk.clock.now += seconds - 1
    await desk.kids()
    assert desk.fetches == 1
    desk.clock.now += 1
    await desk.kids()
    assert desk.fetches == 2


async def test_I3_a_kid_that_is_absent_is_looked_for_again_and_found() -> None:
    desk = Desk()
    await desk.kids()
    desk.publish("a", "b")
    desk.clock.now += 60
    assert await desk.kids("b") == {"a", "b"}
    assert desk.fetches == 2


async def test_I3_kids_that_nobody_has_cost_one_fetch_a_minute() -> None:
    desk = Desk()
    await desk.kids()
    for number in range(200):
        assert await desk.kids(f"flood-{number}") == {"a"}
    assert desk.fetches == 1
    desk.clock.now += 59
    await desk.kids("flood")
    assert desk.fetches == 1
    desk.clock.now += 1
    for number in range(200):
        await desk.kids(f"flood-{number}")
    assert desk.fetches == 2


async def test_I3_a_failure_is_remembered_for_the_cool_down() -> None:
    desk = Desk()
    desk.fail()
    for _ in range(3):
        with pytest.raises(
            KeySetUnavailable, match=f"{URL} cannot be had: keys.example cannot be connected to"
        ):
            await desk.kids()
    assert desk.fetches == 1
    desk.publish("a")
    desk.clock.now += 60
    assert await desk.kids() == {"a"}
    assert [event for event in desk.events if isinstance(event, KeySetFetched)] == [
        KeySetFetched(URL, "unreachable", False, "keys.example cannot be connected to"),
        KeySetFetched(URL, "fetched", True, ""),
    ]


async def test_I3_the_last_key_set_stays_good_for_a_day_of_failures_and_no_longer() -> None:
    desk = Desk()
    await desk.kids()
    desk.fail()
    desk.clock.now += 24 * 3600 - 1
    assert await desk.kids() == {"a"}
    desk.clock.now += 1
    with pytest.raises(KeySetUnavailable):
        await desk.kids()
    assert desk.fetches == 2  # the second failure is within the cool-down of the first


async def test_I3_a_set_that_is_no_key_set_does_not_replace_the_one_that_is_kept() -> None:
    desk = Desk()
    await desk.kids()
    desk.publisher.answer = Fetched(b"<html>", None)
    desk.clock.now += 300
    assert await desk.kids() == {"a"}
    assert isinstance(desk.events[-1], KeySetFetched)
    assert desk.events[-1].outcome == "not-keys"


async def test_I3_requests_at_the_same_time_share_one_fetch() -> None:
    desk = Desk()
    desk.publisher.gate = asyncio.Event()
    waiting = [asyncio.create_task(desk.kids()) for _ in range(20)]
    await asyncio.sleep(0)
    desk.publisher.gate.set()
    assert await asyncio.gather(*waiting) == [{"a"}] * 20
    assert desk.fetches == 1


async def test_I3_a_request_that_is_given_up_does_not_end_the_fetch_of_the_others() -> None:
    desk = Desk()
    desk.publisher.gate = asyncio.Event()
    first, second = asyncio.create_task(desk.kids()), asyncio.create_task(desk.kids())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    desk.publisher.gate.set()
    assert await second == {"a"}
    assert desk.fetches == 1


async def test_closing_ends_what_is_under_way() -> None:
    desk = Desk()
    desk.publisher.gate = asyncio.Event()
    waiting = asyncio.create_task(desk.kids())
    while not desk.fetches:
        await asyncio.sleep(0)
    await desk.keys.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_I3_no_cache_grows_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_keys, "_MAX_URLS", 3)
    monkeypatch.setattr(client_keys, "_MAX_CLIENTS", 3)
    desk = Desk()
    for number in range(5):
        await desk.kids(of=client(url=f"{URL}/{number}"))
        await desk.kids(of=client(str(number), None, jwks=(public_jwk(KEY, kid="a"),)))
    assert (len(desk.keys._kept), len(desk.keys._by_value)) == (3, 3)
    await desk.kids(of=client(url=f"{URL}/4"))
    assert desk.fetches == 5
    await desk.kids(of=client(url=f"{URL}/0"))
    assert desk.fetches == 6


async def test_keys_by_value_are_read_again_when_the_registration_changes_and_never_fetched() -> None:
    desk = Desk()
    registered = client(url=None, jwks=(public_jwk(KEY, kid="1"),))
    assert await desk.kids("absent", registered) == {"1"}
    assert await desk.kids("2", client(url=None, jwks=(public_jwk(KEY, kid="2"),))) == {"2"}
    assert desk.fetches == 0


async def test_without_a_fetcher_no_key_set_by_URL_is_to_be_had() -> None:
    keys = ClientKeys(None, Clock(), lambda event: None)
    with pytest.raises(KeySetUnavailable, match="this server fetches nothing"):
        await keys.of(client(), holds=holding("a"))


async def test_a_query_of_the_URL_is_not_told() -> None:
    desk = Desk()
    desk.fail()
    with pytest.raises(KeySetUnavailable) as error:
        await desk.kids(of=client(url=f"{URL}?secret=1"))
    assert "secret" not in f"{error.value}{desk.events}"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not JSON"),
        (b'{"keys":[{}],"keys":[]}', "not JSON with one reading"),
        (b"[]", "must be an object with keys"),
        (b'{"keys":{}}', "must be an object with keys"),
        (b'{"keys":[]}', "at least one"),
        (b'{"keys":["a"]}', "must be an object with keys"),
        (json.dumps({"keys": [{"kty": "EC"}] * 101}).encode(), "has 101 keys, at most 100"),
        (json.dumps({"keys": [public_jwk(KEY), private_jwk(KEY)]}).encode(), "must be public, but holds d"),
        (b'{"keys":[{"kty":"oct","k":"AA"}]}', "must be public, but holds k"),
    ],
)  # fmt: skip
def test_RFC7517_5_what_is_no_public_key_set_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(JoseError, match=why):
        read_key_set(content)
