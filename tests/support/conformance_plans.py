"""The plans of the OpenID Foundation's suite that fit this server, and a gateway with the clients that they need."""

import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.demo import world
from tests.support.client_matrix import new_key, self_signed
from tests.support.jose import private_jwk, public_jwk
from tests.support.processes import GatewayProcess, start_process

SECURITY_PROFILE = "fapi2-security-profile-final-test-plan"
MESSAGE_SIGNING = "fapi2-message-signing-final-test-plan"
_MODULE = "fapi2-security-profile-final-"
_SCOPE = "offline_access launch/patient patient/*.rs"


@dataclass(frozen=True)
class Chosen:
    """A plan with its choices."""

    name: str
    plan: str
    variant: dict[str, str]
    self_signed: bool = False

    @property
    def by_certificate(self) -> bool:
        """Whether its clients authenticate by certificates."""
        return self.variant["client_auth_type"] == "mtls"

    @property
    def authentication(self) -> str:
        """How its clients authenticate, as gateway.yaml calls it."""
        if not self.by_certificate:
            return "private_key_jwt"
        return "self_signed_tls_client_auth" if self.self_signed else "tls_client_auth"

    @property
    def bound_to_certificates(self) -> bool:
        """Whether its tokens are bound to certificates."""
        return self.variant["sender_constrain"] == "mtls"

    @property
    def grants(self) -> list[str]:
        """The grants of its clients."""
        own = self.variant["fapi_profile"] == "fapi_client_credentials_grant"
        return ["client_credentials"] if own else ["authorization_code", "refresh_token"]

    @property
    def scope(self) -> str:
        """What its clients ask for."""
        if self.grants == ["client_credentials"]:
            return "system/Observation.rs"
        return f"openid {_SCOPE}" if self.variant["openid"] == "openid_connect" else _SCOPE


def _security_profile(auth: str, binding: str, openid: str) -> Chosen:
    short = {"private_key_jwt": "key", "openid_connect": "openid", "plain_oauth": "oauth"}
    name = f"sp-{short.get(auth, auth)}-{binding}-{short[openid]}"
    variant = {"client_auth_type": auth, "sender_constrain": binding, "openid": openid}
    return Chosen(
        name,
        SECURITY_PROFILE,
        variant | {"fapi_profile": "plain_fapi", "authorization_request_type": "simple"},
    )


def _credentials(auth: str, binding: str) -> Chosen:
    name = f"sp-{'key' if auth == 'private_key_jwt' else auth}-{binding}-credentials"
    variant = {"client_auth_type": auth, "sender_constrain": binding, "openid": "plain_oauth"}
    return Chosen(
        name,
        SECURITY_PROFILE,
        variant | {"fapi_profile": "fapi_client_credentials_grant", "authorization_request_type": "simple"},
    )


def _message_signing(auth: str, binding: str, request: str, response: str) -> Chosen:
    name = f"ms-{'key' if auth == 'private_key_jwt' else auth}-{binding}-{request}-{response}"
    return Chosen(
        name,
        MESSAGE_SIGNING,
        {
            "client_auth_type": auth,
            "sender_constrain": binding,
            "openid": "openid_connect",
            "fapi_profile": "plain_fapi",
            "authorization_request_type": "simple",
            "fapi_request_method": "signed_non_repudiation" if request == "signed" else "unsigned",
            "fapi_response_mode": "jarm" if response == "jarm" else "plain_response",
        },
    )


def _self_signed(chosen: Chosen) -> Chosen:
    """The same plan with certificates that the clients made themselves (RFC 8705 2.2)."""
    return Chosen(f"{chosen.name}-self-signed", chosen.plan, chosen.variant, self_signed=True)


def _with_details(chosen: Chosen) -> Chosen:
    """The same plan with authorization_details instead of clinical scopes (RFC 9396)."""
    return Chosen(f"{chosen.name}-rar", chosen.plan, chosen.variant | {"authorization_request_type": "rar"})


_WAYS = [(auth, binding) for auth in ("private_key_jwt", "mtls") for binding in ("dpop", "mtls")]
PLANS = (
    *(_security_profile(*way, openid) for openid in ("openid_connect", "plain_oauth") for way in _WAYS),
    *(_credentials(*way) for way in _WAYS),
    *(_message_signing(*way, "signed", "jarm") for way in _WAYS),
    _message_signing("private_key_jwt", "dpop", "signed", "plain"),
    _message_signing("private_key_jwt", "dpop", "unsigned", "jarm"),
    _with_details(_security_profile("private_key_jwt", "dpop", "openid_connect")),
    _with_details(_message_signing("private_key_jwt", "dpop", "signed", "jarm")),
    _self_signed(_security_profile("mtls", "mtls", "openid_connect")),
)


@dataclass
class Site:
    """The gateway, the store behind it, and what the suite must know for each plan."""

    gateway: GatewayProcess
    store: asyncio.subprocess.Process
    configs: dict[str, dict[str, Any]]

    async def stop(self) -> None:
        """End both processes."""
        await self.gateway.stop()
        with suppress(ProcessLookupError):
            self.store.terminate()
        await self.store.wait()


async def start_site(folder: Path, suite: str) -> Site:
    """A gateway that knows two clients for every plan; suite is the address that the suite gives as its own."""
    port = world.free_port()
    store = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.demo.fhir_server", str(port),
        stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert store.stdout is not None
    assert await store.stdout.readline() == b"ready\n"
    told: dict[str, dict[str, Any]] = {}

    def change(document: dict[str, Any]) -> None:
        authority = world.Authority.new("Certificates of the suite's clients")
        (folder / "suite-ca.pem").write_bytes(authority.pem)
        document["listen"]["mtls"]["client_certificate_anchors"] = {"file": "suite-ca.pem"}
        document["upstreams"]["fhir"]["base"] = f"http://127.0.0.1:{port}/fhir"
        document["authorization"]["sign_in_attempts"] = "1000/min"
        # Each module leaves a grant behind, and a record has 200 consents in force at most.
        document["authorization"].setdefault("lifetimes", {})["refresh_token"] = "2m"
        for chosen in PLANS:
            told[chosen.name] = {}
            for number in ("", "2"):
                entry, facts = _client(folder, authority, chosen, number, suite)
                document["clients"].append(entry)
                told[chosen.name] |= facts

    try:
        gateway = await start_process(folder, change=change)
    except BaseException:
        store.terminate()
        await store.wait()
        raise
    person = next(user for user in gateway.facts["users"] if user["username"] == "stephen")
    configs = {
        chosen.name: told[chosen.name] | _common(chosen, gateway.facts, person, suite) for chosen in PLANS
    }
    return Site(gateway, store, configs)


def _client(
    folder: Path, authority: world.Authority, chosen: Chosen, number: str, suite: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its entry in gateway.yaml, and the parts of the suite's configuration that speak of it."""
    name = f"{chosen.name}-{number or '1'}"
    # The first client signs with RSA, or the suite skips its module on RS256.
    algorithm = "ES256" if number else "PS256"
    key = new_key(algorithm)
    named = {"kid": f"{name}-key", "use": "sig", "alg": algorithm}
    registered = [public_jwk(key, **named)]
    certificate, certificate_key = folder / f"{name}.pem", folder / f"{name}.key"
    if chosen.self_signed:
        registered.append(self_signed(certificate, certificate_key, name))
    else:
        authority.issue(certificate, certificate_key, f"{name}.example", server=False)
    (folder / f"{name}.jwks.json").write_text(json.dumps({"keys": registered}), encoding="ascii")
    callback = f"{suite}/test/a/{chosen.name}/callback"
    entry: dict[str, Any] = {
        "client_id": name,
        "name": name,
        "contact": "support@suite.example",
        "authentication": chosen.authentication,
        "binding": chosen.variant["sender_constrain"],
        "grants": chosen.grants,
        "scope": chosen.scope,
        "jwks": {"file": f"{name}.jwks.json"},
        "claims": {"organization": "laboratory", "purpose_of_use": ["TREAT"]},  # of tokens of its own
        "authorization_details_types": ["fhir-access"],
    }
    if "authorization_code" in chosen.grants:
        entry["redirect_uris"] = [callback, f"{callback}?dummy1=lorem&dummy2=ipsum"]
    if chosen.authentication == "tls_client_auth":
        entry["certificate_subject"] = {"san_dns": f"{name}.example"}
    if chosen.variant.get("fapi_request_method") == "signed_non_repudiation":
        entry["signed_requests"] = "required"
    if chosen.variant.get("fapi_response_mode") == "jarm":
        entry["signed_responses"] = "required"
    facts: dict[str, Any] = {
        f"client{number}": {
            "client_id": name,
            "scope": chosen.scope,
            "jwks": {"keys": [private_jwk(key, **named)]},
            "dpop_signing_alg": "ES256",
        }
    }
    if chosen.by_certificate or chosen.bound_to_certificates:
        facts[f"mtls{number}"] = {
            "cert": certificate.read_text(),
            "key": certificate_key.read_text(),
            **({} if chosen.self_signed else {"ca": authority.pem.decode()}),
        }
    return entry, facts


def _common(chosen: Chosen, facts: dict[str, Any], person: dict[str, Any], suite: str) -> dict[str, Any]:
    """What does not depend on the client: addresses, and what the suite's own browser does at our pages."""
    issuer = facts["issuer"]
    base = facts["fhir_base_mtls" if chosen.bound_to_certificates else "fhir_base"]
    discovery = (
        "openid-configuration"
        if chosen.variant.get("openid") == "openid_connect"
        else "oauth-authorization-server"
    )
    own = chosen.grants == ["client_credentials"]
    return {
        "alias": chosen.name,
        "description": f"Securus, {chosen.name}",
        "server": {"discoveryUrl": f"{issuer}/.well-known/{discovery}"},
        "resource": {
            "resourceUrl": f"{base}/Observation?_count=1" if own else f"{base}/Patient/{world.PATIENT}",
            "resourceMethod": "GET",
            "richAuthorizationRequest": [
                {"type": "fhir-access", "actions": ["read", "search"], "datatypes": ["Patient"]}
            ],
        },
        "browser": _browser(issuer, suite, person, "allow"),
        "override": {
            _MODULE + "user-rejects-authentication": {"browser": _browser(issuer, suite, person, "deny")},
            # Its first visit must see the page and do nothing.
            _MODULE + "par-ensure-reused-request-uri-prior-to-auth-completion-succeeds": {
                "browser": [
                    {"match": f"{issuer}/authorize*", "match-limit": 1, "tasks": []},
                    *_browser(issuer, suite, person, "allow"),
                ]
            },
        },
        "options": {"browsercontrol_css_enable": False},
    }


def _browser(issuer: str, suite: str, person: dict[str, Any], button: str) -> list[dict[str, Any]]:
    """Sign in where one is asked, press the button where there is one, and end at the suite's page or at our error page."""
    sign_in = [
        ["text", "name", "username", person["username"], "optional"],
        ["text", "name", "password", person["password"], "optional"],
        ["click", "id", "login", "optional"],
    ]
    shown = ["wait", "xpath", "//h1", 10, ".+", "update-image-placeholder-optional"]
    return [
        {
            "match": f"{issuer}/authorize*",
            "tasks": [
                {"task": "sign in", "match": f"{issuer}/*", "optional": True, "commands": sign_in},
                {
                    "task": "decide",
                    "match": f"{issuer}/*",
                    "optional": True,
                    "commands": [["click", "id", button, "optional"]],
                },
                {"task": "see the error", "match": f"{issuer}/*", "optional": True, "commands": [shown]},
                {
                    "task": "return",
                    "match": f"{suite}/*",
                    "optional": True,
                    "commands": [["wait", "id", "submission_complete", 10]],
                },
            ],
        }
    ]
