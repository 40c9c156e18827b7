"""`audit` of gateway.yaml: who is outside, and where AuditEvents are delivered."""

import re
from urllib.parse import urlsplit

from gateway.audit_settings import AuditSettings, FeedKind, FeedSettings
from gateway.config.audit_log import AUDIT_KEYS
from gateway.config.schema import Section
from gateway.yaml_source import Mapping as YamlMapping

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_OF_ALL = ("kind", "begin", "at_once", "timeout", "refuse_writes_after")
_OF_KIND = {
    FeedKind.FHIR: ("url", "authorization", "certificate_authorities", "certificate", "key"),
    FeedKind.SYSLOG: ("url", "certificate_authorities", "certificate", "key"),
    FeedKind.FILE: ("path", "max_size", "keep"),
}


def read_audit(top: Section) -> AuditSettings:
    """The settings; empty ones without the section."""
    section = top.section("audit")
    if section is None:
        return AuditSettings()
    section.known(*AUDIT_KEYS)
    outside = section.section("disclosures")
    clients: tuple[str, ...] = ()
    organizations: tuple[str, ...] = ()
    if outside is not None:
        outside.known("clients", "organizations")
        clients, organizations = outside.texts("clients"), outside.texts("organizations")
    return AuditSettings(frozenset(clients), frozenset(organizations), _feeds(section))


def _feeds(section: Section) -> tuple[FeedSettings, ...]:
    feeds = section.section("feeds")
    found = []
    for entry in () if feeds is None else feeds.node:
        if feeds is None or not isinstance(entry.value, YamlMapping) or not _NAME.fullmatch(entry.key):
            said = f"audit.feeds.{entry.key} must be a name (letters, digits, '.', '_', '-') and a mapping with kind"
            section.report(entry.place, said)
            continue
        inner = feeds.section(entry.key)
        if inner is not None:
            found.append(_feed(inner, entry.key))
    return tuple(found)


def _feed(section: Section, name: str) -> FeedSettings:
    kind = FeedKind(section.word("kind", list(FeedKind)) or FeedKind.FILE)
    section.known(*_OF_ALL, *_OF_KIND[kind])
    refuse = section.section("refuse_writes_after")
    records, seconds = None, None
    if refuse is not None:
        refuse.known("records", "age")
        if refuse.has("records"):
            records = refuse.integer("records", 0, low=1, high=1_000_000_000)
        if refuse.has("age"):
            seconds = refuse.seconds("age", 0)
    certificate, key = (
        section.file("certificate", required=False) if kind is not FeedKind.FILE else None,
        section.file("key", required=False) if kind is not FeedKind.FILE else None,
    )
    if (certificate is None) != (key is None):
        section.report(section.node.place, f"audit.feeds.{name}: certificate and key go together")
    url = ""
    if kind is FeedKind.FHIR:
        url = section.url("url", ("https", "http")).rstrip("/")
        _check_loopback(section, url, "https", ("http",))
    elif kind is FeedKind.SYSLOG:
        url = section.url("url", ("tls", "tcp", "udp"))
        _check_loopback(section, url, "tls", ("tcp", "udp"))
        if url and _port(url) is None:
            section.report(section.place("url"), f"url: '{url}' names no port, such as tls://audit.lan:6514")
    return FeedSettings(
        name=name,
        kind=kind,
        url=url,
        authorization=section.secret("authorization", required=False) if kind is FeedKind.FHIR else None,
        authorities=section.file("certificate_authorities", required=False)
        if kind is not FeedKind.FILE
        else None,
        certificate=certificate,
        key=key,
        path=section.path_of("path") if kind is FeedKind.FILE else None,
        max_size=section.size("max_size", 100 * 1024 * 1024) if kind is FeedKind.FILE else 0,
        kept=section.integer("keep", 10, low=1, high=10_000) if kind is FeedKind.FILE else 0,
        from_beginning=section.word("begin", ("now", "oldest"), "now") == "oldest",
        at_once=section.integer("at_once", 100, low=1, high=1000),
        timeout=section.seconds("timeout", 10.0),
        refuse_after_records=records,
        refuse_after=seconds,
    )


def _port(url: str) -> int | None:
    """The port of a URL; None where it names none, or no number that a port can have."""
    try:
        return urlsplit(url).port
    except ValueError:
        return None


def _check_loopback(section: Section, url: str, safe: str, clear: tuple[str, ...]) -> None:
    """Report an address in clear that is not on this machine: AuditEvents name patients."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return  # it is no URL, which was reported
    if parts.scheme in clear and parts.hostname not in _LOOPBACK:
        section.report(section.place("url"), f"url: {parts.scheme}:// goes to loopback only, use {safe}://")
