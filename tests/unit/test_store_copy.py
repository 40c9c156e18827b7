"""securus db copy: it loses nothing, lets nothing come back, and leaves one store in force."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from authz.storage import copying
from authz.storage.audit_index import AuditQuery
from authz.storage.claims import Namespace
from authz.storage.grants import Redemption
from authz.storage.postgresql.pool import PostgresqlPool
from authz.storage.postgresql.schema import migrate
from authz.storage.schema import migrations
from authz.storage.settings import StoreSettings
from authz.storage.status import status
from authz.storage.store import Store, StoreUnavailable
from authz.storage.tables import TABLES
from gateway.cli import main
from tests.support.filled_store import LINES, NODE_LINES, at, source, target
from tests.support.postgresql import PrivateServer
from tests.support.store_contract import (
    AUDIT_KEY,
    CHANGE,
    CODE,
    HOLD,
    KEY,
    NOW,
    PUSHED,
    REGISTRATION,
    STUB,
    TREE_HEAD,
    audit_lines,
)

__all__ = ["source", "target"]  # fixtures
pytestmark = [pytest.mark.process, pytest.mark.xdist_group("postgresql")]


def copy(source: Path, tmp_path: Path, *more: str) -> int:
    return main(
        [
            "db",
            "copy",
            "--from",
            f"sqlite:{source}",
            "--to",
            f"postgresql:{tmp_path / 'dsn'}",
            "--json",
            *more,
        ]
    )


def answer(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_copy_that_is_not_finished_is_no_store_and_takes_over_what_changed_until_it_is(
    source: Path, target: StoreSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert copy(source, tmp_path) == 0
    found = answer(capsys)
    assert not found["finished"]
    assert {each["table"] for each in found["tables"]} == {table.name for table in TABLES}
    assert all(each["rows"] > 0 for each in found["tables"])
    with pytest.raises(StoreUnavailable, match="unfinished copy: run 'securus db copy' with --finish"):
        at(target, lambda store: store.check())

    async def go_on(store: Store) -> None:
        await store.append_audit(LINES[11_000:])
        await store.revoke_grant("grant", now=NOW, keep_until=NOW + 300)
        await store.delete_session("session")
        await store.claim(Namespace.DPOP_PROOF, b"late", until=NOW + 60, now=NOW)

    at(StoreSettings(path=str(source)), go_on)
    assert copy(source, tmp_path, "--finish") == 0
    found = answer(capsys)
    assert found["finished"]
    assert {each["table"]: each["rows"] for each in found["tables"]}[
        "audit"
    ] == 12_015  # of two chains, without what a stub stands for
    at(target, _as_left)


async def _as_left(store: Store) -> None:
    again = await store.redeem_code("code", now=NOW)
    assert again is not None
    assert (again.code, again.redemption) == (CODE, Redemption.AGAIN)
    assert await store.grant("grant", now=NOW) is None
    assert await store.refresh_token("next", now=NOW) is None
    assert await store.session("session", now=NOW) is None
    assert await store.pushed_request("second", now=NOW) == replace(PUSHED, id="second")
    for key in (b"\x00proof", b"late"):
        assert not await store.claim(Namespace.DPOP_PROOF, key, until=NOW + 60, now=NOW)
    assert await store.count("anna\x00ü", window_seconds=60, now=NOW) == 2
    assert list(await store.keys()) == [KEY]
    assert await store.secret("nonce", b"other") == b"\x00\xff"
    newest, revoked = await store.revocations_since(0)
    assert list(revoked) == ["token", "grant"]
    await store.revoke_token("new", now=NOW, keep_until=NOW + 300)
    assert (await store.revocations_since(newest))[1] == ["new"]
    sequence, _ = await store.registrations_since(0)
    record = replace(REGISTRATION, client_id="new")
    assert await store.put_registration(record, replace(CHANGE, client_id="new"), spending=None, now=NOW)
    assert [each.client_id for each in (await store.registrations_since(sequence))[1]] == ["new"]
    assert list(await store.audit(after=0, limit=20_000)) == LINES
    assert await store.audit_head() == (12_000, LINES[-1].digest)
    assert list(await store.audit(chain="node-a", after=0, limit=99)) == [*NODE_LINES[:2], *NODE_LINES[7:]]
    assert await store.audit_head("node-a") == (20, NODE_LINES[-1].digest)
    assert list(await store.stubs("node-a")) == [STUB]
    assert await store.newest_tree_head() == TREE_HEAD
    assert (list(await store.audit_keys()), list(await store.holds())) == ([AUDIT_KEY], [HOLD])
    await store.append_audit(audit_lines(12_001, 12_001, LINES[-1].digest))


def test_a_source_that_was_copied_for_good_is_sealed(
    source: Path, target: StoreSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also for a gateway that has it open: it answers 503 instead of working on beside the new store."""

    async def beside(store: Store) -> None:
        await store.check()
        assert await asyncio.to_thread(copy, source, tmp_path, "--finish") == 0
        for attempt in (
            store.check(),
            store.claim(Namespace.DPOP_PROOF, b"k", until=NOW + 60, now=NOW),
            store.revoke_token("t", now=NOW, keep_until=NOW + 60),
            store.append_audit(LINES[11_000:]),
        ):
            with pytest.raises(StoreUnavailable, match="was moved to PostgreSQL"):
                await attempt

    before = asyncio.run(status(StoreSettings(path=str(source))))
    at(StoreSettings(path=str(source)), beside)
    assert asyncio.run(status(StoreSettings(path=str(source)))) == replace(
        before, problem="this store was moved to PostgreSQL"
    )
    assert copy(source, tmp_path, "--finish") == 1
    assert "is not empty" in capsys.readouterr().out


def test_a_copy_goes_into_an_empty_database_or_into_its_own_beginning(
    source: Path, target: StoreSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at(target, lambda store: store.secret("nonce", b"another"))
    assert copy(source, tmp_path) == 1
    assert "the target is not empty: the table secret has rows" in answer(capsys)["error"]
    at(target, lambda store: store.secret("nonce", b"another"))  # it is what it was


def test_the_beginning_of_another_copy_is_not_gone_on_with(
    source: Path, target: StoreSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.db"
    lines = audit_lines(1, 3, b"elsewhere")
    at(StoreSettings(path=str(other)), lambda store: store.append_audit(lines))
    assert copy(other, tmp_path) == 0
    answer(capsys)
    assert copy(source, tmp_path, "--finish") == 1
    assert "the target is a copy of another store: audit 3 differs" in answer(capsys)["error"]
    at(StoreSettings(path=str(source)), lambda store: store.check())  # nothing was sealed


def test_a_finish_that_fails_leaves_the_source_in_force(
    source: Path,
    target: StoreSettings,
    tmp_path: Path,
    postgresql: PrivateServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert target.postgresql is not None
    database = target.postgresql.dsn.rpartition("/")[2].partition("?")[0]

    async def swallow() -> None:
        pool = await PostgresqlPool.open(target.postgresql or postgresql.settings("x"))
        await migrate(pool, migrations("postgresql"))
        await pool.close()
        await postgresql.run(
            "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'", database
        )
        await postgresql.run(
            "CREATE TRIGGER swallow BEFORE INSERT ON claim FOR EACH ROW EXECUTE FUNCTION swallow()", database
        )

    asyncio.run(swallow())
    assert copy(source, tmp_path, "--finish") == 1
    assert "the table claim differs: 1 rows were copied, 0 are there" in answer(capsys)["error"]
    at(StoreSettings(path=str(source)), lambda store: store.check())
    with pytest.raises(StoreUnavailable, match="unfinished copy"):
        at(target, lambda store: store.check())


def test_a_finish_that_is_lost_in_its_last_commit_leaves_neither_store_in_force_and_is_run_again(
    source: Path,
    target: StoreSettings,
    tmp_path: Path,
    postgresql: PrivateServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert copy(source, tmp_path) == 0
    assert target.postgresql is not None
    database = target.postgresql.dsn.rpartition("/")[2].partition("?")[0]
    for statement in (
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'lost' ; END $$",
        "CREATE CONSTRAINT TRIGGER lose AFTER UPDATE ON numbering DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION lose()",
    ):
        asyncio.run(_owner(target.postgresql.dsn, statement))
    capsys.readouterr()
    assert copy(source, tmp_path, "--finish") == 1
    assert "the copy was not made: lost" in answer(capsys)["error"]
    with pytest.raises(StoreUnavailable, match="was moved to PostgreSQL"):
        at(StoreSettings(path=str(source)), lambda store: store.check())
    with pytest.raises(StoreUnavailable, match="unfinished copy"):
        at(target, lambda store: store.check())
    asyncio.run(postgresql.run("DROP TRIGGER lose ON numbering", database))
    assert copy(source, tmp_path, "--finish") == 0
    at(target, lambda store: store.check())


def test_a_server_that_gives_no_answer_is_said(
    source: Path,
    target: StoreSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def silent(*_: object) -> int:
        raise TimeoutError

    monkeypatch.setattr(copying, "migrate", silent)
    assert copy(source, tmp_path) == 1
    assert answer(capsys)["error"] == "the copy was not made: no answer in time"


async def _owner(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement)
    await connection.close()


@pytest.mark.parametrize(
    ("source_", "target_"),
    [
        ("postgresql:dsn", "postgresql:dsn"),
        ("sqlite:", "postgresql:dsn"),
        ("securus.db", "postgresql:dsn"),
        ("sqlite:securus.db", "sqlite:other.db"),
        ("sqlite:securus.db", "postgresql://owner:secret@localhost/securus"),
    ],
)
def test_an_address_on_the_command_line_and_other_directions_are_wrong_usage(
    source_: str, target_: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        main(["db", "copy", "--from", source_, "--to", target_])
    assert error.value.code == 2
    assert "expected" in capsys.readouterr().err


def test_what_is_not_there_is_said_without_making_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dsn").write_text("postgresql://owner:SECRET@db.example/securus")
    assert copy(tmp_path / "none.db", tmp_path) == 1
    said = answer(capsys)["error"]
    assert "needs an explicit sslmode" in said
    assert "SECRET" not in said
    (tmp_path / "dsn").write_text("postgresql://owner@127.0.0.1:1/securus")
    assert copy(tmp_path / "none.db", tmp_path) == 1
    assert "there is no store at" in answer(capsys)["error"]
    assert not (tmp_path / "none.db").exists()


def test_the_index_of_the_copy_goes_on_where_that_of_the_source_was(
    source: Path, target: StoreSettings, tmp_path: Path
) -> None:
    assert copy(source, tmp_path, "--finish") == 0

    async def said(store: Store) -> tuple[int, int, list[int]]:
        found = await store.find_audit(AuditQuery(user="anna"))
        return (
            await store.indexed_to(""),
            await store.signalled_to(""),
            [each.sequence for each in found],
        )

    assert at(target, said) == (11_000, 11_000, [7])
