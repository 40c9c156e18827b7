"""What holds for every kind of store when two have it open: one winner of each race, and tables that stay flat."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from authz.storage.claims import Namespace
from authz.storage.effects import RateLimit
from authz.storage.grants import RedeemedCode, Redemption
from authz.storage.interactions import Launch
from authz.storage.opening import open_storage
from authz.storage.settings import StoreSettings
from authz.storage.status import status
from authz.storage.store import AuditConflict, Store
from tests.support.store_contract import (
    CHANGE,
    CODE,
    EMERGENCY,
    GRANT,
    INITIAL,
    INTERACTION,
    KEY,
    NOTIFICATION,
    NOW,
    PUSHED,
    REFRESH,
    REGISTRATION,
    SESSION,
    audit_lines,
)

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("postgresql")]
TRIES = 1_000
KEPT_FOR_GOOD = frozenset({"audit", "registration_change"})
AT_ONCE = 50


@pytest.fixture
async def two(storage: StoreSettings) -> AsyncIterator[tuple[Store, Store]]:
    """Two stores with connections of their own, as two nodes have them."""
    first, second = await open_storage(storage), await open_storage(storage)
    yield first, second
    await first.close()
    await second.close()


async def contested(
    two: tuple[Store, Store], attempt: Callable[[Store, int], Awaitable[object]], *, tries: int = TRIES
) -> list[int]:
    """For each try, how many of four attempts, two at either node and all at one moment, succeeded."""

    async def once(number: int) -> int:
        results = await asyncio.gather(*(attempt(store, number) for store in (*two, *two)))
        return sum(bool(result) for result in results)

    found: list[int] = []
    for start in range(0, tries, AT_ONCE):
        found += await asyncio.gather(*(once(number) for number in range(start, start + AT_ONCE)))
    return found


async def test_of_a_thousand_contested_claims_each_is_won_once(two: tuple[Store, Store]) -> None:
    async def claim(store: Store, number: int) -> bool:
        return await store.claim(Namespace.DPOP_PROOF, b"%d" % number, until=NOW + 60, now=NOW)

    assert await contested(two, claim) == [1] * TRIES
    assert await contested(two, claim) == [0] * TRIES


async def test_of_contested_claims_that_had_expired_each_is_won_once_again(two: tuple[Store, Store]) -> None:
    async def claim(store: Store, number: int, now: int) -> bool:
        return await store.claim(Namespace.CLIENT_ASSERTION, b"%d" % number, until=now + 60, now=now)

    for now in (NOW, NOW + 60):
        assert await contested(two, lambda s, n, now=now: claim(s, n, now), tries=200) == [1] * 200


async def test_contested_codes_requests_keys_and_emergencies_have_one_winner(
    two: tuple[Store, Store],
) -> None:
    first, _ = two
    tries = 100
    for number in range(tries):
        await first.put_pushed_request(replace(PUSHED, id=f"r{number}"))
        grant = replace(GRANT, grant_id=f"g{number}")
        await first.put_grant(grant, expires_at=NOW + 300)
        await first.put_refresh_token(replace(REFRESH, id=f"t{number}", grant_id=f"g{number}"))
    ids = iter(range(10_000))

    async def complete(store: Store, number: int) -> bool:
        name = f"c{number}-{next(ids)}"
        return await store.complete_authorization(
            request_id=f"r{number}",
            interaction_id="",
            grant=replace(GRANT, grant_id=name),
            code=replace(CODE, id=f"c{number}", grant_id=name),
            now=NOW,
        )

    async def redeem(store: Store, number: int) -> bool:
        found: RedeemedCode | None = await store.redeem_code(f"c{number}", now=NOW)
        return found is not None and found.redemption is Redemption.FIRST

    async def replace_token(store: Store, number: int) -> bool:
        by = replace(REFRESH, id=f"n{next(ids)}", grant_id=f"g{number}")
        return await store.replace_refresh_token(f"t{number}", by=by, now=NOW, grace_seconds=0)

    async def put_key(store: Store, number: int) -> bool:
        return await store.put_key(replace(KEY, kid=f"k{number}"))

    async def register(store: Store, number: int) -> bool:
        record = replace(REGISTRATION, client_id=f"app{number}")
        return await store.put_registration(record, CHANGE, spending=None, now=NOW)

    async def begin(store: Store, number: int) -> bool:
        record = replace(EMERGENCY, id=f"e{next(ids)}", patient=f"p{number}")
        return await store.begin_emergency(record, [replace(NOTIFICATION, id=f"m{next(ids)}")], now=NOW)

    async def revoke(store: Store, number: int) -> bool:
        return await store.revoke_grant(f"g{number}", now=NOW, keep_until=NOW + 300)

    for attempt in (complete, redeem, replace_token, put_key, register, begin, revoke):
        assert await contested(two, attempt, tries=tries) == [1] * tries, attempt.__name__
    assert await first.waiting_notifications() == tries
    _, changed = await first.registrations_since(0)
    assert len({each.sequence for each in changed}) == tries
    assert len((await first.revocations_since(0))[1]) == tries


async def test_what_is_counted_by_two_is_counted_in_full(two: tuple[Store, Store]) -> None:
    first, second = two
    await first.put_initial_access_token(replace(INITIAL, uses_left=30))
    limit, wide = RateLimit(b"rule", 40, 60), RateLimit(b"wide", 1000, 60)
    spent = await asyncio.gather(
        *(store.spend([limit, wide], now=NOW) for _ in range(50) for store in two),
    )
    assert sorted(spent) == [0] * 40 + [60] * 60
    counted = await asyncio.gather(
        *(store.count("a", window_seconds=60, now=NOW) for _ in range(50) for store in two)
    )
    assert sorted(counted) == list(range(1, 101))
    put = await asyncio.gather(
        *(
            store.put_registration(
                replace(REGISTRATION, client_id=f"{name}{number}"), CHANGE, spending="initial", now=NOW
            )
            for number in range(25)
            for name, store in (("a", first), ("b", second))
        )
    )
    assert sum(put) == 30


async def test_the_tables_stay_flat_in_a_week_of_load(
    storage: StoreSettings, two: tuple[Store, Store]
) -> None:
    """Every six hours the same happens; what one node does not remove, the other does."""
    totals = []
    for step in range(28):
        now = NOW + step * 6 * 3600
        for number in range(20):
            name = f"{step}-{number}"
            await two[0].claim(Namespace.DPOP_PROOF, name.encode(), until=now + 60, now=now)
            await two[0].count(name, window_seconds=60, now=now)
            await two[0].put_pushed_request(replace(PUSHED, id=name, expires_at=now + 60))
            await two[0].put_session(replace(SESSION, id=name, expires_at=now + 3600))
            grant = replace(GRANT, grant_id=name)
            code = replace(CODE, id=name, grant_id=name, expires_at=now + 60)
            assert await two[0].complete_authorization(
                request_id=name, interaction_id="", grant=grant, code=code, now=now
            )
            await two[0].redeem_code(name, now=now)
            token = replace(REFRESH, id=name, grant_id=name, expires_at=now + 86400)
            await two[0].put_refresh_token(token)
            await two[0].revoke_token(name, now=now, keep_until=now + 300)
            await two[0].spend([RateLimit(name.encode(), 3, 60)], now=now)
            await two[0].put_interaction(replace(INTERACTION, id=name, expires_at=now + 600))
            await two[0].put_launch(Launch(name, "portal", "https://fhir.example", "person", {}, now + 60))
            await two[0].put_initial_access_token(replace(INITIAL, id=name, expires_at=now + 300))
            waiting = replace(REGISTRATION, client_id=name, expires_at=now + 600)
            change = replace(CHANGE, client_id=name, at=now)
            assert await two[0].put_registration(waiting, change, spending=None, now=now)
            told = replace(NOTIFICATION, id=name, due_at=now, expires_at=now + 600)
            glass = replace(
                EMERGENCY, id=name, patient=name, started_at=now, ends_at=now + 3600, expires_at=now + 9000
            )
            assert await two[0].begin_emergency(glass, [told], now=now)
        for store in two:
            await store.expire_notifications(now=now, at_most=1000)
            for over in await store.ended_emergencies(now=now, at_most=100):
                await store.note_emergency_end(over.id)
            while await store.remove_expired(now=now, at_most=50) == 50:
                pass
        found = await status(storage)
        totals.append(dict(found.rows))
    for table, rows in totals[-1].items():
        if table in KEPT_FOR_GOOD:
            continue
        assert rows == totals[7][table], table
        assert rows == max(total[table] for total in totals), table
    assert totals[-1]["refresh_token"] > totals[0]["refresh_token"]  # what lives for a day is still there
    assert totals[-1]["registration_change"] == 28 * 20


async def test_two_that_append_to_the_audit_log_make_one_chain(two: tuple[Store, Store]) -> None:
    lines = audit_lines(1, 100)

    async def append(store: Store, number: int) -> bool:
        try:
            await store.append_audit(lines[number * 10 : number * 10 + 10])
        except AuditConflict:
            return False
        return True

    for number in range(10):
        assert sum(await asyncio.gather(*(append(store, number) for store in two))) == 1
    assert list(await two[1].audit(after=0, limit=1000)) == lines
