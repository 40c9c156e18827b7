"""The demonstration's world: people, apps, their keys, gateway.yaml and demo.json, made afresh in one folder."""

import json
import secrets
import shutil
import socket
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from authz.login.accounts import hash_password
from gateway.demo import exchange
from gateway.demo.authority import Authority
from gateway.demo.client import Key

REDIRECT_URI = "https://localhost.example/callback"
PATIENT = exchange.STEPHEN
OTHER_PATIENT = exchange.ANTONY
_PHYSICIAN = "Practitioner/a1b28730-eedd-4efa-870e-a70af74fec46"
_NURSE = "Practitioner/ec06fc71-7541-44d0-80cf-6b0eec00ab3b"
_PRIVACY = "Practitioner/99111a26-5d57-480b-9af9-9bd645aa5e64"
_ADMINISTRATOR = "Practitioner/22d56828-df1d-4739-82b9-45a3757b3a5f"
_PORTAL_SCOPE = "openid fhirUser offline_access launch/patient patient/*.rs user/*.rs"
_NAMESPACE = uuid.UUID("6f1c1c1e-5d7c-4a0b-9d43-8f4f6a2f7c11")


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens."""

    public: int
    mtls: int
    operations: int
    upstream: int


_given: deque[int] = deque(maxlen=10_000)


def free_port() -> int:
    """A loopback port that nobody uses now, below those that the kernel gives to outgoing connections.

    One of those could be taken by any connection between the look here and the moment when somebody listens. Nor is it
    one that was given before by this process: whoever got that has perhaps not listened yet.
    """
    for _ in range(200):
        port = 10_000 + secrets.randbelow(22_000)
        if port in _given:
            continue
        with socket.socket() as listening, suppress(OSError):
            listening.bind(("127.0.0.1", port))
            _given.append(port)
            return port
    raise OSError("no free port found on 127.0.0.1")


def build(folder: Path, ports: Ports) -> dict[str, Any]:
    """Write everything into folder; what stands in demo.json."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for stale in (folder / "securus.db", folder / "securus.db-wal", folder / "securus.db-shm"):
        stale.unlink(missing_ok=True)
    authority = Authority.new("Securus demonstration CA")
    (folder / "ca.pem").write_bytes(authority.pem)
    authority.issue(folder / "server.pem", folder / "server.key", "localhost", server=True)
    people = [_person(folder, *row) for row in _PEOPLE]
    apps = [_app(folder, authority, row) for row in _APPS]
    _copy_policies(folder / "policies")
    config = folder / "gateway.yaml"
    config.write_text(_config(ports, people, apps), encoding="utf-8")
    issuer = f"https://localhost:{ports.public}"
    demo = {
        "issuer": issuer,
        "ca_certificate": str(folder / "ca.pem"),
        "fhir_base": f"{issuer}/fhir/r4",
        "fhir_base_mtls": f"https://localhost:{ports.mtls}/fhir/r4",
        "cda_base": f"{issuer}/cda",
        "ops_base": f"http://127.0.0.1:{ports.operations}",
        "upstream_fhir_base": f"http://127.0.0.1:{ports.upstream}/fhir",
        "config": str(config),
        "users": [
            {name: person[name] for name in ("username", "password", "roles", "fhirUser", "patient")}
            for person in people
        ],
        "clients": [app["public"] for app in apps],
        "documents": exchange.documents(issuer, f"https://localhost:{ports.mtls}"),
    }
    (folder / "demo.json").write_text(json.dumps(demo, indent=2) + "\n", encoding="utf-8")
    (folder / "demo.json").chmod(0o600)
    return demo


# username, name, roles, fhirUser, own patient, patients to choose from
_PEOPLE: tuple[tuple[str, str, str, str, str | None], ...] = (
    ("stephen", "Stephen McLaughlin", "patient", f"Patient/{PATIENT}", PATIENT),
    ("antony", "Antony Anderson", "patient", f"Patient/{OTHER_PATIENT}", OTHER_PATIENT),
    ("dr.allen", "Dr. Allen, physician", "physician", _PHYSICIAN, None),
    ("nurse.kim", "Nurse Kim", "nurse", _NURSE, None),
    ("officer.lane", "Privacy officer Lane", "privacy-officer", _PRIVACY, None),
    ("admin.reed", "Administrator Reed", "administrator", _ADMINISTRATOR, None),
)
_WARD = [
    {"id": PATIENT, "label": "Stephen McLaughlin, born 1979"},
    {"id": OTHER_PATIENT, "label": "Antony Anderson, born 1986"},
]


def _person(
    folder: Path, username: str, name: str, role: str, fhir_user: str, patient: str | None
) -> dict[str, Any]:
    password = secrets.token_urlsafe(12)
    path = folder / f"{username}.argon2"
    path.write_text(hash_password(password) + "\n", encoding="ascii")
    entry: dict[str, Any] = {
        "username": username,
        "subject": str(uuid.uuid5(_NAMESPACE, username)),
        "name": name,
        "password": {"file": path.name},
        "claims": {"fhirUser": fhir_user, "roles": [role]},
    }
    if patient is not None:
        entry["patient"] = patient
    elif role in ("physician", "nurse"):
        entry["patients"] = _WARD
    return {
        "entry": entry,
        "username": username,
        "password": password,
        "roles": [role],
        "fhirUser": fhir_user,
        "patient": patient,
    }


# name, title, by certificate, grants, scope, claims
_CODE = ["authorization_code", "refresh_token"]
_APPS: tuple[tuple[str, str, bool, list[str], str, dict[str, object]], ...] = (
    ("portal-dpop", "Patient portal", False, _CODE, _PORTAL_SCOPE, {}),
    ("portal-dpop-2", "Second opinion app", False, _CODE, _PORTAL_SCOPE, {}),
    ("portal-mtls", "Hospital kiosk", True, _CODE, _PORTAL_SCOPE, {}),
    ("portal-mtls-2", "Ward terminal", True, _CODE, _PORTAL_SCOPE, {}),
    ("portal-signed", "Signed portal", False, _CODE, _PORTAL_SCOPE, {}),
    ("resource-server", "Document archive", False, ["client_credentials"], "system/Organization.rs", {}),
    (
        "lab-backend",
        "Laboratory information system",
        False,
        ["client_credentials"],
        "system/Observation.crs",
        {"organization": "laboratory", "purpose_of_use": ["TREAT"]},
    ),
    (
        "exchange-mtls",
        "Regional exchange",
        True,
        ["client_credentials"],
        "system/Organization.rs system/Location.rs system/DocumentReference.r system/Binary.r",
        {"organization": "exchange", "purpose_of_use": ["TREAT"]},
    ),
    (
        "laboratory-mtls",
        "Laboratory North",
        True,
        ["client_credentials"],
        "system/DocumentReference.c system/Binary.c",
        {"organization": "external-laboratory", "purpose_of_use": ["TREAT"]},
    ),
    (
        "pharmacy-dpop",
        "Pharmacy at the market",
        False,
        ["client_credentials"],
        "system/DocumentReference.r system/Binary.r",
        {"organization": "pharmacy", "purpose_of_use": ["TREAT"]},
    ),
    ("smart-app", "Growth chart", False, _CODE, "openid fhirUser launch/patient patient/*.rs", {}),
    ("smart-backend", "Research export", False, ["client_credentials"], "system/Organization.rs", {}),
)


_DETAILS: dict[str, object] = {"authorization_details_types": ["fhir-access"]}
_MORE: dict[str, dict[str, object]] = {
    "portal-dpop": _DETAILS,
    "portal-mtls": _DETAILS,
    "portal-signed": {"signed_requests": "required", "signed_responses": "required", **_DETAILS},
    "lab-backend": _DETAILS,
    "resource-server": {"introspection": "all"},
    "smart-app": {"profile": "smart-public", "authentication": "none", "require_dpop": False},
    "smart-backend": {"profile": "smart-asymmetric", "require_dpop": False},
}


def _app(
    folder: Path, authority: Authority, row: tuple[str, str, bool, list[str], str, dict[str, object]]
) -> dict[str, Any]:
    name, title, by_certificate, grants, scope, claims = row
    redirect_uris = [REDIRECT_URI] if "authorization_code" in grants else []
    entry: dict[str, Any] = {
        "client_id": name,
        "name": title,
        "contact": f"support@{name}.example",
        "authentication": "tls_client_auth" if by_certificate else "private_key_jwt",
        "binding": "mtls" if by_certificate else "dpop",
        "grants": grants,
        "redirect_uris": redirect_uris,
        "scope": scope,
        "claims": claims,
        **_MORE.get(name, {}),
    }
    public: dict[str, Any] = {
        "name": name,
        "client_id": name,
        "token_endpoint_auth_method": entry["authentication"],
        "jwks": None,
        "redirect_uris": redirect_uris,
        "scope": scope,
        "certificate": None,
        "certificate_key": None,
    }
    if by_certificate:
        dns = f"{name}.example"
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        authority.issue(certificate, key, dns, server=False)
        entry["certificate_subject"] = {"san_dns": dns}
        public |= {"certificate": str(certificate), "certificate_key": str(key)}
    elif entry["authentication"] == "private_key_jwt":
        own = Key.new(f"{name}-1")
        path = folder / f"{name}.jwks.json"
        public_jwk = {**own.public, "kid": own.kid, "use": "sig", "alg": "ES256"}
        path.write_text(json.dumps({"keys": [public_jwk]}), encoding="ascii")
        entry["jwks"] = {"file": path.name}
        public["jwks"] = {"keys": [own.private_jwk()]}
    return {"entry": entry, "public": public}


def _config(ports: Ports, people: list[dict[str, Any]], apps: list[dict[str, Any]]) -> str:
    files = {"certificate": {"file": "server.pem"}, "key": {"file": "server.key"}}
    document = {
        "version": 1,
        "public_url": f"https://localhost:{ports.public}",
        "mtls_url": f"https://localhost:{ports.mtls}",
        "organisation": "Example Hospital",
        "listen": {
            "public": {"address": "127.0.0.1", "port": ports.public, "tls": files},
            "mtls": {
                "address": "127.0.0.1",
                "port": ports.mtls,
                "tls": files,
                "client_certificate_anchors": {"file": "ca.pem"},
            },
            "operations": {"address": "127.0.0.1", "port": ports.operations},
        },
        "storage": {"kind": "sqlite", "path": "securus.db"},
        "keys": {"encryption_key": {"file": "key-encryption.key"}},
        "upstreams": {
            "fhir": {
                "kind": "fhir-r4",
                "at": "/fhir/r4",
                "base": f"http://127.0.0.1:{ports.upstream}/fhir",
                "picker": {},
                "consents": {"kept": "here"},
            },
            "cda": exchange.mount(f"http://127.0.0.1:{ports.upstream}"),
        },
        "authorization": {"profiles": ["fapi2", "smart-public", "smart-asymmetric"]},
        "policies": "policies",
        "officer": {"roles": ["privacy-officer"]},
        "users": [person["entry"] for person in people],
        "clients": [app["entry"] for app in apps],
    }
    text: str = yaml.dump(document, Dumper=_NoAliases, sort_keys=False, allow_unicode=True, width=110)
    return "# Written by `securus demo`. Edit and restart `securus serve -c` on it as you like.\n" + text


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _copy_policies(folder: Path) -> None:
    """The shipped policies: beside the package in a checkout, else those that were installed with it."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    checkout = Path(str(resources.files("gateway"))).parent / "policies"
    for path in sorted(checkout.glob("*.yaml")):
        shutil.copy(path, folder / path.name)
