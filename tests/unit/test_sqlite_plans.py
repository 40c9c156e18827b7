"""Why a request costs the same with a million rows: every statement that one can cause finds its rows by an index.

The statements are those that the store sends, one use of each of its methods, as SQLite itself plans them.
"""

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from authz.storage.claims import Namespace
from authz.storage.effects import RateLimit
from authz.storage.sqlite.connection import SqliteConnection
from authz.storage.sqlite.store import SqliteStore
from tests.support.filled_store import fill
from tests.support.store_contract import (
    CHANGE,
    CODE,
    EMERGENCY,
    GRANT,
    INTERACTION,
    NOTIFICATION,
    NOW,
    PUSHED,
    REGISTRATION,
    complete,
)

_OF_ROWS = re.compile(r"^\s*(SELECT|INSERT|UPDATE|DELETE)\b", re.I)
_SCAN = re.compile(r"^SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?$")
SMALL = frozenset({"audit_head", "pulse", "migration", "secret", "signing_key"})
"""Tables of one row, or of as many as there are keys."""
AT_WORK = frozenset({"audit_page_unbound", "audit_volume_begun"})
"""Indexes that have the few rows which are not in their last form yet."""
_FIRST_OF_ITS_KEY = "ORDER BY sequence DESC LIMIT 1"  # a walk that ends with the first row


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[tuple[SqliteStore, list[str], sqlite3.Connection]]:
    """A store, the statements that it sent so far, and its connection to plan them."""
    connection = SqliteConnection.open(tmp_path / "securus.db", {})
    sent: list[str] = []
    raw = connection._connection
    raw.set_trace_callback(sent.append)
    yield SqliteStore(connection), sent, raw
    raw.set_trace_callback(None)
    connection.close()


def scans(raw: sqlite3.Connection, sent: list[str]) -> list[str]:
    """The statements that would walk through a table that grows."""
    raw.set_trace_callback(None)
    found = []
    for sql in {each for each in sent if _OF_ROWS.match(each)}:
        for *_, step in raw.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall():
            scan = _SCAN.match(step)
            if scan is None or scan[1] in SMALL or scan[2] in AT_WORK or sql.endswith(_FIRST_OF_ITS_KEY):
                continue
            found.append(f"{step}: {sql[:300]}")
    return found


async def test_no_statement_of_a_request_walks_through_a_table(
    seen: tuple[SqliteStore, list[str], sqlite3.Connection],
) -> None:
    store, sent, raw = seen
    await fill(store)
    await store.put_pushed_request(replace(PUSHED, id="third"))
    await store.pushed_request("third", now=NOW)
    await store.keep_pushed_request("third", until=NOW + 90, now=NOW)
    await store.keep_pushed_request("third", until=NOW + 90, now=NOW, interaction=INTERACTION)
    await store.refuse_authorization(request_id="third", interaction_id="", now=NOW)
    await store.interaction("interaction", now=NOW)
    await store.delete_interaction("interaction")
    await store.session("session", now=NOW)
    await store.visit(session_id="session", interaction_id="interaction", now=NOW)
    await store.delete_session("session")
    await store.take_launch("launch", client_id="portal", now=NOW)
    await store.grant("grant", now=NOW)
    await store.live_grants(["grant", "other"], now=NOW)
    await store.put_grant(replace(GRANT, grant_id="other"), expires_at=NOW + 300)
    await store.grants(subject="person", client_id=None, now=NOW)
    await store.grants(subject=None, client_id="portal", now=NOW)
    await store.grants(subject="person", client_id="portal", now=NOW)
    await store.refresh_token("next", now=NOW)
    await store.redeem_code(CODE.id, now=NOW)
    await store.revoke_grant("other", now=NOW, keep_until=NOW + 300)
    await store.end_grants("portal", now=NOW, keep_until=NOW + 300)
    await store.revocations_since(1)
    await store.release(Namespace.DPOP_PROOF, b"\x00proof")
    await store.spend([RateLimit(b"rate", 3, 60), RateLimit(b"wide", 300, 60)], now=NOW)
    await store.registration("app", now=NOW)
    await store.registrations_since(1, at_most=100)
    await store.registration_history("app")
    following = replace(REGISTRATION, version=2)
    await store.change_registration(following, replace(CHANGE, version=2), from_version=1)
    await store.initial_access_token("initial", now=NOW)
    await store.delete_initial_access_token("initial")
    await store.emergencies_of(
        issuer=EMERGENCY.issuer, client_id=EMERGENCY.client_id, subject=EMERGENCY.subject, now=NOW
    )
    await store.ended_emergencies(now=NOW, at_most=10)
    await store.end_emergency(EMERGENCY.id, now=NOW)
    await store.note_emergency_end(EMERGENCY.id)
    await store.review_emergency(EMERGENCY.id, by="officer", review="seen", now=NOW)
    await store.claim_notifications(now=NOW, until=NOW + 60, at_most=10)
    await store.postpone_notification(NOTIFICATION.id, due_at=NOW + 60)
    await store.delete_notification(NOTIFICATION.id)
    await store.last_audit()
    await store.audit_head()
    await store.audit(after=10, limit=10)
    await store.keys()
    await store.check()
    assert len({sql.split("(")[0] for sql in sent}) > 40  # the statements were seen
    assert scans(raw, sent) == []


async def test_cleaning_finds_what_has_expired_in_every_table_by_an_index(
    seen: tuple[SqliteStore, list[str], sqlite3.Connection],
) -> None:
    store, sent, raw = seen
    await complete(store)
    sent.clear()
    await store.remove_expired(now=NOW, at_most=1_000)
    assert sum(sql.startswith("DELETE FROM") for sql in sent) >= 10
    # Claims of replays are read from the oldest on as far as they have expired, and go: no index, and no walk.
    assert [
        each for each in scans(raw, sent) if not each.startswith("SCAN replay_claim: SELECT sequence")
    ] == []


async def test_a_walk_through_a_table_would_be_seen(
    seen: tuple[SqliteStore, list[str], sqlite3.Connection],
) -> None:
    _, sent, raw = seen
    raw.execute("SELECT record FROM grant_record WHERE record = 'x'")
    assert len(scans(raw, sent)) == 1
