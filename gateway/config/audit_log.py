"""`audit` of gateway.yaml, how the log is kept: the name of the chain, how often heads are signed, retention."""

import re

from gateway.audit_settings import AuditLogSettings
from gateway.config.schema import Section
from gateway.yaml_source import did_you_mean

_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_DAY = 86400
AUDIT_KEYS = ("node", "heads", "retention", "disclosures", "feeds")


def read_audit_log(top: Section) -> AuditLogSettings:
    """How the audit log is kept."""
    section = top.section("audit")
    default = AuditLogSettings()
    if section is None:
        return default
    section.known(*AUDIT_KEYS)
    node = section.optional_text("node")
    if node is not None and not _NODE.fullmatch(node):
        said = f"audit.node is '{node}', expected letters, digits, '.', '_' and '-'"
        section.report(section.place("node"), said)
    retention = None
    if section.has("retention"):
        retention = int(section.seconds("retention", 0, low=30 * _DAY, high=40_000 * _DAY))
    heads = section.section("heads")
    if heads is None:
        return AuditLogSettings(node=node, retention_seconds=retention)
    heads.known("records", "every", "file", "notify")
    return AuditLogSettings(
        node=node,
        head_records=heads.integer("records", default.head_records, low=1, high=1_000_000),
        head_seconds=heads.seconds("every", default.head_seconds, low=1, high=_DAY),
        heads_file=heads.path_of("file", "") if heads.has("file") else None,
        heads_notify=_receivers(top, heads),
        retention_seconds=retention,
    )


def _receivers(top: Section, heads: Section) -> tuple[str, ...]:
    """Names of receivers, each of which is under notifications."""
    named = heads.texts("notify")
    section = top.section("notifications")
    known = [] if section is None else [entry.key for entry in section.node]
    for name in named:
        if name not in known:
            said = f"audit.heads.notify: '{name}' is not under notifications.{did_you_mean(name, known)}"
            heads.report(heads.place("notify"), said)
    return named
