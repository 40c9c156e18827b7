"""Consents on PostgreSQL. What each method means stands at ConsentStore."""

from collections.abc import Collection, Sequence
from zlib import crc32

from authz.storage.consents import ConsentVersion, NoRoomLeft, Room, Standing
from authz.storage.postgresql.pool import PostgresqlPool, Row, Transaction
from authz.storage.postgresql.schema import CONSENT_LOCKS
from authz.storage.records import LARGEST, integer
from authz.storage.rows import CONSENT_COLUMNS, consent_values, consent_version

_SELECT = f"SELECT {CONSENT_COLUMNS} FROM consent_version"  # noqa: S608
_OF_NEWEST = ", ".join(f"consent_version.{name}" for name in CONSENT_COLUMNS.split(", "))
_NEWEST = f"SELECT {_OF_NEWEST} FROM consent_newest JOIN consent_version USING (base, id, version)"  # noqa: S608
_NUMBERED = _NEWEST.replace(" FROM", ", consent_newest.sequence FROM", 1)

CONSENTS_PAGE = (
    f"{_NUMBERED} WHERE base = $1 AND consent_newest.patient = $2"
    " AND (consent_newest.status = 'active')::int = $3 AND consent_newest.sequence < $4"
    " ORDER BY consent_newest.sequence DESC LIMIT $5"
)
"""A page of a patient's consents, those that are active or those that are not, the last written first."""
ADD_CONSENT = (
    "WITH number AS (UPDATE numbering SET value = value + 1 WHERE name = 'consent'"  # noqa: S608
    " AND ($11::bigint IS NULL OR value = $11) RETURNING value)"
    f" INSERT INTO consent_version (sequence, {CONSENT_COLUMNS})"
    " SELECT value, $1, $2, $3::bigint, $4, $5, $6, $7, $8, $9, $10::bigint FROM number WHERE $3::bigint = 1 +"
    " (SELECT COALESCE(MAX(version), 0) FROM consent_version WHERE base = $1 AND id = $2)"
    " ON CONFLICT (base, id, version) DO NOTHING"
)
"""Writes a version behind the newest one, at a number where one is said; or none."""
_STANDING = (
    "SELECT COUNT(*), COALESCE(SUM(provisions), 0)::bigint FROM consent_newest"
    " WHERE base = $1 AND patient = $2 AND id <> $3 AND status = ANY ($4::text[])"
)


async def insert_consents(
    transaction: Transaction,
    consents: Sequence[tuple[ConsentVersion, Room | None]],
    at_number: int | None = None,
) -> bool:
    """add_consent() of each in a transaction; False where one does not follow the newest version.

    Whoever counts has a lock of its patient from before the count to the end: the count, which sees what was committed
    when it begins, is right until the version is written. Others wait for others' patients only while a number is given
    and committed. Locks of patients are taken in one order, and before the number, so that no two wait for each other.
    """
    counted = {_lock_of(version) for version, room in consents if room and version.status in room.statuses}
    for lock in sorted(counted):
        await transaction.row("SELECT pg_advisory_xact_lock($1, $2)", CONSENT_LOCKS, lock)
    for version, within in consents:
        if within is not None and version.status in within.statuses:
            asked = (version.base, version.patient, version.id, list(within.statuses))
            if not _standing(await transaction.row(_STANDING, *asked)).leaves_room(version, within):
                raise NoRoomLeft
        if await transaction.change(ADD_CONSENT, *consent_values(version), at_number) != 1:
            return False
    return True


def _lock_of(version: ConsentVersion) -> int:
    """The number of the lock of a patient, 32 bits with a sign; of two with one number, one waits for nothing."""
    return crc32(f"{version.base}\n{version.patient}".encode()) - 2**31


def _standing(row: Row | None) -> Standing:
    return Standing(0, 0) if row is None else Standing(integer(row[0]), integer(row[1]))


class PostgresqlConsents:
    """The part of PostgresqlStore that keeps consents."""

    _database: PostgresqlPool

    async def add_consent(
        self, version: ConsentVersion, *, at_number: int | None = None, within: Room | None = None
    ) -> bool:
        """Write a version; False where it does not follow the newest one, or the number is another.

        Of two at the same moment the second waits for the number, and finds the place of its version taken. Of the
        number it finds what the first made of it: PostgreSQL looks at a row that it waited for once more.
        """
        if within is None:
            return await self._database.change(ADD_CONSENT, *consent_values(version), at_number) == 1
        async with self._database.transaction() as transaction:
            return await insert_consents(transaction, [(version, within)], at_number)

    async def consents_standing(
        self, base: str, patient: str, statuses: Collection[str], *, beside: str
    ) -> Standing:
        """How many there are."""
        return _standing(await self._database.row(_STANDING, base, patient, beside, list(statuses)))

    async def consent_number(self) -> int:
        """The number that the last version was given, or a later one that none has."""
        row = await self._database.row("SELECT value FROM numbering WHERE name = 'consent'")
        return 0 if row is None else int(row[0])

    async def consents_written(
        self, base: str, *, after: int, to: int, limit: int
    ) -> Sequence[ConsentVersion]:
        """Versions of a base by their numbers."""
        rows = await self._database.rows(
            f"{_SELECT} WHERE base = $1 AND sequence > $2 AND sequence <= $3 ORDER BY sequence LIMIT $4",
            base,
            after,
            to,
            limit,
        )
        return [consent_version(row) for row in rows]

    async def consent(self, base: str, id: str, version: int | None = None) -> ConsentVersion | None:
        """That version, or the newest."""
        row = await self._database.row(
            f"{_SELECT} WHERE base = $1 AND id = $2 AND ($3::bigint IS NULL OR version = $3)"
            " ORDER BY version DESC LIMIT 1",
            base,
            id,
            version,
        )
        return None if row is None else consent_version(row)

    async def consent_history(
        self, base: str, id: str, *, before: int | None = None, at_most: int | None = None
    ) -> Sequence[ConsentVersion]:
        """Versions of a consent, the newest first."""
        rows = await self._database.rows(
            f"{_SELECT} WHERE base = $1 AND id = $2 AND version < $3 ORDER BY version DESC LIMIT $4",
            base,
            id,
            LARGEST if before is None else before,
            at_most,
        )
        return [consent_version(row) for row in rows]

    async def consents_of(
        self,
        base: str,
        patients: Collection[str],
        *,
        statuses: Collection[str] | None = None,
        at_most: int | None = None,
    ) -> Sequence[ConsentVersion]:
        """The newest versions of the consents of these patients."""
        rows = await self._database.rows(
            f"{_NEWEST} WHERE base = $1 AND consent_newest.patient = ANY ($2::text[])"
            " AND ($3::text[] IS NULL OR consent_newest.status = ANY ($3)) LIMIT $4",
            base,
            list(patients),
            None if statuses is None else list(statuses),
            at_most,
        )
        return sorted(map(consent_version, rows), key=lambda version: version.id)

    async def consents_in(
        self, base: str, patient: str, status: str, *, after: str, limit: int
    ) -> Sequence[ConsentVersion]:
        """A page of a patient's consents of one status."""
        rows = await self._database.rows(
            f"{_NEWEST} WHERE base = $1 AND consent_newest.patient = $2 AND consent_newest.status = $3 AND id > $4"
            " ORDER BY id LIMIT $5",
            base,
            patient,
            status,
            after,
            limit,
        )
        return [consent_version(row) for row in rows]

    async def consents_newest_first(
        self, base: str, patient: str, *, is_active: bool, before: int | None, limit: int
    ) -> Sequence[tuple[int, ConsentVersion]]:
        """A page of a patient's consents, by an index of its own."""
        rows = await self._database.rows(
            CONSENTS_PAGE,
            base,
            patient,
            int(is_active),
            LARGEST if before is None else before,
            limit,
        )
        return [(integer(row[-1]), consent_version(row)) for row in rows]

    async def consents(self, base: str, *, after: str, limit: int) -> Sequence[ConsentVersion]:
        """The newest versions behind that id."""
        rows = await self._database.rows(
            f"{_NEWEST} WHERE base = $1 AND id > $2 ORDER BY id LIMIT $3", base, after, limit
        )
        return [consent_version(row) for row in rows]

    async def consent_of_grant(self, grant_id: str) -> ConsentVersion | None:
        """The newest version of the consent of a grant."""
        row = await self._database.row(
            f"{_SELECT} WHERE grant_id = $1 ORDER BY version DESC LIMIT 1", grant_id
        )
        return None if row is None else consent_version(row)
