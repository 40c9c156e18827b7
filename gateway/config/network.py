"""The network side of gateway.yaml: listeners, proxies in front of us, stores behind us."""

import ipaddress
import re
from itertools import combinations
from pathlib import Path

from cryptography import x509

from authz.protocol.addresses import AllowList, read_allow_list
from authz.protocol.certificate_headers import HEADER_FORMS
from gateway.config.consents import read_consents
from gateway.config.documents import KINDS, read_documents, with_patients
from gateway.config.identifier_systems import read_identifier_systems
from gateway.config.pickers import read_picker
from gateway.config.profiles import read_profile
from gateway.config.schema import Section
from gateway.settings import (
    BundleLimits,
    FetchSettings,
    Listener,
    Operations,
    Probe,
    ResponseSignatures,
    TlsFiles,
    TrustedProxies,
    Upstream,
)

_MOUNT = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
OWN_PATHS = frozenset(
    {
        ".well-known",
        "account",
        "officer",
        "consents",
        "cds-services",
        "admin",
        "authorize",
        "token",
        "par",
        "jwks",
        "revoke",
        "launch",
        "introspect",
        "userinfo",
        "logout",
        "grants",
        "register",
        "sign-in",
        "patient",
        "encounter",
        "consent",
        "assets",
        "brands.json",
    }
)
"""The first parts of paths that are the server's own: no store is mounted there."""


def read_listeners(top: Section, public: str, mtls: str | None) -> tuple[tuple[Listener, ...], Operations]:
    """The public listeners and that of operators; what is wrong is reported at its place."""
    listen = top.section("listen", required=True)
    if listen is None:
        return (), Operations()
    listen.known("public", "mtls", "operations")
    found = []
    section = listen.section("public", required=True)
    if section is not None:
        found.append(_listener(section, "public", public))
    section = listen.section("mtls")
    if section is not None:
        if mtls is None:
            top.report(section.node.place, "listen.mtls needs mtls_url, the public origin of this listener")
        found.append(_listener(section, "mtls", mtls or ""))
    elif mtls is not None and not any(
        listener.proxies and listener.proxies.certificate_header for listener in found
    ):
        top.report(top.place("mtls_url"), "mtls_url is given, but nothing listens for it: add listen.mtls")
    section = listen.section("operations")
    operations = Operations()
    if section is not None:
        section.known("address", "port")
        operations = Operations(
            section.text("address", "127.0.0.1"), section.integer("port", 9090, low=1, high=65535)
        )
    ports = [(listener.address, listener.port) for listener in found] + [
        (operations.address, operations.port)
    ]
    if len(set(ports)) != len(ports):
        listen.report(listen.node.place, "two listeners have the same address and port")
    return tuple(found), operations


def _listener(section: Section, name: str, origin: str) -> Listener:
    mtls = name == "mtls"
    section.known("address", "port", "tls", "trusted_proxies", "client_certificate_anchors")
    tls = None
    inner = section.section("tls")
    if inner is not None:
        inner.known("certificate", "key")
        certificate, key = inner.file("certificate"), inner.file("key")
        if certificate is not None and key is not None:
            tls = TlsFiles(certificate, key)
    proxies = _proxies(section)
    if tls is None and inner is None and proxies is None:
        section.report(
            section.node.place,
            f"{section.path} has neither 'tls' nor 'trusted_proxies': plain HTTP is never public",
        )
    if mtls and tls is None and inner is None and (proxies is None or proxies.certificate_header is None):
        section.report(
            section.node.place, f"{section.path} has no 'tls': client certificates could not be seen"
        )
    return Listener(
        name=name,
        address=section.text("address", "0.0.0.0"),  # noqa: S104 - the default of a server that is to be reached
        port=section.integer("port", 8444 if mtls else 8443, low=1, high=65535),
        origin=origin,
        tls=tls,
        proxies=proxies,
        client_certificates=mtls and tls is not None,
        client_certificate_anchors=section.file("client_certificate_anchors", required=False),
    )


def _proxies(section: Section) -> TrustedProxies | None:
    inner = section.section("trusted_proxies")
    if inner is None:
        return None
    inner.known("addresses", "client_certificate")
    addresses = inner.texts("addresses")
    for text in addresses:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            inner.report(
                inner.place("addresses"), f"'{text}' is not an address or network, such as 10.0.0.0/29"
            )
    header = form = None
    certificate = inner.section("client_certificate")
    if certificate is not None:
        certificate.known("header", "form")
        header = certificate.text("header").lower()
        form = certificate.word("form", sorted(HEADER_FORMS))
        if not addresses:
            # Without a list of peers anybody could send the header (C12).
            inner.report(
                certificate.node.place, "client_certificate needs the proxies' addresses: who may send it?"
            )
    elif not addresses:
        inner.report(inner.node.place, "trusted_proxies needs 'addresses'")
    return TrustedProxies(addresses, header, form)


def takes_certificates(listener: Listener) -> bool:
    """Whether client certificates reach us by this listener: by its own handshake, or in a header of a proxy."""
    return listener.client_certificates or bool(listener.proxies and listener.proxies.certificate_header)


def read_upstreams(top: Section, public: str, mtls: str | None) -> tuple[Upstream, ...]:
    """The stores with their mounts, no two of which overlap; what is wrong is reported at its place."""
    section = top.section("upstreams", required=True)
    found: list[Upstream] = []
    for entry in section.node if section is not None else ():
        inner = section.section(entry.key) if section is not None else None
        if inner is not None:
            found.append(_upstream(inner, entry.key, public, mtls))
    for one, other in combinations([upstream for upstream in found if upstream.at], 2):
        if (other.at + "/").startswith(one.at + "/") or (one.at + "/").startswith(other.at + "/"):
            top.report(top.place("upstreams"), f"the mounts '{one.at}' and '{other.at}' overlap")
    if section is not None and not found:
        section.report(section.node.place, "upstreams names no store")
    return with_patients(top, found)


def _upstream(section: Section, name: str, public: str, mtls: str | None) -> Upstream:
    section.known(
        "kind", "at", "base", "authorization", "connections", "connect_timeout", "answer_timeout", "idle_timeout",
        "max_resource", "max_body", "mtls_only", "response_signatures", "profile", "probe",
        "unversioned_writes", "identifier_systems", "consents", "compress", "ask_gzip", "bundle", "picker", "documents",
    )  # fmt: skip
    at = section.text("at", expected="a path such as /fhir/r4")
    if at and (not _MOUNT.fullmatch(at) or not {".", ".."}.isdisjoint(at.split("/"))):
        section.report(section.place("at"), f"{section.path}.at is '{at}', expected a path such as /fhir/r4")
    elif at and at.split("/")[1] in OWN_PATHS:
        section.report(
            section.place("at"), f"{section.path}.at is '{at}', which is a path of the server's own"
        )
    return Upstream(
        name=name,
        kind=(kind := section.word("kind", KINDS)),
        at=at,
        base=section.url("base", ("http", "https")),
        identifier=public + at,
        bases=frozenset({public + at, *([mtls + at] if mtls else [])}),
        authorization=section.secret("authorization", required=False),
        connections=section.integer("connections", 100, low=1, high=10_000),
        connect_timeout=section.seconds("connect_timeout", 5.0, high=300),
        answer_timeout=section.seconds("answer_timeout", 60.0, high=3600),
        idle_timeout=section.seconds("idle_timeout", 60.0, high=3600),
        max_resource=section.size("max_resource", 10 * 1024**2),
        max_body=section.size("max_body", 2 * 1024**3),
        mtls_only=section.flag("mtls_only", False),
        unversioned_writes=section.flag("unversioned_writes", False),
        identifier_systems=read_identifier_systems(section),
        response_signatures=ResponseSignatures(
            section.word("response_signatures", [word.value for word in ResponseSignatures], "off")
        ),
        compress=section.flag("compress", True),
        ask_gzip=section.flag("ask_gzip", False),
        profile=read_profile(section),
        consents=read_consents(section),
        picker=read_picker(section),
        documents=read_documents(section, kind),
        bundle=_bundle(section.section("bundle")),
        probe=Probe(section.word("probe", [word.value for word in Probe], "background")),
    )


def _bundle(section: Section | None) -> BundleLimits:
    limits = BundleLimits()
    if section is None:
        return limits
    section.known("entries", "bytes", "answer_bytes", "lookups")
    return BundleLimits(
        entries=section.integer("entries", limits.entries, low=1, high=5000),
        size=section.size("bytes", limits.size),
        answer_size=section.size("answer_bytes", limits.answer_size),
        lookups=section.integer("lookups", limits.lookups, low=0, high=10_000),
    )


def read_fetch(top: Section) -> FetchSettings:
    """What may be fetched beside public addresses, and whose certificates are trusted."""
    section = top.section("fetch")
    if section is None:
        return FetchSettings()
    section.known("allow", "certificate_authorities")
    allow = AllowList()
    try:
        allow = read_allow_list(section.texts("allow"))
    except ValueError as error:
        section.report(section.place("allow"), f"fetch.allow: {error}")
    return FetchSettings(allow, read_authorities(section))


def read_authorities(section: Section) -> Path | None:
    """The file of certificate_authorities; None without one, and without certificates in it, which is reported."""
    path = section.file("certificate_authorities", required=False)
    if path is None or not path.is_file():
        return None
    try:
        x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        said = f"{section.path}.certificate_authorities holds no PEM certificates"
        section.report(section.place("certificate_authorities"), said)
        return None
    return path
