"""`documents` of a mount of kind `xds`: repositories, the affinity domain, and as who the gateway asks."""

import re

from gateway.config.schema import Section
from gateway.xds_settings import (
    CLAIMS,
    AssertionSettings,
    CodedValue,
    ProvideSettings,
    SoapTls,
    XdsSettings,
)

KEYS = ("assigning_authority", "repositories", "home_community", "assertion", "provide", "tls")
_OID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]{0,39})){1,40}")
_CODES = ("class", "format", "facility", "practice")


def read_xds(section: Section) -> XdsSettings:
    """The settings; mistakes go to the section's problems."""
    found: dict[str, str] = {}
    repositories = section.section("repositories", required=True)
    for entry in repositories.node if repositories is not None else ():
        if repositories is not None:
            _check_oid(repositories, entry.key, entry.key)
            found[entry.key] = repositories.url(entry.key, ("http", "https"))
    home = section.optional_text("home_community")
    if home is not None and not _OID.fullmatch(home.removeprefix("urn:oid:")):
        section.report(section.place("home_community"), f"{section.path}.home_community must be an OID")
    return XdsSettings(
        assigning_authority=_oid(section, "assigning_authority"),
        repositories=found,
        home=None if home is None else f"urn:oid:{home.removeprefix('urn:oid:')}",
        assertion=_assertion(section.section("assertion")),
        provide=_provide(section.section("provide")),
        tls=_tls(section.section("tls")),
    )


def _oid(section: Section, key: str) -> str:
    text = section.text(key, expected="an OID such as 2.16.840.1.113883.19.5")
    if text:
        _check_oid(section, key, text)
    return text


def _check_oid(section: Section, key: str, text: str) -> None:
    if not _OID.fullmatch(text):
        section.report(
            section.place(key), f"{section.path} has '{text}', expected an OID such as 2.16.840.1.113883.19.5"
        )


def _assertion(section: Section | None) -> AssertionSettings | None:
    if section is None:
        return None
    section.known(
        "issuer", "audience", "key", "certificate", "lifetime", "organization", "organization_id", "purpose", "claims"
    )  # fmt: skip
    claims = dict(CLAIMS)
    inner = section.section("claims")
    if inner is not None:
        inner.known(*CLAIMS)
        claims |= {word: inner.text(word, default) for word, default in CLAIMS.items()}
    key, certificate = section.file("key"), section.file("certificate")
    if key is None or certificate is None:
        return None
    return AssertionSettings(
        issuer=section.text("issuer", expected="the name of this gateway"),
        audience=section.text("audience", expected="the name of the registry"),
        key=key,
        certificate=certificate,
        lifetime_seconds=int(section.seconds("lifetime", 300.0, low=10, high=3600)),
        organization=section.optional_text("organization") or "",
        organization_id=section.optional_text("organization_id") or "",
        purpose=section.optional_text("purpose") or "",
        claims=claims,
    )


def _provide(section: Section | None) -> ProvideSettings | None:
    if section is None:
        return None
    section.known("url", "source", *_CODES)
    return ProvideSettings(
        section.url("url", ("http", "https")),
        _oid(section, "source"),
        {word: _code(section, word) for word in _CODES},
    )


def _code(section: Section, word: str) -> CodedValue:
    inner = section.section(word, required=True)
    if inner is None:
        return CodedValue("", "", "")
    inner.known("code", "system", "display")
    code = inner.text("code")
    return CodedValue(code, _oid(inner, "system"), inner.text("display", code))


def _tls(section: Section | None) -> SoapTls:
    if section is None:
        return SoapTls()
    section.known("certificate", "key", "authorities")
    certificate = section.file("certificate", required=False)
    key = section.file("key", required=certificate is not None)
    return SoapTls(certificate, key, section.file("authorities", required=False))
