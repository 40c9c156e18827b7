"""Where the consents of a store's patients come from: `consents` of an upstream."""

import re

from gateway.config.schema import Section
from gateway.consents.consent import SCOPES, ConsentReading, ConsentSource
from gateway.fhir.labels import ABOVE_ALL, ORDER
from gateway.settings import ConsentSettings

_REFERENCE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}")
_SCOPE = re.compile(r"[^\s|]+")
_TAG = re.compile(r"[^\s|]+\|[^\s|]+")


def read_consents(upstream: Section) -> ConsentSettings | None:
    """The settings; None without them."""
    section = upstream.section("consents")
    if section is None:
        return None
    section.known(
        "kept",
        "base",
        "authorization",
        "organizations",
        "tags",
        "verified",
        "opt_out",
        "unlabelled",
        "keep",
        "timeout",
    )
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
        ConsentReading(opt_out=_opt_out(section), unlabelled=_unlabelled(section)),
    )


def _opt_out(section: Section) -> frozenset[tuple[str, str]]:
    """The scopes of which who never said anything has agreed; none unless they are named."""
    found = set()
    for text in section.texts("opt_out") if section.has("opt_out") else ():
        system, code = _parted(text)
        if not _SCOPE.fullmatch(code) or ("|" in text and not system):
            expected = "expected the code of a scope such as patient-privacy, or system|code"
            section.report(section.place("opt_out"), f"{section.path}.opt_out: '{text}', {expected}")
        found.add((system or SCOPES, code))
    return frozenset(found)


def _unlabelled(section: Section) -> int:
    """What the confidentiality of a resource without labels is taken for; above all without it."""
    word = section.word("unlabelled", (*ORDER, "unknown"), "unknown")
    return ORDER.index(word) if word in ORDER else ABOVE_ALL


def _parted(text: str) -> tuple[str, str]:
    system, _, code = text.rpartition("|")
    return system, code
