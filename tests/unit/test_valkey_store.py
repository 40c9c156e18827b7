"""Replay claims and rates in Valkey beside another store: the contract, a server that is away, one that may forget."""

import asyncio
import multiprocessing
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import uvloop

from authz.outgoing_tls import OF_NEWER_PYTHONS
from authz.storage.claims import Namespace
from authz.storage.composed import with_replay
from authz.storage.effects import RateLimit
from authz.storage.opening import open_storage
from authz.storage.settings import StoreSettings
from authz.storage.sqlite.store import open_store
from authz.storage.store import Store, StoreUnavailable
from authz.storage.valkey import open_valkey
from authz.storage.valkey_settings import ValkeySettings, url_fault
from gateway.demo.authority import Authority
from tests.support.postgresql import PrivateServer
from tests.support.store_contract import NOW, StoreContract, audit_lines, winners
from tests.support.tcp_proxy import Way, tcp_proxy
from tests.support.valkey import ValkeyServer, secured_valkey_server, valkey_server

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("valkey")]
_LIMIT = RateLimit(b"r" * 32, 3, 60)


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with valkey_server() as running:
        yield running


@pytest.fixture
async def store(server: ValkeyServer, tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_storage(storage(server, tmp_path))
    yield opened
    await opened.close()


def storage(server: ValkeyServer, folder: Path, *, timeout: float = 5.0) -> StoreSettings:
    valkey = server.settings(prefix=folder.name, timeout_seconds=timeout)
    return StoreSettings(path=str(folder / "securus.db"), valkey=valkey)


async def claim(store: Store, key: bytes, *, now: int = NOW) -> bool:
    return await store.claim(Namespace.DPOP_PROOF, key, until=NOW + 60, now=now)


class TestSqliteWithValkey(StoreContract):
    """The two together fulfil the contract of every store. What ends in Valkey is removed there, by itself."""

    async def test_rates_go_when_their_time_is_over(self, store: Store) -> None:
        await store.spend([_LIMIT], now=NOW)
        assert await store.remove_expired(now=NOW + 60, at_most=10) == 0

    async def test_expired_rows_go_in_batches_from_every_table_and_live_ones_stay(self, store: Store) -> None:
        await store.claim(Namespace.DPOP_PROOF, b"k", until=NOW + 60, now=NOW)
        await store.claim(Namespace.EXPORT_END, b"k", until=NOW + 60, now=NOW)
        await store.count("a", window_seconds=1, now=NOW)
        assert await store.remove_expired(now=NOW + 3600, at_most=10) == 1


async def test_replay_claims_and_rates_are_in_valkey_and_nothing_else_is(
    store: Store, server: ValkeyServer, tmp_path: Path
) -> None:
    alone = await open_store(tmp_path / "securus.db")
    replay = (Namespace.DPOP_PROOF, Namespace.CLIENT_ASSERTION, Namespace.REQUEST_OBJECT)
    for namespace in Namespace:
        assert await store.claim(namespace, b"k", until=NOW + 60, now=NOW)
        assert await alone.claim(namespace, b"k", until=NOW + 60, now=NOW) is (namespace in replay)
    assert await store.secret("s", b"one") == await alone.secret("s", b"two") == b"one"
    await alone.close()


async def test_it_stands_beside_PostgreSQL_as_well(server: ValkeyServer, postgresql: PrivateServer) -> None:
    settings = StoreSettings(
        kind="postgresql",
        path="",
        postgresql=postgresql.settings(await postgresql.new_database()),
        valkey=server.settings(prefix="beside-postgresql", timeout_seconds=5),
    )
    store = await open_storage(settings)
    alone = await open_storage(replace(settings, valkey=None))
    assert await winners(lambda: claim(store, b"k")) == 1
    assert await winners(lambda: claim(alone, b"k")) == 1  # it was claimed elsewhere
    assert [await store.spend([_LIMIT], now=NOW) for _ in range(4)] == [0, 0, 0, 60]
    assert await alone.spend([_LIMIT], now=NOW) == 0
    await store.append_audit(audit_lines(1, 2))
    assert await alone.audit_head() == await store.audit_head() != (0, b"")
    await store.close()
    await alone.close()


async def test_of_many_claims_of_one_turn_each_key_is_won_once(store: Store) -> None:
    keys = [b"%d" % (number % 700) for number in range(2100)]
    won = await asyncio.gather(*(claim(store, key) for key in keys))
    assert sum(won) == 700


async def test_what_has_ended_is_gone_from_the_server_a_claim_half_a_minute_later(
    server: ValkeyServer, tmp_path: Path
) -> None:
    valkey = await open_valkey(server.settings(prefix=tmp_path.name))
    assert await valkey.claim("n", b"k", until=NOW + 60, now=NOW)
    assert await valkey.spend([_LIMIT], now=NOW) == 0
    assert await valkey.count("c", window_seconds=60, now=NOW) == 1
    names = [name async for name in valkey._client.scan_iter(f"{tmp_path.name}:*") if b":check:" not in name]
    lives = {name.split(b":")[1]: await valkey._client.pttl(name) for name in names}
    await valkey.close()
    assert lives.keys() == {b"claim", b"rate", b"count"}
    assert 80_000 < lives.pop(b"claim") <= 90_000
    assert all(50_000 < life <= 60_000 for life in lives.values())


@pytest.mark.parametrize("ahead", [8, 29])
async def test_a_claim_by_a_node_whose_clock_is_ahead_outlives_the_last_moment_at_which_others_take_it(
    server: ValkeyServer, tmp_path: Path, ahead: int
) -> None:
    valkey = await open_valkey(server.settings(prefix=tmp_path.name))
    assert await valkey.claim("n", b"k", until=NOW + 60, now=NOW + ahead)
    (name,) = [name async for name in valkey._client.scan_iter(f"{tmp_path.name}:claim:*")]
    lives = await valkey._client.pttl(name)
    again = await valkey.claim("n", b"k", until=NOW + 60, now=NOW)
    await valkey.close()
    assert lives > 60_000 - 1_000
    assert not again


async def test_by_TLS_claims_are_made_at_the_server_of_the_authority_and_at_no_other(tmp_path: Path) -> None:
    authority, stranger = Authority.new("Cache"), Authority.new("Somebody else")
    with secured_valkey_server(authority, tmp_path) as secured:
        valkey = await open_valkey(secured.settings())
        assert await valkey.claim("n", b"k", until=NOW + 60, now=NOW)
        assert not await valkey.claim("n", b"k", until=NOW + 60, now=NOW)
        await valkey.close()
        with pytest.raises(StoreUnavailable, match="certificate verify failed"):
            await open_valkey(secured.settings(authorities=stranger.pem.decode("ascii")))
        with pytest.raises(StoreUnavailable):
            await open_valkey(ValkeySettings(f"valkey://127.0.0.1:{secured.port}/0"))


async def test_by_TLS_a_server_under_another_name_than_its_certificate_has_is_refused(tmp_path: Path) -> None:
    authority = Authority.new("Cache")
    with secured_valkey_server(authority, tmp_path) as secured:
        authorities = authority.pem.decode("ascii")
        url = f"valkeys://127.0.0.2:{secured.port}/0"
        async with tcp_proxy(secured.port, at=("127.0.0.2", secured.port)):
            with pytest.raises(StoreUnavailable, match="certificate verify failed"):
                await open_valkey(ValkeySettings(url, authorities=authorities))


async def test_by_TLS_a_server_is_judged_the_same_by_every_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 3.13 on a context asks for more, and believes more, until it is told otherwise."""
    made, contexts = ssl.create_default_context, []

    def newer(*args: Any, **options: Any) -> ssl.SSLContext:
        contexts.append(made(*args, **options))
        contexts[-1].verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        return contexts[-1]

    monkeypatch.setattr(ssl, "create_default_context", newer)
    with secured_valkey_server(Authority.new("Cache"), tmp_path) as secured:
        await (await open_valkey(secured.settings())).close()
    assert {bool(context.verify_flags & flag) for context in contexts for flag in OF_NEWER_PYTHONS} == {False}


async def test_two_installations_at_one_server_do_not_meet(server: ValkeyServer) -> None:
    one, other = [await open_valkey(server.settings(prefix=name)) for name in ("one", "other")]
    assert await one.claim("n", b"k", until=NOW + 60, now=NOW)
    assert await other.claim("n", b"k", until=NOW + 60, now=NOW)
    await one.close()
    await other.close()


def _race(settings: ValkeySettings, pipe: Connection) -> None:
    async def run() -> list[bool]:
        valkey = await open_valkey(settings)
        pipe.send("ready")
        pipe.recv()
        keys = [b"%d" % number for number in range(500)]
        won = await asyncio.gather(*(valkey.claim("n", key, until=NOW + 60, now=NOW) for key in keys))
        await valkey.close()
        return list(won)

    pipe.send(asyncio.run(run()))


def test_of_several_processes_exactly_one_wins_each_claim(server: ValkeyServer) -> None:
    spawn = multiprocessing.get_context("spawn")
    lanes = []
    for _ in range(3):
        ours, theirs = spawn.Pipe()
        process = spawn.Process(
            target=_race, args=(server.settings(prefix="race", timeout_seconds=10), theirs)
        )
        process.start()
        lanes.append((process, ours))
    for _, pipe in lanes:
        assert pipe.recv() == "ready"
    for _, pipe in lanes:
        pipe.send("go")
    results = [pipe.recv() for _, pipe in lanes]
    for process, _ in lanes:
        process.join(30)
    assert [sum(won) for won in zip(*results, strict=True)] == [1] * 500


# A server that is away


@pytest.fixture
def own() -> Iterator[ValkeyServer]:
    with valkey_server() as running:
        yield running


async def test_while_the_server_is_away_nothing_is_claimed_and_afterwards_it_works_by_itself(
    own: ValkeyServer, tmp_path: Path
) -> None:
    store = await open_storage(storage(own, tmp_path, timeout=2))
    assert await winners(lambda: claim(store, b"before")) == 1
    own.stop()
    for attempt in (
        lambda: claim(store, b"away"),
        lambda: store.spend([_LIMIT], now=NOW),
        lambda: store.count("c", window_seconds=60, now=NOW),
        store.check,
    ):
        with pytest.raises(StoreUnavailable, match="Valkey does not answer"):
            await attempt()
    assert await store.secret("s", b"x") == b"x"  # what is in the other store is there
    own.start()
    await store.check()
    assert await winners(lambda: claim(store, b"after")) == 1
    await store.close()


def test_a_claim_on_a_connection_that_was_reset_is_refused_on_the_loop_of_the_gateway(
    server: ValkeyServer, tmp_path: Path
) -> None:
    """uvloop says so by another error than asyncio."""

    async def run() -> None:
        async with tcp_proxy(server.port) as proxy:
            url = f"valkey://127.0.0.1:{proxy.port}/0"
            valkey = await open_valkey(ValkeySettings(url, prefix=tmp_path.name, timeout_seconds=5))
            proxy.turn(Way.RESET)
            await asyncio.sleep(0.05)  # so that the loop has heard of it
            for number in range(3):
                with pytest.raises(StoreUnavailable):
                    async with asyncio.timeout(30):
                        await valkey.claim("n", b"%d" % number, until=NOW + 60, now=NOW)
            proxy.turn(Way.PASS)
            assert await valkey.claim("n", b"later", until=NOW + 60, now=NOW)
            await valkey.close()

    uvloop.run(run())


async def test_a_server_that_says_nothing_is_away_after_its_time(own: ValkeyServer, tmp_path: Path) -> None:
    store = await open_storage(storage(own, tmp_path, timeout=0.3))
    own.pause()
    try:
        results = await asyncio.gather(*(claim(store, b"%d" % n) for n in range(50)), return_exceptions=True)
    finally:
        own.go_on()
    assert all(isinstance(result, StoreUnavailable) for result in results)
    async with asyncio.timeout(20):
        while True:
            try:
                await store.check()
                break
            except StoreUnavailable:
                await asyncio.sleep(0.05)
    await store.close()
    # Whether it was made while nothing was heard is not known: it is not won a second time, or for the first.
    store = await open_storage(storage(own, tmp_path))  # with time to answer many at once
    try:
        assert await winners(lambda: claim(store, b"0")) <= 1
        assert await winners(lambda: claim(store, b"new")) == 1
    finally:
        await store.close()


async def test_a_full_server_refuses_and_forgets_nothing(tmp_path: Path) -> None:
    with valkey_server("--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as full:
        store = await open_storage(storage(full, tmp_path))
        results: list[bool | BaseException] = []
        while not any(isinstance(result, StoreUnavailable) for result in results):
            keys = [b"%d:%s" % (len(results) + n, b"x" * 300) for n in range(500)]
            results += await asyncio.gather(*(claim(store, key) for key in keys), return_exceptions=True)
        assert {True} == {result for result in results if isinstance(result, bool)}
        with suppress(StoreUnavailable):
            assert not await claim(store, b"0:" + b"x" * 300)
        await store.close()


async def test_the_commands_that_the_guide_names_are_enough(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    (listed,) = re.findall(r"ACL for `~securus:\*` and the commands (.+),$", guide, re.M)
    allowed = [f"+{name.lower()}" for name in re.findall(r"`(.+?)`", listed)]
    rules = ["resetkeys", "resetchannels", "~securus:*", "-@all", *allowed]
    with valkey_server("--user", "gateway", "on", ">pw", *rules) as strict:
        valkey = await open_valkey(strict.settings(username="gateway", password="pw"))
        assert await valkey.claim("n", b"k", until=NOW + 60, now=NOW)
        assert not await valkey.claim("n", b"k", until=NOW + 60, now=NOW)
        assert [await valkey.spend([_LIMIT], now=NOW) for _ in range(4)] == [0, 0, 0, 60]
        assert await valkey.count("c", window_seconds=60, now=NOW) == 1
        await valkey.close()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_server_that_may_throw_claims_away_is_refused_at_the_start(
    policy: str, tmp_path: Path
) -> None:
    said = f"maxmemory-policy {policy}: .* set it to noeviction"
    with (
        valkey_server("--maxmemory", "50mb", "--maxmemory-policy", policy) as forgetful,
        pytest.raises(StoreUnavailable, match=said),
    ):
        await open_storage(storage(forgetful, tmp_path))


@pytest.mark.parametrize("appendonly", ["no", "yes"])
async def test_a_server_that_keeps_nothing_on_its_disk_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, appendonly: str
) -> None:
    with valkey_server("--appendonly", appendonly, "--dir", str(tmp_path)) as server:
        await (await open_valkey(server.settings())).close()
    warned = "Valkey keeps no claim on its disk" in caplog.messages
    assert warned is (appendonly == "no")


async def test_a_server_that_is_away_at_the_start_is_named(tmp_path: Path, own: ValkeyServer) -> None:
    own.stop()
    with pytest.raises(StoreUnavailable, match="Valkey does not answer"):
        await open_storage(storage(own, tmp_path))


async def test_a_wrong_password_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with valkey_server("--requirepass", "right") as locked:
        await (await open_valkey(locked.settings(password="right"))).close()
        with pytest.raises(StoreUnavailable) as refused:
            await open_valkey(locked.settings(password="wrong-SECRET"))
        assert "SECRET" not in str(refused.value)
        with pytest.raises(StoreUnavailable):
            await open_valkey(locked.settings())
    assert "SECRET" not in repr(locked.settings(password="wrong-SECRET"))


async def test_what_belongs_to_the_composition_closes_both(server: ValkeyServer, tmp_path: Path) -> None:
    base = await open_store(tmp_path / "securus.db")
    store = with_replay(base, await open_valkey(server.settings()))
    await store.close()
    with pytest.raises(StoreUnavailable):
        await base.check()


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("valkey://127.0.0.1:6379/0", None),
        ("redis://localhost", None),
        ("valkeys://cache.hospital.example:6380/1", None),
        ("valkey://cache.hospital.example", "on a network"),
        ("valkeys://user:pw@cache.hospital.example", "keys of their own"),
        ("http://127.0.0.1", "it is not valkeys://"),
        ("valkey://127.0.0.1/zero", "number of a database"),
        ("valkey://127.0.0.1:99999", "it is not a URL"),
    ],
)
def test_an_address_says_how_it_is_protected(url: str, fault: str | None) -> None:
    said = url_fault(url)
    assert said == fault if fault is None else said is not None and fault in said
