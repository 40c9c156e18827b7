"""Consents on SQLite. What each method means stands at ConsentStore."""

import json
import sqlite3
from collections.abc import Collection, Sequence

from authz.storage.consents import ConsentVersion, NoRoomLeft, Room, Standing
from authz.storage.records import LARGEST, integer
from authz.storage.rows import CONSENT_COLUMNS, consent_values, consent_version
from authz.storage.sqlite.connection import SqliteConnection

_SELECT = f"SELECT {CONSENT_COLUMNS} FROM consent_version"  # noqa: S608
_OF_NEWEST = ", ".join(f"consent_version.{name}" for name in CONSENT_COLUMNS.split(", "))
_NEWEST = f"SELECT {_OF_NEWEST} FROM consent_newest JOIN consent_version USING (base, id, version)"  # noqa: S608
_NUMBERED = _NEWEST.replace(" FROM", ", consent_newest.sequence FROM", 1)
_LISTED = "SELECT value FROM json_each(?)"
_NUMBER = "SELECT COALESCE(MAX(sequence), 0) FROM consent_version"

CONSENTS_PAGE = (
    f"{_NUMBERED} WHERE base = ? AND consent_newest.patient = ? AND (consent_newest.status = 'active') = ?"
    " AND consent_newest.sequence < ? ORDER BY consent_newest.sequence DESC LIMIT ?"
)
"""A page of a patient's consents, those that are active or those that are not, the last written first."""
ADD_CONSENT = (
    f"INSERT INTO consent_version ({CONSENT_COLUMNS}) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10"  # noqa: S608
    " WHERE ?3 = 1 + (SELECT COALESCE(MAX(version), 0) FROM consent_version WHERE base = ?1 AND id = ?2)"
    f" AND (?11 IS NULL OR ?11 = ({_NUMBER}))"
)
"""Writes a version behind the newest one, at a number where one is said; or none."""
_STANDING = (
    "SELECT COUNT(*), COALESCE(SUM(provisions), 0) FROM consent_newest"  # noqa: S608
    f" WHERE base = ? AND patient = ? AND id <> ? AND status IN ({_LISTED})"
)


def insert_consent(
    connection: sqlite3.Connection, version: ConsentVersion, at_number: int | None, within: Room | None
) -> bool:
    """add_consent() in a write transaction: nobody writes between the count and the version."""
    if not have_room(connection, [(version, within)]):
        raise NoRoomLeft
    return connection.execute(ADD_CONSENT, (*consent_values(version), at_number)).rowcount == 1


def have_room(connection: sqlite3.Connection, consents: Sequence[tuple[ConsentVersion, Room | None]]) -> bool:
    """Whether all fit, in a write transaction, each beside those before it."""
    before: list[ConsentVersion] = []
    for version, within in consents:
        if within is not None and version.status in within.statuses:
            asked = (version.base, version.patient, version.id, json.dumps(list(within.statuses)))
            count, provisions = connection.execute(_STANDING, asked).fetchone()
            beside = [
                each
                for each in before
                if (each.base, each.patient) == (version.base, version.patient)
                and each.status in within.statuses
            ]
            there = Standing(count + len(beside), provisions + sum(each.most_provisions for each in beside))
            if not there.leaves_room(version, within):
                return False
        before.append(version)
    return True


class SqliteConsents:
    """The part of SqliteStore that keeps consents."""

    _database: SqliteConnection

    async def add_consent(
        self, version: ConsentVersion, *, at_number: int | None = None, within: Room | None = None
    ) -> bool:
        """Write a version; False where it does not follow the newest one, or the number is another."""
        if within is None:
            return self._database.change(ADD_CONSENT, *consent_values(version), at_number) == 1
        with self._database.transaction() as connection:
            return insert_consent(connection, version, at_number, within)

    async def consents_standing(
        self, base: str, patient: str, statuses: Collection[str], *, beside: str
    ) -> Standing:
        """How many there are, from the index alone."""
        row = self._database.row(_STANDING, base, patient, beside, json.dumps(list(statuses)))
        return Standing(0, 0) if row is None else Standing(integer(row[0]), integer(row[1]))

    async def consent_number(self) -> int:
        """The number of the last version."""
        row = self._database.row(_NUMBER)
        return 0 if row is None else integer(row[0])

    async def consents_written(
        self, base: str, *, after: int, to: int, limit: int
    ) -> Sequence[ConsentVersion]:
        """Versions of a base by their numbers; by the numbers alone, whatever indexes there are."""
        rows = self._database.rows(
            f"{_SELECT} WHERE +base = ? AND sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?",
            base,
            after,
            to,
            limit,
        )
        return [consent_version(row) for row in rows]

    async def consent(self, base: str, id: str, version: int | None = None) -> ConsentVersion | None:
        """That version, or the newest."""
        row = self._database.row(
            f"{_SELECT} WHERE base = ?1 AND id = ?2 AND (?3 IS NULL OR version = ?3) ORDER BY version DESC LIMIT 1",
            base,
            id,
            version,
        )
        return None if row is None else consent_version(row)

    async def consent_history(
        self, base: str, id: str, *, before: int | None = None, at_most: int | None = None
    ) -> Sequence[ConsentVersion]:
        """Versions of a consent, the newest first."""
        rows = self._database.rows(
            f"{_SELECT} WHERE base = ? AND id = ? AND version < ? ORDER BY version DESC LIMIT ?",
            base,
            id,
            LARGEST if before is None else before,
            -1 if at_most is None else at_most,
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
        wanted = "" if statuses is None else f" AND consent_newest.status IN ({_LISTED})"
        rows = self._database.rows(
            f"{_NEWEST} WHERE base = ? AND consent_newest.patient IN ({_LISTED}){wanted} LIMIT ?",
            base,
            json.dumps(list(patients)),
            *(() if statuses is None else (json.dumps(list(statuses)),)),
            -1 if at_most is None else at_most,
        )
        return sorted(map(consent_version, rows), key=lambda version: version.id)

    async def consents_in(
        self, base: str, patient: str, status: str, *, after: str, limit: int
    ) -> Sequence[ConsentVersion]:
        """A page of a patient's consents of one status."""
        rows = self._database.rows(
            f"{_NEWEST} WHERE base = ? AND consent_newest.patient = ? AND consent_newest.status = ? AND id > ?"
            " ORDER BY id LIMIT ?",
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
        rows = self._database.rows(
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
        rows = self._database.rows(
            f"{_NEWEST} WHERE base = ? AND id > ? ORDER BY id LIMIT ?", base, after, limit
        )
        return [consent_version(row) for row in rows]

    async def consent_of_grant(self, grant_id: str) -> ConsentVersion | None:
        """The newest version of the consent of a grant."""
        row = self._database.row(f"{_SELECT} WHERE grant_id = ? ORDER BY version DESC LIMIT 1", grant_id)
        return None if row is None else consent_version(row)
