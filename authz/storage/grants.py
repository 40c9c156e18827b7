"""What the role of a gateway may do in PostgreSQL: everything that a gateway does, and nothing to what is written."""

from collections.abc import Sequence

from authz.storage.tables import TABLES

_BESIDE = ("audit_head", "audit_chain", "numbering", "pulse")
_TAKEN_BACK = (
    ("UPDATE, DELETE", "audit, audit_tree_head, audit_stub, registration_change, consent_version"),
    ("DELETE", "audit_chain, audit_key, audit_hold"),
    ("INSERT, DELETE", "audit_head, numbering, pulse"),
    ("UPDATE, DELETE", "secret"),
    ("INSERT, UPDATE, DELETE", "migration"),
)


def grants(role: str) -> Sequence[str]:
    """The statements for a role, to be run by the owner of the tables. role is a plain name of PostgreSQL."""
    tables = ", ".join([*(table.name for table in TABLES), *_BESIDE])
    return [
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {role}",
        f"GRANT SELECT ON migration TO {role}",
        *(f"REVOKE {what} ON {of} FROM {role}" for what, of in _TAKEN_BACK),
        "REVOKE EXECUTE ON FUNCTION remove_stubbed_audit(TEXT, BIGINT, BIGINT) FROM PUBLIC",
        f"GRANT EXECUTE ON FUNCTION remove_stubbed_audit(TEXT, BIGINT, BIGINT) TO {role}",
    ]
