"""A gateway that keeps the consents of its base itself, and somebody at a desk who records them."""

import json
from pathlib import Path
from typing import Any

from gateway.consents.consent import ConsentSource
from gateway.settings import ConsentSettings
from tests.support.gateway import Reply, RunningGateway, policies_with, start_gateway

POLICY = """
policy: desk
version: 1
owner: tests
status: enforce
text: The desk records what patients agree to; the study sees who agreed.
rules:
  - rule: desk
    effect: permit
    who: {context: user, role: desk}
    may: [read, vread, history-instance, search, create, update, patch, delete]
    resources: [Consent]
    shared: true
    conditional: {keys: [identifier], system: "urn:paper"}
    because: it records consents
  - rule: desk-sees-the-rest
    effect: permit
    who: {context: user, role: desk}
    may: [read, search, create, transaction, batch]
    resources: any
    shared: true
    because: it looks things up
  - rule: own-consents
    effect: permit
    who: {context: patient}
    may: [read, search]
    resources: [Consent]
    where: {compartment: {patient: "{token.patient}"}}
    because: they are the patient's own
  - rule: study
    effect: permit
    who: {context: user, role: researcher}
    may: [read, search]
    resources: [Condition, Patient]
    where: {consent: {scope: research, decision: permit, for: "urn:study:dm2"}}
    because: study
"""
KEPT = ConsentSettings(ConsentSource(verified=False), kept_here=True)
SCOPES = "http://terminology.hl7.org/CodeSystem/consentscope"


async def start_desk(folder: Path, **options: Any) -> RunningGateway:
    """The gateway, with consents kept here."""
    policies = policies_with(folder, "90-desk.yaml", POLICY)
    return await start_gateway(folder, policies=policies, consents=KEPT, **options)


def consent(patient: str = "A", **more: Any) -> dict[str, Any]:
    """A consent to a study, as the desk writes it."""
    actor = {
        "role": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}
            ]
        },
        "reference": {"identifier": {"value": "urn:study:dm2"}},
    }
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"system": SCOPES, "code": "research"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{patient}"},
        "dateTime": "2026-05-01",
        "policy": [{"uri": "urn:h1:policy"}],
        "provision": {"type": "permit", "actor": [actor]},
    } | more


async def at_desk(
    gateway: RunningGateway,
    method: str,
    path: str,
    body: Any = None,
    *,
    role: str = "desk",
    headers: dict[str, str] | None = None,
    who: str = "dr1",
    port: int | None = None,
    **claims: Any,
) -> Reply:
    """A request below the mount by somebody of that role; port is that of another node."""
    raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/fhir+json"} if raw else {}
    sent |= headers or {}
    token = await gateway.token(who, **({"roles": [role]} if who == "dr1" else {}), **claims)
    target = path if path.startswith("/consents") else f"/fhir/r4{path}"
    url = gateway.origin + target.partition("?")[0]
    proved = [("Authorization", f"DPoP {token}"), ("DPoP", gateway.proof(method, url, token))]
    return await gateway.send(method, target, [*proved, *sent.items()], raw, port=port)
