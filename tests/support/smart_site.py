"""A gateway with SMART apps of every kind in front of the sample store, each in a process or thread of its own."""

import asyncio
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.demo.client import Key
from gateway.demo.fhir_server import SampleServer
from gateway.demo.fhir_store import SampleStore, sample_resources
from gateway.demo.world import OTHER_PATIENT, PATIENT
from tests.support.jose import private_jwk, rsa_key
from tests.support.processes import GatewayProcess, start_process
from tests.support.smart import assertion_384, jwk_384

SCOPE = "openid fhirUser launch launch/patient launch/encounter offline_access online_access patient/*.cruds user/*.rs"
BACKEND_SCOPE = "system/Patient.rs system/Observation.rs system/Group.rs"
REDIRECT_URI = "https://app.example/callback"
WARD = {
    "resourceType": "Group",
    "id": "ward",
    "type": "person",
    "actual": True,
    "member": [{"entity": {"reference": f"Patient/{id}"}} for id in (PATIENT, OTHER_PATIENT)],
}
POLICY = """
policy: smart-apps
version: 1
owner: tests
text: Apps whose tokens are bound to no key, and backends that export.
status: enforce
rules:
  - rule: own-chart-by-any-app
    effect: permit
    who: {context: patient}
    may: [read, search]
    resources: [Patient, Coverage, Goal, RelatedPerson, ServiceRequest, Specimen, $chart]
    where: {compartment: {patient: "{token.patient}", membership: subject}}
    conceal: true
    because: A person sees the own record with an app that the person allowed.
  - rule: backends-read
    effect: permit
    who: {context: system, org: registry}
    may: [read, search]
    resources: [Patient, Observation, Group]
    shared: true
    because: The registry reads what it was contracted for.
  - rule: backends-export
    effect: permit
    who: {context: system, org: registry}
    may: ["operation:Group/$export"]
    resources: [Group]
    where: {ids: [ward]}
    operation: {types: [Patient, Observation]}
    because: The registry takes its group over.
tests:
  - test: a stranger's record is not found
    as: {context: patient, patient: A}
    request: GET /Patient/B
    expect: {decision: deny, status: 404, upstream: none}
"""


class _Exporting(SampleServer):
    """The sample server, which exports but does not say so."""

    def _capability(self) -> dict[str, Any]:
        statement = super()._capability()
        definition = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/group-export"
        for resource in statement["rest"][0]["resource"]:
            if resource["type"] == "Group":
                resource["operation"] = [{"name": "export", "definition": definition}]
        return statement


class StoreThread:
    """The sample store on a loop of its own, so that it answers while a test waits for a browser."""

    def __init__(self, port: int, more: Sequence[dict[str, Any]] = ()) -> None:
        self._loop = asyncio.new_event_loop()
        started = threading.Event()

        async def listen() -> web.ServerRunner:
            base = f"http://127.0.0.1:{port}/fhir"
            server = _Exporting(SampleStore.of([*sample_resources(), WARD, *more]), base)
            runner = web.ServerRunner(web.Server(server.handle, access_log=None), shutdown_timeout=1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            return runner

        def run() -> None:
            self._runner = self._loop.run_until_complete(listen())
            started.set()
            self._loop.run_forever()
            self._loop.run_until_complete(self._runner.cleanup())
            self._loop.close()

        self._thread = threading.Thread(target=run, name="store", daemon=True)
        self._thread.start()
        assert started.wait(30)

    def close(self) -> None:
        """Stop listening."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


@dataclass
class SmartSite:
    """The running gateway, and the secrets of its apps."""

    gateway: GatewayProcess
    store: StoreThread
    secret: str
    keys: dict[str, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey] = field(default_factory=dict)

    @property
    def issuer(self) -> str:
        """The authorization server."""
        return str(self.gateway.facts["issuer"])

    @property
    def base(self) -> str:
        """The FHIR base, as apps are launched for it."""
        return str(self.gateway.facts["fhir_base"])

    def user(self, username: str) -> dict[str, Any]:
        """An account of the demonstration, with its subject and password."""
        document = json.loads(Path(self.gateway.facts["config"]).read_text())
        told = next(user for user in self.gateway.facts["users"] if user["username"] == username)
        entry = next(user for user in document["users"] if user["username"] == username)
        return {**entry, **told}

    def private_jwk(self, algorithm: str) -> dict[str, Any]:
        """The private key of the apps with keys, for ES384 or RS384."""
        return private_jwk(self.keys[algorithm], kid=algorithm, alg=algorithm)

    async def launch(self, client_id: str, username: str, **context: Any) -> dict[str, Any]:
        """The launch that the record system makes for this app and person: launch and iss."""
        body = {"client_id": client_id, "aud": self.base, "user": self.user(username)["subject"], **context}
        async with self.gateway.session("ehr") as ehr:
            token = await self.gateway.own_token(ehr, "securus/launch")
            url = f"{self.issuer}/launch"
            for _ in range(2):  # the first answer brings the nonce
                headers = {"Authorization": f"DPoP {token}", "DPoP": ehr.proof("POST", url, token)}
                async with ehr.http.post(url, json=body, headers=headers) as made:
                    if made.status == 201:
                        told: dict[str, Any] = await made.json()
                        return told
                    ehr.nonces["gateway"] = made.headers["DPoP-Nonce"]
            raise AssertionError(await made.text())

    def browser(self) -> aiohttp.ClientSession:
        """What a person's browser opens pages with: trusts the gateway's certificate, keeps no cookies of its own."""
        context = ssl.create_default_context(cafile=self.gateway.facts["ca_certificate"])
        connector = aiohttp.TCPConnector(ssl=context)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    async def stop(self) -> None:
        """Stop all of it."""
        try:
            assert await self.gateway.stop() == 0
        finally:
            self.store.close()


async def start_smart_site(
    folder: Path,
    *,
    redirect_uri: str = REDIRECT_URI,
    resources: Sequence[dict[str, Any]] = (),
    change: Callable[[dict[str, Any]], None] | None = None,
) -> SmartSite:
    """A gateway with every profile on, and an app of each: app-public, app-dpop, app-keys, app-secret, backend,
    imaging, which may ask about tokens.

    resources are in the store beside the sample.
    """
    secret = secrets.token_hex(32)
    keys: dict[str, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey] = {
        "ES384": ec.generate_private_key(ec.SECP384R1()),
        "RS384": rsa_key(),
    }
    record_system = Key.new("ehr-1")
    (folder / "app.secret").write_text(secret)
    public = [jwk_384(key, algorithm) for algorithm, key in keys.items()]
    (folder / "apps.jwks.json").write_text(json.dumps({"keys": public}))
    own = {**record_system.public, "kid": "ehr-1", "alg": "ES256", "use": "sig"}
    (folder / "ehr.jwks.json").write_text(json.dumps({"keys": [own]}))

    def changed(document: dict[str, Any]) -> None:
        document["authorization"] |= {
            "profiles": ["fapi2", "smart-public", "smart-asymmetric", "smart-symmetric"],
            "rotate_refresh_tokens": True,
        }
        document["keys"]["id_token_algorithms"] = ["RS256"]
        document["upstreams"]["fhir"]["picker"] = {}
        document["clients"] += _apps(redirect_uri)
        if change is not None:
            change(document)

    gateway = await start_process(folder, change=changed, policies={"90-smart-apps.yaml": POLICY})
    gateway.facts["clients"].append(
        {
            "name": "ehr",
            "client_id": "ehr",
            "jwks": {"keys": [record_system.private_jwk()]},
            "certificate": None,
        }
    )
    return SmartSite(gateway, StoreThread(gateway.ports.upstream, resources), secret, keys)


def _apps(redirect_uri: str) -> list[dict[str, Any]]:
    app = {
        "contact": "support@app.example",
        "grants": ["authorization_code", "refresh_token"],
        "redirect_uris": [redirect_uri],
        "scope": SCOPE,
        "require_dpop": False,
    }
    own = {
        "contact": "support@backend.example",
        "grants": ["client_credentials"],
        "authentication": "private_key_jwt",
    }
    public = {"profile": "smart-public", "authentication": "none"}
    by_key = {"profile": "smart-asymmetric", "jwks": {"file": "apps.jwks.json"}}
    return [
        {**app, **public, "client_id": "app-public", "name": "Growth chart"},
        {**app, **public, "client_id": "app-dpop", "name": "Bound chart", "require_dpop": True},
        {**app, **by_key, "client_id": "app-keys", "name": "Keyed chart", "authentication": "private_key_jwt"},
        {
            **app, "client_id": "app-secret", "name": "Secret chart", "profile": "smart-symmetric",
            "authentication": "client_secret_basic", "secret": {"file": "app.secret"},
        },
        {
            **own, **by_key, "client_id": "backend", "name": "Registry", "scope": BACKEND_SCOPE,
            "require_dpop": False, "claims": {"organization": "registry"},
        },
        {
            **own, **by_key, "client_id": "imaging", "name": "Imaging server", "scope": "securus/introspect",
            "require_dpop": False, "introspection": "all",
        },
        {
            **own, "client_id": "ehr", "name": "Record system", "scope": "securus/launch",
            "jwks": {"file": "ehr.jwks.json"},
        },
    ]  # fmt: skip


def assertion_of(site: SmartSite, client_id: str, algorithm: str, **changes: Any) -> str:
    """A client assertion as SMART apps make them, for the token endpoint, now."""
    audience = f"{site.issuer}/token"
    return assertion_384(
        site.keys[algorithm], client_id, kid=algorithm, now=int(time.time()), **{"aud": audience, **changes}
    )
