"""gateway.yaml → GatewaySettings: typed, complete, every mistake of a file reported in one run, with its place."""

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from urllib.parse import urlsplit

from authz.keys import KeyRingError, read_encryption_key
from authz.protocol import jose
from authz.protocol.certificates import HEADER_FORMS
from authz.protocol.clients import (
    PROFILES,
    AuthenticationMethod,
    BindingKind,
    CertificateSubject,
    Client,
    GrantType,
    ProfileName,
)
from authz.protocol.jose import JoseError
from authz.protocol.scopes import is_known, split_scope
from authz.settings import Account, AuthorizationSettings, Lifetimes, Protected
from authz.storage.store import StoreSettings
from gateway.config_schema import Section
from gateway.settings import (
    GatewaySettings,
    KeySettings,
    Limits,
    Listener,
    Operations,
    TlsFiles,
    TrustedProxies,
    Upstream,
)
from gateway.yaml_source import Mapping as YamlMapping
from gateway.yaml_source import Place, Problem, YamlError, parse

_TOP = (
    "version", "public_url", "mtls_url", "organisation", "privacy_url", "listen", "storage", "keys", "authorization",
    "upstreams", "policies", "limits", "users", "clients",
)  # fmt: skip
_MUST_OR_MAY = ("required", "optional")
_SUBJECTS = ("subject_dn", "san_dns", "san_uri", "san_ip", "san_email")
_MOUNT = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_OWN_PATHS = frozenset(
    {
        ".well-known",
        "authorize",
        "token",
        "par",
        "jwks",
        "revoke",
        "introspect",
        "sign-in",
        "patient",
        "consent",
        "assets",
    }
)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_REDIRECT_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?@!$&'()*+,;=%\[\]-]+")
_MAX_FILE = 4 * 1024 * 1024


class ConfigErrors(Exception):
    """The configuration cannot be used. problems names every mistake."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(map(str, self.problems)))


def load(path: Path, environ: Mapping[str, str]) -> GatewaySettings:
    """The settings in this file, secrets resolved. Raises ConfigErrors with every problem."""
    name = str(path)
    try:
        raw = path.read_bytes()
        if len(raw) > _MAX_FILE:
            raise ConfigErrors([Problem(name, 1, 1, f"the file is longer than {_MAX_FILE} bytes")])
        root = parse(raw.decode("utf-8"), name)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigErrors([Problem(name, 1, 1, f"cannot be read: {reason}")]) from error
    except YamlError as error:
        raise ConfigErrors(list(error.problems)) from error
    if not isinstance(root, YamlMapping):
        raise ConfigErrors([root.place.problem(f"the configuration is {root.kind}, expected a mapping")])
    problems: list[Problem] = []
    settings = _settings(Section(root, "", problems, path.parent, environ), path)
    if problems:
        raise ConfigErrors(problems)
    return settings


def _settings(top: Section, path: Path) -> GatewaySettings:
    top.known(*_TOP)
    if top.has("version"):
        top.integer("version", 1, low=1, high=1)
    else:
        top.report(top.node.place, "version is missing, expected 1")
    public = top.origin("public_url")
    mtls = top.origin("mtls_url") if top.has("mtls_url") else None
    if mtls and mtls == public:
        top.report(
            top.place("mtls_url"), "mtls_url is the same as public_url: each listener has its own origin"
        )
    listeners, operations = _listeners(top, public, mtls)
    upstreams = _upstreams(top, public, mtls)
    authorization = _authorization(top, public, mtls, upstreams)
    clients = _clients(
        top, authorization, has_mtls=any(_takes_certificates(listener) for listener in listeners)
    )
    settings = GatewaySettings(
        file=path,
        listeners=listeners,
        operations=operations,
        authorization=replace(authorization, scopes_supported=_scopes_supported(clients)),
        storage=_storage(top),
        keys=_keys(top),
        upstreams=upstreams,
        policies=top.path_of("policies", "policies"),
        clients=clients,
        accounts=_accounts(top),
        limits=_limits(top),
    )
    if not settings.policies.is_dir():
        top.report(top.place("policies"), f"policies: there is no folder '{settings.policies}'")
    return settings


# Listeners


def _listeners(top: Section, public: str, mtls: str | None) -> tuple[tuple[Listener, ...], Operations]:
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


def _takes_certificates(listener: Listener) -> bool:
    return listener.client_certificates or bool(listener.proxies and listener.proxies.certificate_header)


# Upstreams


def _upstreams(top: Section, public: str, mtls: str | None) -> tuple[Upstream, ...]:
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
    return tuple(found)


def _upstream(section: Section, name: str, public: str, mtls: str | None) -> Upstream:
    section.known(
        "kind", "at", "base", "authorization", "connections", "connect_timeout", "answer_timeout", "idle_timeout",
        "max_resource", "max_body", "mtls_only",
    )  # fmt: skip
    at = section.text("at", expected="a path such as /fhir/r4")
    if at and (not _MOUNT.fullmatch(at) or not {".", ".."}.isdisjoint(at.split("/"))):
        section.report(section.place("at"), f"{section.path}.at is '{at}', expected a path such as /fhir/r4")
    elif at and at.split("/")[1] in _OWN_PATHS:
        section.report(
            section.place("at"), f"{section.path}.at is '{at}', which is a path of the server's own"
        )
    return Upstream(
        name=name,
        kind=section.word("kind", ("fhir-r4",)),
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
    )


# Authorization server


def _authorization(
    top: Section, public: str, mtls: str | None, upstreams: tuple[Upstream, ...]
) -> AuthorizationSettings:
    section = top.section("authorization")
    keys = top.section("keys")
    settings = AuthorizationSettings(
        issuer=public,
        mtls_origin=mtls,
        resources=tuple(
            Protected(u.identifier, u.at, u.kind, tuple(sorted(u.bases - {u.identifier}))) for u in upstreams
        ),
        organisation=top.text("organisation", "this hospital"),
        privacy_url=top.optional_text("privacy_url"),
    )
    if keys is not None:
        settings = replace(
            settings,
            signing_algorithm=keys.word("algorithm", ("ES256", "PS256", "EdDSA"), "ES256"),
            key_announced_seconds=int(keys.seconds("announced_for", 86400, low=1)),
            key_active_seconds=int(keys.seconds("active_for", 90 * 86400, low=60)),
        )
        if settings.key_active_seconds <= settings.key_announced_seconds:
            keys.report(keys.node.place, "keys.active_for must be longer than keys.announced_for")
    if section is None:
        return settings
    section.known("profiles", "lifetimes", "dpop_nonce", "sign_in_attempts")
    return replace(
        settings,
        profiles=_profiles(section),
        lifetimes=_lifetimes(section),
        dpop_nonce_required=section.word("dpop_nonce", ("required", "offered"), "required") == "required",
        sign_in_attempts_per_minute=_attempts(section),
    )


def _profiles(section: Section) -> frozenset[ProfileName]:
    if not section.has("profiles"):
        return frozenset({ProfileName.FAPI2})
    found = set()
    for text in section.texts("profiles"):
        if text in PROFILES:
            found.add(ProfileName(text))
        else:
            section.report(
                section.place("profiles"), f"'{text}' is not a profile of this version: {', '.join(PROFILES)}"
            )
    return frozenset(found)


def _lifetimes(section: Section) -> Lifetimes:
    inner = section.section("lifetimes")
    default = Lifetimes()
    if inner is None:
        return default
    # FAPI 2.0 Security Profile 5.3.2.2: request_uri under 600 s, codes at most 60 s.
    bounds = {
        "pushed_request": (1, 599),
        "code": (1, 60),
        "access_token": (10, 3600),
        "refresh_token": (60, 400 * 86400),
        "browser_session": (60, 86400),
        "sign_in": (60, 3600),
        "dpop_proof": (5, 300),
        "dpop_nonce": (30, 3600),
    }
    inner.known(*bounds)
    return Lifetimes(
        **{
            name: int(inner.seconds(name, getattr(default, name), low=low, high=high))
            for name, (low, high) in bounds.items()
        }
    )


def _attempts(section: Section) -> int:
    text = section.text("sign_in_attempts", "10/min")
    number, slash, unit = text.partition("/")
    if not number.isdigit() or not slash or unit != "min" or not 1 <= int(number) <= 1000:
        said = f"authorization.sign_in_attempts is '{text}', expected a number per minute such as 10/min"
        section.report(section.place("sign_in_attempts"), said)
        return 10
    return int(number)


def _storage(top: Section) -> StoreSettings:
    section = top.section("storage")
    if section is None:
        return StoreSettings(path=str(top.folder / "state/securus.db"))
    section.known("kind", "path", "synchronous")
    return StoreSettings(
        kind=section.word("kind", ("sqlite",), "sqlite"),
        path=str(section.path_of("path", "state/securus.db")),
        options={"synchronous": section.word("synchronous", ("normal", "full"), "normal")},
    )


def _keys(top: Section) -> KeySettings:
    section = top.section("keys")
    if section is None:
        return KeySettings(top.folder / "state/key-encryption.key")
    section.known("encryption_key", "algorithm", "announced_for", "active_for")
    inner = section.section("encryption_key", required=True)
    if inner is None:
        return KeySettings(None)
    if inner.has("file") and not inner.has("env"):
        # Made at first start: the file need not exist.
        return KeySettings(section.file("encryption_key", must_exist=False))
    text = section.secret("encryption_key")
    try:
        return KeySettings(None, None if text is None else read_encryption_key(text, "keys.encryption_key"))
    except KeyRingError as error:
        section.report(inner.node.place, str(error))
        return KeySettings(None)


def _limits(top: Section) -> Limits:
    section = top.section("limits")
    if section is None:
        return Limits()
    section.known("max_header", "max_url", "concurrent_requests", "drain")
    return Limits(
        max_header=section.size("max_header", 16 * 1024),
        max_url=section.size("max_url", 8 * 1024),
        concurrent_requests=section.integer("concurrent_requests", 1000, low=1, high=1_000_000),
        drain=section.seconds("drain", 30.0, low=0, high=3600),
    )


# People


def _accounts(top: Section) -> tuple[Account, ...]:
    found: list[Account] = []
    names: dict[str, Place] = {}
    for section in top.sections("users"):
        section.known("username", "subject", "name", "password", "patient", "patients", "claims")
        username = section.text("username")
        if username in names:
            section.report(
                section.place("username"),
                f"the username '{username}' is used twice (first in line {names[username].line})",
            )
        names.setdefault(username, section.place("username"))
        hashed = section.secret("password") or ""
        if hashed and not hashed.startswith("$argon2id$"):
            section.report(
                section.place("password"), "password must be an argon2id hash, from `securus user hash`"
            )
        found.append(
            Account(
                username=username,
                subject=section.text("subject"),
                password_hash=hashed,
                name=section.text("name"),
                claims=_claims(section),
                patient=section.optional_text("patient"),
                patients=tuple((p.text("id"), p.text("label")) for p in section.sections("patients")),
            )
        )
    subjects = [account.subject for account in found]
    if len(set(subjects)) != len(subjects):
        top.report(top.place("users"), "two users have the same subject")
    return tuple(found)


_RESERVED = frozenset(
    {
        "iss",
        "sub",
        "aud",
        "client_id",
        "iat",
        "exp",
        "nbf",
        "jti",
        "scope",
        "cnf",
        "grant_id",
        "auth_time",
        "acr",
        "amr",
    }
)


def _claims(section: Section) -> dict[str, object]:
    inner = section.section("claims")
    if inner is None:
        return {}
    for entry in inner.node:
        if entry.key in _RESERVED:
            inner.report(entry.place, f"the claim '{entry.key}' is the server's own")
    return inner.node.plain()


# Clients


def _clients(top: Section, authorization: AuthorizationSettings, *, has_mtls: bool) -> tuple[Client, ...]:
    found: list[Client] = []
    places: dict[str, Place] = {}
    for section in top.sections("clients"):
        client = _client(section, authorization, has_mtls=has_mtls)
        if client.client_id in places:
            line = places[client.client_id].line
            said = f"the client_id '{client.client_id}' is used twice (first in line {line})"
            section.report(section.place("client_id"), said)
        places.setdefault(client.client_id, section.place("client_id"))
        found.append(client)
    return tuple(found)


def _client(section: Section, authorization: AuthorizationSettings, *, has_mtls: bool) -> Client:
    section.known(
        "client_id", "name", "contact", "policy_url", "authentication", "binding", "grants", "redirect_uris", "scope",
        "jwks", "certificate_subject", "claims", "profile", "signed_requests", "signed_responses", "introspection",
    )  # fmt: skip
    profile = ProfileName(section.word("profile", [p.value for p in PROFILES], "fapi2"))
    if profile not in authorization.profiles:
        section.report(
            section.place("profile"), f"the profile '{profile}' is not switched on in authorization.profiles"
        )
    methods = sorted(m.value for m in PROFILES[profile].authentication_methods)
    method = AuthenticationMethod(section.word("authentication", methods))
    binding = BindingKind(section.word("binding", [b.value for b in BindingKind], "dpop"))
    if binding is BindingKind.MTLS and not has_mtls:
        section.report(
            section.place("binding"), "binding mtls needs a listener that sees client certificates"
        )
    if method is not AuthenticationMethod.PRIVATE_KEY_JWT and not has_mtls:
        section.report(
            section.place("authentication"), f"{method} needs a listener that sees client certificates"
        )
    grants = _grants(section)
    redirect_uris = section.texts("redirect_uris")
    if GrantType.AUTHORIZATION_CODE in grants and not redirect_uris:
        section.report(section.node.place, f"{section.path} uses authorization_code and has no redirect_uris")
    for uri in redirect_uris:
        _check_redirect_uri(section, uri)
    jwks = _jwks(section, method)
    signed_requests = section.word("signed_requests", _MUST_OR_MAY, "optional") == "required"
    if signed_requests and not jwks:
        section.report(
            section.place("signed_requests"), "signed_requests: required needs jwks to check the signatures"
        )
    return Client(
        client_id=section.text("client_id"),
        name=section.text("name"),
        authentication_method=method,
        scope=_scope(section),
        grant_types=grants,
        redirect_uris=redirect_uris,
        jwks=jwks,
        certificate_subject=_certificate_subject(section, method),
        binding=binding,
        profile=profile,
        claims=_claims(section),
        signed_requests_required=signed_requests,
        signed_responses_required=section.word("signed_responses", _MUST_OR_MAY, "optional") == "required",
        may_introspect=section.word("introspection", ("own", "all"), "own") == "all",
        policy_url=section.optional_text("policy_url"),
        contact=section.optional_text("contact"),
    )


def _grants(section: Section) -> frozenset[GrantType]:
    found = set()
    for text in section.texts("grants"):
        try:
            found.add(GrantType(text))
        except ValueError:
            choices = ", ".join(GrantType)
            section.report(section.place("grants"), f"'{text}' is not a grant of this version: {choices}")
    if not found:
        section.report(
            section.node.place, f"{section.path}.grants is missing, expected for example [client_credentials]"
        )
    return frozenset(found)


def _scope(section: Section) -> tuple[str, ...]:
    try:
        found = split_scope(section.text("scope"))
    except ValueError as error:
        section.report(section.place("scope"), str(error))
        return ()
    for text in found:
        if not is_known(text):
            section.report(
                section.place("scope"), f"'{text}' is not a scope: SMART v1 or v2, or openid, launch …"
            )
    return found


def _check_redirect_uri(section: Section, uri: str) -> None:
    place = section.place("redirect_uris")
    if not _REDIRECT_URI.fullmatch(uri):
        said = "a fragment, a space or a character that a URI does not have"
        section.report(place, f"redirect_uris: '{uri}' is not an absolute URI, or holds {said}")
        return
    try:
        parts = urlsplit(uri)
        host = parts.hostname
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        section.report(place, f"redirect_uris: '{uri}' has a host or port that is none")
        return
    if parts.scheme in ("http", "https") and not _HOST.fullmatch(parts.netloc):
        section.report(place, f"redirect_uris: '{uri}' must name one host, without a user and without '*'")
    elif parts.scheme == "http" and host not in ("127.0.0.1", "::1"):
        # RFC 8252 7.3: plain http for native apps on the loopback address only.
        section.report(
            place, f"redirect_uris: '{uri}' is http; expected https, or http://127.0.0.1 for native apps"
        )
    elif parts.scheme not in ("http", "https") and "." not in parts.scheme:
        section.report(
            place, f"redirect_uris: '{uri}' is neither https nor an app's own scheme such as com.example.app:"
        )


def _jwks(section: Section, method: AuthenticationMethod) -> tuple[Mapping[str, object], ...]:
    needed = method in (
        AuthenticationMethod.PRIVATE_KEY_JWT,
        AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH,
    )
    path = section.file("jwks", required=needed)
    if path is None or not path.is_file():
        return ()
    place = section.place("jwks")
    try:
        keys = json.loads(path.read_text(encoding="utf-8"))["keys"]
        found = tuple(dict(key) for key in keys)
    except (OSError, ValueError, KeyError, TypeError):
        section.report(place, f"'{path}' does not hold a JWK Set: {{\"keys\": [...]}}")
        return ()
    if not found:
        section.report(place, f"'{path}' holds no key")
    for number, key in enumerate(found):
        try:
            jose.import_public_jwk(key)
        except JoseError as error:
            section.report(place, f"key {number} of '{path}': {error}")
    return found


def _certificate_subject(section: Section, method: AuthenticationMethod) -> CertificateSubject | None:
    inner = section.section("certificate_subject", required=method is AuthenticationMethod.TLS_CLIENT_AUTH)
    if inner is None:
        return None
    inner.known(*_SUBJECTS)
    given = [entry.key for entry in inner.node if entry.key in _SUBJECTS]
    if len(given) != 1:
        inner.report(inner.node.place, f"certificate_subject must have exactly one of {', '.join(_SUBJECTS)}")
        return None
    return CertificateSubject(given[0], inner.text(given[0]))


def _scopes_supported(clients: tuple[Client, ...]) -> tuple[str, ...]:
    """What metadata tells: the scopes of all clients, without those that are accepted and never granted."""
    found = {text for client in clients for text in client.scope} - {"openid", "profile"}
    return tuple(sorted(found))
