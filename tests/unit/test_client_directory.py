"""The clients as a node keeps them: a hundred thousand are read in pages, and no request walks through them."""

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from authz import client_directory
from authz.client_directory import ClientDirectory
from authz.protocol.clients import AuthenticationMethod, Client
from authz.storage.records import encode
from authz.storage.registrations import Registration, RegistrationStatus
from authz.storage.sqlite.connection import SqliteConnection
from authz.storage.sqlite.store import SqliteStore, open_store
from tests.support.authorization_server import SETTINGS
from tests.support.store_contract import CHANGE, NOW

HOUR = 3600
PAGE = 500


class Counting(SqliteStore):
    """A store that keeps how many registrations each question brought."""

    pages: list[int]

    async def registrations_since(
        self, sequence: int, *, at_most: int | None = None
    ) -> tuple[int, Sequence[Registration]]:
        newest, found = await super().registrations_since(sequence, at_most=at_most)
        self.pages.append(len(found))
        return newest, found


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Counting]:
    path = tmp_path / "securus.db"
    await (await open_store(path)).close()
    opened = Counting(SqliteConnection.open(path, {}))
    opened.pages = []
    yield opened
    await opened.close()


def approved(number: int, **more: object) -> Registration:
    """A client that may act; its page is its own."""
    metadata = {
        "client_name": "App",
        "redirect_uris": [f"https://app{number}.example/callback"],
        "grant_types": ["authorization_code"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks_uri": f"https://app{number}.example/jwks",
        "dpop_bound_access_tokens": True,
        "scope": "patient/*.rs",
        **more,
    }
    return Registration(f"app{number}", RegistrationStatus.APPROVED, 1, metadata, NOW, NOW)


def fill(path: Path, registrations: Sequence[Registration]) -> None:
    """Put them into the store as they are."""
    with sqlite3.connect(path / "securus.db") as database:
        database.executemany(
            "INSERT INTO registration VALUES (?, 1, ?, ?, NULL)",
            [(each.client_id, number, encode(each)) for number, each in enumerate(registrations, 1)],
        )
        # The next change is numbered after them.
        database.execute(
            "INSERT INTO sqlite_sequence VALUES ('registration_change', ?)", (len(registrations),)
        )
    database.close()


def directory(store: SqliteStore, configured: dict[str, Client] | None = None) -> ClientDirectory:
    return ClientDirectory(store, configured or {}, SETTINGS)


async def test_many_clients_are_read_in_pages_and_each_is_found(tmp_path: Path, store: Counting) -> None:
    fill(tmp_path, [approved(number) for number in range(2 * PAGE + 1)])
    clients = directory(store)
    await clients.refresh(now=NOW)
    assert store.pages == [PAGE, PAGE, 1]
    for number in (0, PAGE, 2 * PAGE):
        assert clients[f"app{number}"].redirect_uris == (f"https://app{number}.example/callback",)
    assert clients.get("app-nobody-knows") is None


async def test_once_an_hour_the_whole_is_read_beside_what_is_new_a_page_each_time(
    tmp_path: Path, store: Counting
) -> None:
    fill(tmp_path, [approved(number) for number in range(2 * PAGE + 1)])
    clients = directory(store)
    await clients.refresh(now=NOW)
    kept = clients["app1"]
    store.pages.clear()
    with sqlite3.connect(tmp_path / "securus.db") as database:
        database.execute("DELETE FROM registration WHERE client_id = 'app0'")
    database.close()
    for turn in range(3):
        assert "app0" in clients  # until the whole is read
        stopped = replace(approved(7), version=2, status=RegistrationStatus.SUSPENDED)
        if turn == 1:  # its old row was read already
            await store.change_registration(stopped, replace(CHANGE, client_id="app7"), from_version=1)
        await clients.refresh(now=NOW + HOUR + turn)
        assert ("app7" in clients) == (turn == 0)
        assert clients.is_suspended("app7") == (turn > 0)
    assert max(sum(pair) for pair in zip(store.pages[::2], store.pages[1::2], strict=True)) <= PAGE + 1
    assert "app0" not in clients
    assert clients["app1"] is kept  # nothing was judged again
    await clients.refresh(now=NOW + HOUR + 3)
    assert store.pages[-1] == 0


async def test_what_was_judged_is_kept_for_so_many_and_judged_again_for_the_others(
    tmp_path: Path, store: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_directory, "_MOST_JUDGED", 2)
    fill(tmp_path, [approved(number) for number in range(3)])
    clients = directory(store)
    await clients.refresh(now=NOW)
    first, last = clients["app0"], [clients[f"app{number}"] for number in (1, 2)][1]
    assert clients["app2"] is last
    assert clients["app0"] == first
    assert clients["app0"] is not first
    assert len(clients._judged) == 2


async def test_a_change_of_a_client_is_in_force_after_the_next_refresh(
    tmp_path: Path, store: Counting
) -> None:
    fill(tmp_path, [approved(0)])
    clients = directory(store)
    await clients.refresh(now=NOW)
    assert clients["app0"].name == "App"
    renamed = replace(approved(0, client_name="Other"), version=2)
    assert await store.change_registration(renamed, replace(CHANGE, client_id="app0"), from_version=1)
    await clients.refresh(now=NOW)
    assert clients["app0"].name == "Other"


async def test_one_that_is_not_acceptable_any_more_is_not_in_force_and_judged_once(
    tmp_path: Path, store: Counting, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, [approved(0, token_endpoint_auth_method="none"), approved(1)])
    clients = directory(store)
    await clients.refresh(now=NOW)
    assert "app0" not in clients
    assert clients.get("app0") is None
    assert list(clients) == ["app1"]
    assert [client.client_id for client in await clients.everyone()] == ["app1"]
    assert [record.getMessage() for record in caplog.records].count(
        "an approved client is not in force: its registration is not acceptable any more"
    ) == 1


class NoWalk(dict[str, Client]):
    """Clients of which one is looked up, and through which nobody walks."""

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("somebody walks through the clients")

    values = items = keys = __iter__  # type: ignore[assignment]


async def test_no_question_of_a_request_walks_through_the_clients(tmp_path: Path, store: Counting) -> None:
    fill(tmp_path, [approved(number) for number in range(3)])
    clients = directory(store)
    await clients.refresh(now=NOW)
    assert not clients.has_page("https://app9.example")  # the configured ones are walked through once
    clients._configured = NoWalk()
    clients._registered.records = NoWalk(clients._registered.records)  # type: ignore[arg-type, assignment]
    assert clients.has_page("https://app2.example")
    assert not clients.has_page("https://app9.example")
    assert clients["app2"].client_id == "app2"
    assert "app9" not in clients
    assert not clients.is_suspended("app1")
    await clients.refresh(now=NOW)


async def test_only_a_change_that_concerns_certificates_is_a_reason_to_look_at_them(
    tmp_path: Path, store: Counting
) -> None:
    fill(tmp_path, [approved(0), approved(1, token_endpoint_auth_method="self_signed_tls_client_auth")])
    clients = directory(store)
    await clients.refresh(now=NOW)
    before = clients.generation
    for name, grows in (("app0", 0), ("app1", 1)):
        number = int(name[-1])
        stopped = replace(approved(number), version=2, status=RegistrationStatus.SUSPENDED)
        assert await store.change_registration(stopped, replace(CHANGE, client_id=name), from_version=1)
        await clients.refresh(now=NOW)
        assert clients.generation == before + grows


async def test_a_page_is_one_of_an_app_until_the_last_app_with_it_is_stopped(
    tmp_path: Path, store: Counting
) -> None:
    shared = ["https://shared.example/callback"]
    fill(tmp_path, [approved(number, redirect_uris=shared) for number in range(2)])
    clients = directory(store)
    await clients.refresh(now=NOW)
    for number in range(2):
        assert clients.has_page("https://shared.example")
        stopped = replace(approved(number), version=2, status=RegistrationStatus.SUSPENDED)
        await store.change_registration(stopped, replace(CHANGE, client_id=f"app{number}"), from_version=1)
        await clients.refresh(now=NOW)
    assert not clients.has_page("https://shared.example")


async def test_of_the_configured_those_with_their_own_certificate_are_told_and_a_stopped_one_is_not(
    store: Counting,
) -> None:
    def client(name: str, method: AuthenticationMethod) -> Client:
        return Client(
            client_id=name, name=name, authentication_method=method, scope=(), grant_types=frozenset()
        )

    own = client("own", AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH)
    other = client("other", AuthenticationMethod.PRIVATE_KEY_JWT)
    clients = directory(store, {"own": own, "other": other})
    await clients.refresh(now=NOW)
    assert clients.with_own_certificates() == [own]
    stopped = Registration("own", RegistrationStatus.SUSPENDED, 1, {}, NOW, NOW, configured=True)
    await store.put_registration(stopped, replace(CHANGE, client_id="own"), spending=None, now=NOW)
    before = clients.generation
    await clients.refresh(now=NOW)
    assert clients.generation > before
    assert clients.with_own_certificates() == []
