"""How many ways to the server a request's work on PostgreSQL takes: a network makes each of them long.

Counted are the statements that are sent and waited for, BEGIN and COMMIT too.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from authz.storage import audit_finding
from authz.storage.audit_index import AuditQuery
from authz.storage.effects import RateLimit
from authz.storage.postgresql.store import PostgresqlStore
from authz.storage.store import StoreUnavailable
from tests.support.audit_index_contract import BASE, START, entry
from tests.support.postgresql import PrivateServer
from tests.support.postgresql_database import database, shared, store
from tests.support.store_contract import CODE, GRANT, INTERACTION, NOW, PUSHED, REFRESH, complete

__all__ = ["database", "shared", "store"]  # fixtures
pytestmark = [pytest.mark.process, pytest.mark.xdist_group("postgresql")]


class Ways:
    """What was sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    found = Ways()
    for name in ("fetch", "execute", "executemany"):
        plain = getattr(asyncpg.Connection, name)

        def noting(self: Any, sql: str, *values: Any, _plain: Any = plain, **more: Any) -> Any:
            found.sent.append(sql)
            return _plain(self, sql, *values, **more)

        monkeypatch.setattr(asyncpg.Connection, name, noting)
    return found


@contextmanager
def taking(ways: Ways, at_most: int) -> Iterator[None]:
    """What is done within takes so many, and no fewer."""
    ways.sent.clear()
    yield
    assert len(ways.sent) == at_most, ways.sent


async def filled(store: PostgresqlStore, entries: int = 3000) -> None:
    for start in range(1, entries, 500):
        some = [
            entry(n, patient=f"p{n % 100}", user=f"u{n % 50}", grant=f"g{n % 60}")
            for n in range(start, start + 500)
        ]
        await store.index_audit(some, chain="", read_to=some[-1].sequence)


async def test_a_search_of_the_log_by_name_takes_two_and_one_by_time_takes_one(
    store: PostgresqlStore, ways: Ways
) -> None:
    await filled(store)
    with taking(ways, 2):
        assert len(await store.find_audit(AuditQuery(base=BASE, patients=["p7"], limit=20))) == 20
    with taking(ways, 2):
        assert len(await store.find_audit(AuditQuery(user="u7", limit=50))) == 50
    with taking(ways, 1):
        assert not await store.find_audit(AuditQuery(base=BASE, patients=["nobody"], limit=20))
    with taking(ways, 1):
        assert len(await store.find_audit(AuditQuery(limit=50))) == 50
    with taking(ways, 1):
        assert len(await store.audit_entries(chain="", after=1000, limit=200)) == 200
    with taking(ways, 4):
        assert len(await store.last_use(["g1", "g2", "g3", "never"])) == 3
    with taking(ways, 2):
        until = START + 3_000_000
        assert await store.patients_per_window("u7", since=START, until=until, window=1_000_000)


async def test_a_walk_through_the_log_is_one_moment(store: PostgresqlStore, ways: Ways) -> None:
    """What was not found by the first few sheets is looked for in a transaction, from the beginning."""
    await filled(store)
    wanted = AuditQuery(outcome="deny", limit=5)
    ways.sent.clear()
    assert not await store.find_audit(wanted)
    first, begin, *_, commit = ways.sent
    assert first.startswith("SELECT latest")
    assert begin.startswith("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert ways.sent[2] == first
    assert commit == "COMMIT"
    assert len(ways.sent) <= 7
    everything = await store._read(audit_finding.by_time(AuditQuery(limit=3000)))
    assert [each.sequence for each in everything] == list(range(3000, 0, -1))


async def test_what_a_token_request_stores_takes_one_and_so_does_a_whole_authorization(
    store: PostgresqlStore, ways: Ways
) -> None:
    await store.put_pushed_request(PUSHED)
    await store.put_interaction(INTERACTION)
    with taking(ways, 1):
        assert await complete(store)
    with taking(ways, 1):
        assert not await complete(store)
    with taking(ways, 1):
        await store.put_grant(GRANT, expires_at=NOW + 60, refresh_token=REFRESH)
    with taking(ways, 1):
        by = replace(REFRESH, id="second", expires_at=REFRESH.expires_at + 5)
        assert await store.replace_refresh_token(REFRESH.id, by=by, now=NOW, grace_seconds=10)
    with taking(ways, 1):
        await store.put_refresh_token(replace(REFRESH, id="third"))
    with taking(ways, 1):
        late = await store.replace_refresh_token(REFRESH.id, by=by, now=NOW + 11, grace_seconds=10)
        assert not late
    await store.put_pushed_request(replace(PUSHED, id="other"))
    with taking(ways, 1):
        assert await store.refuse_authorization(request_id="other", interaction_id="", now=NOW)
    with taking(ways, 1):
        assert await store.spend([RateLimit(b"key", 2, 60)], now=NOW) == 0
    with taking(ways, 4):
        assert await store.spend([RateLimit(b"key", 2, 60), RateLimit(b"other", 2, 60)], now=NOW) == 0


async def test_what_is_one_statement_is_written_whole_or_not_at_all(store: PostgresqlStore) -> None:
    """A grant and its token, a code and its grant: where one part fails, nothing of the other is there."""
    await store.put_grant(GRANT, expires_at=NOW + 60, refresh_token=REFRESH)
    other = replace(GRANT, grant_id="other")
    with pytest.raises(StoreUnavailable):  # the id of the token is taken
        await store.put_grant(other, expires_at=NOW + 60, refresh_token=replace(REFRESH, grant_id="other"))
    assert await store.grant("other", now=NOW) is None
    with pytest.raises(StoreUnavailable):
        await store.put_grant(
            other, expires_at=NOW + 60, refresh_token=replace(REFRESH, id="\0", grant_id="other")
        )
    assert await store.grant("other", now=NOW) is None
    homeless = replace(REFRESH, id="x", grant_id="none")  # there is no such grant
    assert not await store.replace_refresh_token(REFRESH.id, by=homeless, now=NOW, grace_seconds=10)
    taken = replace(REFRESH, id="second")
    await store.put_refresh_token(taken)
    with pytest.raises(StoreUnavailable):
        await store.replace_refresh_token(REFRESH.id, by=taken, now=NOW, grace_seconds=10)
    kept = await store.refresh_token(REFRESH.id, now=NOW)
    assert kept is not None
    assert kept.replaced_at is None
    await store.put_pushed_request(PUSHED)
    with pytest.raises(StoreUnavailable):
        await store.complete_authorization(
            request_id=PUSHED.id, interaction_id="", grant=other, code=replace(CODE, grant_id="none"), now=NOW
        )
    assert await store.pushed_request(PUSHED.id, now=NOW) == PUSHED
    assert await store.grant("other", now=NOW) is None


async def test_of_two_nodes_that_replace_a_token_and_end_its_grant_each_is_answered(
    postgresql: PrivateServer, store: PostgresqlStore
) -> None:
    for number in range(30):
        grant = replace(GRANT, grant_id=f"g{number}")
        token = replace(REFRESH, id=f"t{number}", grant_id=grant.grant_id)
        await store.put_grant(grant, expires_at=NOW + 60, refresh_token=token)
        replaced = [
            store.replace_refresh_token(token.id, by=replace(token, id=f"t{number}-{n}"), now=NOW, grace_seconds=10)
            for n in range(3)
        ]  # fmt: skip
        ended = store.revoke_grant(grant.grant_id, now=NOW, keep_until=NOW + 600)
        *_, was_live = await asyncio.gather(*replaced, ended, return_exceptions=True)
        assert was_live is True
        assert await store.grant(grant.grant_id, now=NOW) is None
        assert await store.refresh_token(token.id, now=NOW) is None
