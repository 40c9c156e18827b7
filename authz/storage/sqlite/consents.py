"""Consents on SQLite. What each method means stands at ConsentStore."""

import json
from collections.abc import Collection, Sequence

from authz.storage.consents import ConsentVersion
from authz.storage.rows import CONSENT_COLUMNS, consent_values, consent_version
from authz.storage.sqlite.connection import SqliteConnection

_SELECT = f"SELECT {CONSENT_COLUMNS} FROM consent_version AS found"  # noqa: S608
_IS_NEWEST = (
    "version = (SELECT MAX(version) FROM consent_version AS any_version"
    " WHERE any_version.base = found.base AND any_version.id = found.id)"
)

ADD_CONSENT = (
    f"INSERT INTO consent_version ({CONSENT_COLUMNS}) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9"  # noqa: S608
    " WHERE ?3 = 1 + (SELECT COALESCE(MAX(version), 0) FROM consent_version WHERE base = ?1 AND id = ?2)"
)
"""Writes a version behind the newest one, or none."""


class SqliteConsents:
    """The part of SqliteStore that keeps consents."""

    _database: SqliteConnection

    async def add_consent(self, version: ConsentVersion) -> bool:
        """Write a version; False where it does not follow the newest one."""
        return self._database.change(ADD_CONSENT, *consent_values(version)) == 1

    async def consent(self, base: str, id: str, version: int | None = None) -> ConsentVersion | None:
        """That version, or the newest."""
        row = self._database.row(
            f"{_SELECT} WHERE base = ?1 AND id = ?2 AND (?3 IS NULL OR version = ?3) ORDER BY version DESC LIMIT 1",
            base,
            id,
            version,
        )
        return None if row is None else consent_version(row)

    async def consent_history(self, base: str, id: str) -> Sequence[ConsentVersion]:
        """Every version, the newest first."""
        rows = self._database.rows(f"{_SELECT} WHERE base = ? AND id = ? ORDER BY version DESC", base, id)
        return [consent_version(row) for row in rows]

    async def consents_of(self, base: str, patients: Collection[str]) -> Sequence[ConsentVersion]:
        """The newest versions of the consents of these patients."""
        rows = self._database.rows(
            f"{_SELECT} WHERE base = ? AND patient IN (SELECT value FROM json_each(?)) AND {_IS_NEWEST} ORDER BY id",  # noqa: S608
            base,
            json.dumps(list(patients)),
        )
        return [consent_version(row) for row in rows]

    async def consents(self, base: str, *, after: str, limit: int) -> Sequence[ConsentVersion]:
        """The newest versions behind that id."""
        rows = self._database.rows(
            f"{_SELECT} WHERE base = ? AND id > ? AND {_IS_NEWEST} ORDER BY id LIMIT ?", base, after, limit
        )
        return [consent_version(row) for row in rows]

    async def consent_of_grant(self, grant_id: str) -> ConsentVersion | None:
        """The newest version of the consent of a grant."""
        row = self._database.row(f"{_SELECT} WHERE grant_id = ? ORDER BY version DESC LIMIT 1", grant_id)
        return None if row is None else consent_version(row)
