"""Where the consents of a store's patients come from: `consents` of an upstream."""

import re

from gateway.config.schema import Section
from gateway.policy.consent import ConsentSource
from gateway.settings import ConsentSettings

_REFERENCE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}")
_TAG = re.compile(r"[^\s|]+\|[^\s|]+")


def read_consents(upstream: Section) -> ConsentSettings | None:
    """The settings; None without them."""
    section = upstream.section("consents")
    if section is None:
        return None
    section.known("kept", "base", "authorization", "organizations", "tags", "verified", "keep", "timeout")
    kept_here = section.word("kept", ("here", "upstream"), "upstream") == "here"
    if kept_here:
        for name in ("base", "authorization", "keep", "timeout"):
            if section.has(name):
                section.report(section.place(name), f"{section.path}.{name} is for consents of another store")
    base = section.url("base", ("http", "https")) if section.has("base") else None
    organizations = section.texts("organizations") if section.has("organizations") else ()
    for text in organizations:
        if not _REFERENCE.fullmatch(text):
            expected = "expected a reference such as Organization/h1"
            section.report(
                section.place("organizations"), f"{section.path}.organizations: '{text}', {expected}"
            )
    tags = section.texts("tags") if section.has("tags") else ()
    for text in tags:
        if not _TAG.fullmatch(text):
            expected = "expected system|code"
            section.report(section.place("tags"), f"{section.path}.tags: '{text}', {expected}")
    if base is None and not organizations and not tags and not kept_here:
        # In a store that applications write to, anybody's Consent would count.
        said = "must say which consents count: 'organizations', 'tags', or the 'base' of another store, or 'kept: here'"
        section.report(section.node.place, f"{section.path} {said}")
    if section.has("authorization") and base is None:
        section.report(
            section.place("authorization"), f"{section.path}.authorization is for the store at 'base'"
        )
    return ConsentSettings(
        ConsentSource(
            frozenset(organizations),
            frozenset(_parted(text) for text in tags),
            section.flag("verified", not kept_here),
        ),
        base,
        section.secret("authorization", required=False),
        section.seconds("keep", 30.0, low=1, high=3600),
        section.seconds("timeout", 2.0, high=60),
        kept_here,
    )


def _parted(text: str) -> tuple[str, str]:
    system, _, code = text.rpartition("|")
    return system, code
