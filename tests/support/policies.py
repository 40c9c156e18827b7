"""Small policy sets, callers and questions, so that a test of a policy says only what it is about."""

from typing import Any

from authz.protocol.tokens import Caller, caller_of
from gateway.fhir import request
from gateway.fhir.interaction import FhirRequest
from gateway.policy import language
from gateway.policy.decision import Decision, Environment, Permit
from gateway.policy.engine import Engine
from gateway.policy.rules import PolicySet

ISSUER = "https://gw.example"
BASES = frozenset({"https://gw.example/fhir/r4", "http://upstream:8080/fhir"})
NOW = 1_800_000_000
HERE = Environment(NOW, "192.0.2.1")

DEFINITIONS = """\
definitions: test
version: 1
claims:
  patient: {path: patient, type: id}
  user: {path: fhirUser, type: reference, of: [Practitioner, Patient]}
  roles: {path: realm.roles, type: codes}
  org: {path: organization, type: string}
  purpose: {path: purpose_of_use, type: codes}
  team: {path: team, type: codes}
sets:
  chart: {types: [Condition, Encounter, Observation]}
  apps: {clients: [portal, kiosk]}
  inside: {networks: [10.20.0.0/16, "2001:db8::/48"]}
"""


def caller(context: str = "user", *, scope: str | None = None, **claims: Any) -> Caller:
    """A caller with all letters in one context. roles go where the definitions say that they stand."""
    client, bound = claims.pop("client", "app"), claims.pop("bound", "dpop")
    if "roles" in claims:
        claims["realm"] = {"roles": claims.pop("roles")}
    content = {
        "iss": ISSUER, "sub": "s", "aud": "https://gw.example/fhir/r4", "client_id": client, "iat": NOW,
        "exp": NOW + 300, "jti": "t", "scope": f"{context}/*.cruds" if scope is None else scope,
        "cnf": {"x5t#S256" if bound == "mtls" else "jkt": "x" * 43},
    }  # fmt: skip
    return caller_of(content | claims, issuer=ISSUER)


def policy(*rules: str, name: str = "p", tests: str = "") -> str:
    """A policy file with these rules, each the inside of a flow mapping: 'rule: r, effect: permit, …'."""
    body = "".join(f"  - {{{rule}, because: Said so.}}\n" for rule in rules)
    said = tests or "  - {test: t, as: {context: user}, request: GET /Patient/A, expect: {status: 200}}\n"
    return f"policy: {name}\nversion: 1\nowner: o\nstatus: enforce\ntext: t\nrules:\n{body}tests:\n{said}"


def load(*files: str) -> PolicySet:
    """The policy set of these files with the definitions above; the first file is '1.yaml'."""
    named = {f"{number}.yaml": text for number, text in enumerate(files, 1)}
    return language.load({"0.yaml": DEFINITIONS, **named})


def engine(*rules: str) -> Engine:
    """An engine of one policy with these rules."""
    return Engine(load(policy(*rules)), bases=BASES)


def ask(text: str) -> FhirRequest:
    """The request of 'GET /Observation?code=x'."""
    method, _, target = text.partition(" ")
    path, _, query = target.partition("?")
    return request.parse(method, path, query)


def decide(rules: list[str], who: Caller, text: str, *, peer: str = HERE.peer) -> Decision:
    """The decision of a policy with these rules."""
    return engine(*rules).decide(ask(text), who, Environment(NOW, peer))


def shows(decision: Decision, resource: dict[str, Any]) -> bool:
    """Whether the decision lets this resource be seen."""
    return isinstance(decision, Permit) and decision.judge is not None and decision.judge(resource).shown


def resource(type: str, id: str = "x", **members: Any) -> dict[str, Any]:
    """A resource; subject=A is written as the reference that it stands for."""
    if isinstance(members.get("subject"), str):
        members["subject"] = {"reference": f"Patient/{members['subject']}"}
    return {"resourceType": type, "id": id, **members}


def category(code: str) -> list[dict[str, Any]]:
    """The category of an Observation."""
    return [{"coding": [{"system": "urn:category", "code": code}]}]
