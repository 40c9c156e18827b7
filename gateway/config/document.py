"""gateway.yaml → GatewaySettings: typed, complete, every mistake of a file reported in one run, with its place."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from authz.protocol.client_profiles import PROFILES
from authz.protocol.clients import ProfileName
from authz.protocol.origins import is_origin
from authz.settings import AuthorizationSettings, Lifetimes, Protected
from gateway.config.account_pages import read_account_pages
from gateway.config.accounts import read_accounts
from gateway.config.audit import read_audit
from gateway.config.audit_log import read_audit_log
from gateway.config.brands import read_brands
from gateway.config.details import read_detail_types
from gateway.config.keys import read_key_periods, read_key_settings
from gateway.config.limits import read_limits
from gateway.config.network import read_fetch, read_listeners, read_upstreams, takes_certificates
from gateway.config.notifications import read_notifications
from gateway.config.officer import read_officer
from gateway.config.registration import read_registration
from gateway.config.registrations import read_clients, scopes_of
from gateway.config.schema import Section
from gateway.config.storage import read_storage
from gateway.settings import (
    GatewaySettings,
    Readers,
    ResponseSignatures,
    Upstream,
)
from gateway.yaml_source import Mapping as YamlMapping
from gateway.yaml_source import Problem, YamlError, parse

_TOP = (
    "version", "public_url", "mtls_url", "organisation", "privacy_url", "listen", "storage", "keys", "authorization",
    "authorization_details", "upstreams", "policies", "limits", "fetch", "notifications", "users", "clients",
    "registration", "cors", "brands", "workers", "account_pages", "officer", "audit",
)  # fmt: skip
MOST_WORKERS = 64
_MAX_FILE = 4 * 1024 * 1024


class ConfigErrors(Exception):
    """The configuration cannot be used. problems names every mistake."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(map(str, self.problems)))


def load(path: Path, environ: Mapping[str, str], *, copy: Path | None = None) -> GatewaySettings:
    """The settings in this file, secrets resolved. Raises ConfigErrors with every problem.

    copy holds what the file held when it was read first.
    """
    name = str(path)
    try:
        raw = (copy or path).read_bytes()
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
    listeners, operations = read_listeners(top, public, mtls)
    upstreams = read_upstreams(top, public, mtls)
    authorization = read_key_periods(top, _authorization(top, public, mtls, upstreams))
    clients = read_clients(
        top,
        authorization,
        has_mtls=any(takes_certificates(listener) for listener in listeners),
        ends_mtls=any(listener.client_certificates for listener in listeners),
    )
    notifications = read_notifications(top)
    settings = GatewaySettings(
        file=path,
        listeners=listeners,
        operations=operations,
        authorization=replace(authorization, scopes_supported=scopes_of(clients)),
        storage=read_storage(top),
        keys=read_key_settings(top),
        upstreams=upstreams,
        policies=top.path_of("policies", "policies"),
        clients=clients,
        accounts=read_accounts(top),
        limits=read_limits(top),
        fetch=read_fetch(top),
        notifications=notifications,
        audit_log=read_audit_log(top),
        audit=read_audit(top),
        workers=top.integer("workers", 1, low=1, high=MOST_WORKERS),
        cors=Readers(top.word("cors", list(Readers), "registered")),
        account_pages=read_account_pages(top, public, upstreams),
        officer=read_officer(top, receivers=notifications),
    )
    if not settings.policies.is_dir():
        top.report(top.place("policies"), f"policies: there is no folder '{settings.policies}'")
    return settings


def _authorization(
    top: Section, public: str, mtls: str | None, upstreams: tuple[Upstream, ...]
) -> AuthorizationSettings:
    section = top.section("authorization")
    profiles = _profiles(section)
    settings = AuthorizationSettings(
        issuer=public,
        mtls_origin=mtls,
        profiles=profiles,
        resources=tuple(
            Protected(
                u.identifier,
                u.at,
                u.kind,
                tuple(sorted(u.bases - {u.identifier})),
                signs=u.response_signatures is not ResponseSignatures.OFF,
                picker=u.picker is not None,
            )
            for u in upstreams
        ),
        detail_types=read_detail_types(top),
        organisation=top.text("organisation", "this hospital"),
        privacy_url=top.optional_text("privacy_url"),
        registration=read_registration(top, profiles),
        brands=read_brands(top, public, upstreams),
    )
    if section is None:
        return settings
    section.known(
        "profiles", "lifetimes", "dpop_nonce", "sign_in_attempts", "rotate_refresh_tokens", "frame_ancestors",
    )  # fmt: skip
    return replace(
        settings,
        lifetimes=_lifetimes(section),
        dpop_nonce_required=section.word("dpop_nonce", ("required", "offered"), "required") == "required",
        rotate_refresh_tokens=section.flag("rotate_refresh_tokens", False),
        sign_in_attempts_per_minute=section.per_minute("sign_in_attempts", 10),
        frame_ancestors=_frame_ancestors(section),
    )


def _frame_ancestors(section: Section) -> tuple[str, ...]:
    """The origins that may show the pages of an authorization in a frame: each one named, of https."""
    found = section.texts("frame_ancestors")
    for text in found:
        if not (is_origin(text) and text.startswith("https://")):
            said = f"frame_ancestors: '{text}' is no https origin, such as https://ehr.hospital.example"
            section.report(section.place("frame_ancestors"), said)
    return found


def _profiles(section: Section | None) -> frozenset[ProfileName]:
    if section is None or not section.has("profiles"):
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
        "refresh_grace": (30, 3600),
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
