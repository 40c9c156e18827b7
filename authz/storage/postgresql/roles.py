"""What the role of a gateway may do in PostgreSQL: everything that a gateway does, and nothing to what is written."""

from collections.abc import Sequence

_TAKEN_BACK = (
    ("UPDATE, DELETE", "audit, audit_tree_head, audit_stub, registration_change, consent_version"),
    ("DELETE", "audit_chain, audit_key, audit_hold"),
    ("INSERT, DELETE", "audit_head, numbering, pulse"),
    ("UPDATE, DELETE", "secret"),
    ("INSERT, UPDATE, DELETE", "consent_newest"),
    ("INSERT, UPDATE, DELETE", "migration"),
)


def grants(role: str) -> Sequence[str]:
    """The statements for a role, to be run by the owner of the tables. role is a plain name of PostgreSQL."""
    return [
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
        *(f"REVOKE {what} ON {of} FROM {role}" for what, of in _TAKEN_BACK),
        "REVOKE EXECUTE ON FUNCTION remove_stubbed_audit(TEXT, BIGINT, BIGINT) FROM PUBLIC",
        f"GRANT EXECUTE ON FUNCTION remove_stubbed_audit(TEXT, BIGINT, BIGINT) TO {role}",
    ]
