"""The tables of a store as its copies see them: the same names and columns in every kind of store."""

from dataclasses import dataclass

from authz.storage.audit_sheets import SHEET_COLUMNS
from authz.storage.audit_signal_rows import SIGNAL_COLUMNS
from authz.storage.rows import (
    AUDIT_COLUMNS,
    AUDIT_KEY_COLUMNS,
    CONSENT_COLUMNS,
    EMERGENCY_COLUMNS,
    HOLD_COLUMNS,
    KEY_COLUMNS,
    NOTIFICATION_COLUMNS,
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table. key orders its rows; what is only ever appended to is numbered by the last part of its key.

    condition says which of its rows count, where that is not every one.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    is_appended: bool = False
    condition: str = ""
    view_in_sqlite: str | None = None
    rows_at_once: int = 5_000  # in the memory of who copies it

    @property
    def in_sqlite(self) -> str:
        """The table or view of a SQLite store that has its rows."""
        return self.view_in_sqlite or self.name


def _table(
    name: str,
    columns: str,
    key: str = "id",
    *,
    is_appended: bool = False,
    condition: str = "",
    view_in_sqlite: str | None = None,
    rows_at_once: int = 5_000,
) -> Table:
    return Table(
        name,
        tuple(columns.split(", ")),
        tuple(key.split(", ")),
        is_appended,
        condition,
        view_in_sqlite,
        rows_at_once,
    )


RETIRED = (
    "EXISTS (SELECT 1 FROM audit_stub WHERE audit_stub.chain = audit.chain"
    " AND audit.sequence BETWEEN audit_stub.first AND audit_stub.last)"
)
"""Of rows of audit: a stub stands for them, whether they are still there or not."""


# A table that refers to another comes after it. What the store keeps beside them (numbers, the head of the audit log,
# the pulse of its checks) is made anew from these.
TABLES = (
    _table("audit_stub", "chain, first, last, stub", "chain, first", is_appended=True),
    _table("audit", AUDIT_COLUMNS, "chain, sequence", is_appended=True, condition=f"NOT {RETIRED}"),
    _table("audit_tree_head", "number, head, frontier", "number", is_appended=True),
    _table("audit_key", AUDIT_KEY_COLUMNS, "number"),
    _table("audit_hold", HOLD_COLUMNS),
    _table("consent_version", f"sequence, {CONSENT_COLUMNS}", "sequence", is_appended=True),
    _table("audit_feed", "feed, chain, position", "feed, chain"),
    _table("registration_change", "sequence, client_id, record", "sequence", is_appended=True),
    _table("registration", "client_id, version, sequence, record, expires_at", "client_id"),
    _table("initial_access_token", "id, uses_left, record, expires_at"),
    _table("signing_key", KEY_COLUMNS, "kid"),
    _table("secret", "name, value", "name"),
    _table("grant_record", "id, client_id, subject, record, revoked_at, expires_at"),
    _table("authorization_code", "id, grant_id, record, uses, expires_at"),
    _table("refresh_token", "id, grant_id, record, expires_at, replaced_at"),
    _table("revocation", "subject, sequence, expires_at", "subject"),
    _table("emergency", EMERGENCY_COLUMNS + ", end_noted"),
    _table("notification", NOTIFICATION_COLUMNS),
    _table("audit_sheet", SHEET_COLUMNS, "chain, first", rows_at_once=500),
    _table("audit_page", "id, chain, block, volume, entries, earliest, latest, mentions"),
    _table("audit_volume", "id, chain, block, earliest, latest, parts, state"),
    _table("audit_volume_part", "id, mentions"),
    _table("audit_signal", SIGNAL_COLUMNS + ", noted"),
    _table("audit_place", "follower, chain, sequence", "follower, chain"),
    _table("pushed_request", "id, record, expires_at"),
    _table("launch", "id, client_id, record, expires_at"),
    _table("interaction", "id, record, expires_at"),
    _table("browser_session", "id, record, expires_at"),
    _table("rate", "key, used, expires_at", "key"),
    _table("counter", "key, window_seconds, period, value, expires_at", "key, window_seconds, period"),
    _table("claim", "namespace, key, expires_at", "namespace, key", view_in_sqlite="every_claim"),
)

# A SQLite store's own beside these.
ONLY_IN_SQLITE = (
    "replay_claim",
    "audit_head",
    "audit_chain",
)
