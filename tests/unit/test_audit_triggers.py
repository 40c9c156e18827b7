"""The store's own right over the audit tables, in SQLite: all but adding is aborted, save what a stub stands for."""

import sqlite3
from pathlib import Path

import pytest

from authz.storage.schema import migrate, migrations
from authz.storage.sqlite.store import open_store
from gateway.audit.lines import genesis, linked
from gateway.audit.log import AuditLog
from gateway.audit.verification import verify
from tests.support.store_contract import AUDIT_KEY, HOLD, STUB, TREE_HEAD, audit_lines


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit SET line = x''",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE chain = 'node-a' AND sequence = 8",
        "REPLACE INTO audit VALUES ('', 1, x'', x'', x'')",
        "UPDATE audit_head SET sequence = 2",
        "UPDATE audit_head SET digest = x''",
        "DELETE FROM audit_head",
        "UPDATE audit_chain SET sequence = 2",
        "UPDATE audit_chain SET chain = 'node-b'",
        "DELETE FROM audit_chain",
        "UPDATE audit_tree_head SET head = x''",
        "DELETE FROM audit_tree_head",
        "REPLACE INTO audit_tree_head VALUES (1, x'', x'')",
        "UPDATE audit_stub SET last = 9",
        "DELETE FROM audit_stub",
        "REPLACE INTO audit_stub VALUES ('node-a', 3, 9, x'')",
        "DELETE FROM audit_key",
        "DELETE FROM audit_hold",
    ],
)
async def test_what_is_written_is_neither_changed_nor_removed(tmp_path: Path, sql: str) -> None:
    store = await open_store(tmp_path / "audit.db")
    await store.append_audit(audit_lines(1, 9))
    await store.append_audit(audit_lines(1, 9, chain="node-a"))
    assert await store.add_tree_head(TREE_HEAD)
    assert await store.add_stub(STUB)
    assert await store.add_audit_key(AUDIT_KEY)
    await store.put_hold(HOLD)
    await store.close()
    with sqlite3.connect(tmp_path / "audit.db") as outside:
        before = list(outside.iterdump())
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            outside.execute(sql)
        assert list(outside.iterdump()) == before
    outside.close()


async def test_a_log_of_the_version_before_is_the_chain_without_a_name(tmp_path: Path) -> None:
    """Migrated forward it is as long as it was, verified as it was, and goes on."""
    path = tmp_path / "audit.db"
    old = sqlite3.connect(path, isolation_level=None)
    known = migrations("sqlite")
    before = next(each.number for each in known if "audit_chains" in each.name) - 1
    migrate(old, known[:before])
    lines = linked([(b"2026", b"")] * 40, 0, genesis(""), "")
    for line in lines:
        old.execute(
            "INSERT INTO audit VALUES (?, ?, ?, ?)", (line.sequence, line.previous, line.digest, line.line)
        )
    old.execute("INSERT INTO audit_head VALUES (1, 40, ?)", (lines[-1].digest,))
    old.close()
    store = await open_store(path)
    assert list(await store.audit(after=0, limit=99)) == lines
    log = await AuditLog.open(store, lambda: 0.0)
    await log.record({"event": "access"})
    found = await verify(store)
    assert (found.whole, found.records) == (True, 41)
    await store.close()
