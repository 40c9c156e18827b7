"""Consents on PostgreSQL. What each method means stands at ConsentStore."""

from collections.abc import Collection, Sequence

from authz.storage.consents import ConsentVersion
from authz.storage.postgresql.pool import PostgresqlPool
from authz.storage.rows import CONSENT_COLUMNS, consent_values, consent_version

_SELECT = f"SELECT {CONSENT_COLUMNS} FROM consent_version AS found"  # noqa: S608
_IS_NEWEST = (
    "version = (SELECT MAX(version) FROM consent_version AS any_version"
    " WHERE any_version.base = found.base AND any_version.id = found.id)"
)

ADD_CONSENT = (
    "WITH number AS (UPDATE numbering SET value = value + 1 WHERE name = 'consent' RETURNING value)"  # noqa: S608
    f" INSERT INTO consent_version (sequence, {CONSENT_COLUMNS})"
    " SELECT value, $1, $2, $3::bigint, $4, $5, $6, $7, $8, $9 FROM number WHERE $3::bigint = 1 +"
    " (SELECT COALESCE(MAX(version), 0) FROM consent_version WHERE base = $1 AND id = $2)"
    " ON CONFLICT (base, id, version) DO NOTHING"
)
"""Writes a version behind the newest one, or none."""


class PostgresqlConsents:
    """The part of PostgresqlStore that keeps consents."""

    _database: PostgresqlPool

    async def add_consent(self, version: ConsentVersion) -> bool:
        """Write a version; False where it does not follow the newest one.

        Of two at the same moment the second waits for the number, and finds the place of its version taken.
        """
        return await self._database.change(ADD_CONSENT, *consent_values(version)) == 1

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

    async def consent_history(self, base: str, id: str) -> Sequence[ConsentVersion]:
        """Every version, the newest first."""
        rows = await self._database.rows(
            f"{_SELECT} WHERE base = $1 AND id = $2 ORDER BY version DESC", base, id
        )
        return [consent_version(row) for row in rows]

    async def consents_of(self, base: str, patients: Collection[str]) -> Sequence[ConsentVersion]:
        """The newest versions of the consents of these patients."""
        rows = await self._database.rows(
            f"{_SELECT} WHERE base = $1 AND patient = ANY ($2::text[]) AND {_IS_NEWEST} ORDER BY id",
            base,
            list(patients),
        )
        return [consent_version(row) for row in rows]

    async def consents(self, base: str, *, after: str, limit: int) -> Sequence[ConsentVersion]:
        """The newest versions behind that id."""
        rows = await self._database.rows(
            f"{_SELECT} WHERE base = $1 AND id > $2 AND {_IS_NEWEST} ORDER BY id LIMIT $3", base, after, limit
        )
        return [consent_version(row) for row in rows]

    async def consent_of_grant(self, grant_id: str) -> ConsentVersion | None:
        """The newest version of the consent of a grant."""
        row = await self._database.row(
            f"{_SELECT} WHERE grant_id = $1 ORDER BY version DESC LIMIT 1", grant_id
        )
        return None if row is None else consent_version(row)
