"""Section E: joins. Chains and `_has` read what they go through, includes show what they bring."""

import json
from typing import Any

from aiohttp import web

from tests.attacks.table.rows import Row, ask, row
from tests.attacks.table.section_d import OWN
from tests.attacks.table.stores import fhir, found
from tests.support.hostile_upstream import HostileUpstream
from tests.support.world import SECRET

_TWIN = ask("GET /Observation?patient=A")
_CLOSED, _JOIN = "unsupported-parameter", "join-closed"


def includes_all(store: HostileUpstream) -> None:
    """Every search answers with all of the type as matches, and with all the rest as includes."""
    store.resources["Observation/a1"]["performer"] = [
        {"reference": "Practitioner/dr1"},
        {"reference": "Patient/B"},
    ]
    store.resources["Observation/b1"]["performer"] = [{"reference": "Practitioner/dr2"}]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        type_ = request.path.removeprefix("/fhir/").partition("/")[0]
        every = sorted(store.resources.values(), key=lambda r: r["resourceType"] != type_)
        mode = {True: "match", False: "include"}
        bundle: dict[str, Any] = {
            "resourceType": "Bundle",
            "type": "searchset",
            "total": len(every),
            "link": [{"relation": "self", "url": f"{store.base}/{type_}?{request.query_string}"}],
            "entry": [{"resource": r, "search": {"mode": mode[r["resourceType"] == type_]}} for r in every],
        }
        return fhir(json.dumps(bundle).encode())

    store.answer = answer


def refused(id: str, line: str, reason: str, status: int = 403, **more: Any) -> Row:
    """A join of which the store hears nothing."""
    return row(id, f"GET /{line}", status, reason, **{"twin": _TWIN} | more)


def judged(id: str, line: str, shows: set[str], sent: str = "*", **more: Any) -> Row:
    """A join that passes; of what the store brings only this is shown."""
    said = {"store": includes_all, "twin": _TWIN, "sent": (f"GET {sent}",)} | more
    return row(id, f"GET /{line}", 200, shows=shows, **said)


def entry(resource: dict[str, Any], mode: Any) -> dict[str, Any]:
    """An entry of a searchset."""
    return {"resource": resource, "search": {"mode": mode}}


_A1 = {"resourceType": "Observation", "id": "a1", "status": "final", "subject": {"reference": "Patient/A"}}
_PA = {"resourceType": "Patient", "id": "A"}
_STRANGE = {"resourceType": "Account", "id": "x", "name": SECRET}
ROWS = (
    judged("E-081-performers-of-the-own", "Observation?patient=A&_include=Observation:performer",
           OWN | {"Practitioner/dr1"}),
    judged("E-081b-performers-who-are-patients", "Observation?_include=Observation:performer:Patient", OWN),
    judged("E-081c-subjects", "Observation?_include=Observation:subject", OWN | {"Patient/A"}),
    judged("E-081d-subjects-of-reverse-includes", "Patient?_revinclude=Observation:subject", OWN | {"Patient/A"}),
    refused("E-082-every-include", "Observation?patient=A&_include=*", _CLOSED),
    refused("E-082b-every-include-of-a-type", "Observation?_include=Observation:*", _CLOSED),
    refused("E-082c-every-reverse-include", "Observation?_revinclude=*", _CLOSED),
    refused("E-082d-every-include-again-and-again", "Observation?_include:iterate=*", _CLOSED),
    refused("E-082e-every-reverse-include-of-a-type", "Patient?_revinclude=Observation:*", _CLOSED),
    refused("E-084-groups-of-the-own", "Patient?_id=A&_revinclude=Group:member", _JOIN),
    refused("E-084b-provenance", "Patient?_id=A&_revinclude=Provenance:target", _JOIN),
    refused("E-084c-audit-trail", "Patient?_id=A&_revinclude=AuditEvent:entity", _JOIN),
    refused("E-084d-lists-with-others-in-them", "Patient?_id=A&_revinclude=List:subject", _JOIN),
    refused("E-084e-tasks-for-the-own", "Patient?_id=A&_revinclude=Task:patient", _JOIN),
    refused("E-084f-appointments", "Patient?_id=A&_revinclude=Appointment:actor", _JOIN),
    refused("E-085-who-measured-a-stranger", "Practitioner?_has:Observation:performer:patient=B", _JOIN),
    refused("E-085b-encoded-colons", "Practitioner?_has%3AObservation%3Aperformer%3Apatient=B", _JOIN),
    refused("E-085c-by-form", "Practitioner?_has:Observation:performer:code=4548-4", _JOIN),
    row("E-085d-in-a-form", "POST /Practitioner/_search", 403, _JOIN, body=b"_has:Observation:performer:patient=B",
        twin=ask("POST /Practitioner/_search", body=b"name=One")),
    refused("E-085e-organizations-with-patients", "Organization?_has:Patient:organization:name=x", _JOIN),
    refused("E-086-two-steps-back", "Patient?_id=A&_has:Observation:patient:_has:AuditEvent:entity:agent=Practitioner/dr2",
            _JOIN),
    refused("E-086b-four-steps-back", "Patient?_has:Observation:patient:_has:Observation:focus:_has:Observation:focus:"
            "_has:Observation:focus:code=x", _CLOSED),
    refused("E-088-strangers-through-a-shared-doctor",
            "Practitioner?_id=dr1&_has:Patient:general-practitioner:birthdate=lt1980", _JOIN),
    judged("E-088b-the-own-doctor-by-name", "Patient?general-practitioner:Practitioner.name=One", {"Patient/A"}),
    refused("E-088c-strangers-through-an-organization", "Organization?_has:Patient:organization:birthdate=lt1980", _JOIN),
    judged("E-089-a-chain-over-the-subject", "Observation?subject.name=Smith", OWN),
    judged("E-089b-a-chain-to-an-identifier", "Observation?subject:Patient.identifier=x", OWN),
    judged("E-089c-a-chain-of-three", "Observation?patient.organization.partof=Organization/h1", OWN),
    refused("E-089d-a-chain-through-a-group", "Observation?subject:Group.member:Patient.name=x", _JOIN),
    refused("E-090-a-chain-beside-the-compartment", "Observation?patient=A&focus:Patient.name=B", _JOIN),
    refused("E-090b-through-the-performer", "Observation?performer:Patient.name=x", _JOIN),
    refused("E-090c-through-an-encounter", "Observation?encounter:Encounter.status=finished", _JOIN),
    refused("E-090d-through-a-link", "Patient?link:Patient.name=x", _JOIN),
    row("E-092-a-type-that-nobody-asked-for", "GET /Observation?patient=A&_include=Observation:subject:Patient", 200,
        store=found(entries=[entry(_A1, "match"), entry(_PA, "include"), entry(_STRANGE, "include"),
                             entry(_STRANGE, "match")]),
        shows={"Observation/a1", "Patient/A"}, sent=("GET *",), twin=_TWIN),
    row("E-092b-a-type-that-nobody-asked-for-as-a-match", "GET /Observation", 200, store=found(_A1, _PA, _STRANGE),
        shows={"Observation/a1"}, sent=("GET *",), twin=_TWIN),
    *(
        row(f"E-092c-an-entry-of-mode-{number}", "GET /Observation?_include=Observation:subject", 200,
            store=found(entries=[entry(_A1, mode)]), shows=set(), sent=("GET *",), twin=_TWIN)
        for number, mode in enumerate(("outcome", "Match", "other", 7))
    ),
    row("E-093-continued-includes-of-a-vendor", "GET /Observation/$includes?includesCt=x", 403, "interaction-closed",
        twin=_TWIN),
    refused("E-093b-a-token-of-a-vendor", "Observation?includesCt=x", "unknown-parameter", 400),
    judged("E-094-elements-that-leave-the-subject-out", "Observation?_include=Observation:subject&_elements=id",
           OWN | {"Patient/A"}, check=lambda gateway, _: _whole(gateway.upstream.requests[0].target)),
    row("E-094b-elements-of-a-foreign-read", "GET /Observation/b1?_elements=id", 404, "not-found",
        sent=("GET Observation/b1",), same_as="GET /Observation/none?_elements=id", twin="GET /Observation/a1?_elements=id"),
    row("E-096-a-composite-of-a-hidden-value", "GET /Observation?combo-code-value-quantity=x$gt5", 403, _CLOSED,
        who="dr1", sees=True, world="views", twin="GET /Observation?code=x"),
    row("E-096b-another-composite", "GET /Observation?code-value-quantity=x$gt5", 403, _CLOSED, who="dr1", sees=True,
        world="views", twin="GET /Observation?code=x"),
    row("E-096c-a-component-value", "GET /Observation?combo-value-quantity=gt5", 403, _CLOSED, who="dr1", sees=True,
        world="views", twin="GET /Observation?code=x"),
    judged("E-096d-a-composite-of-the-own", "Observation?code-value-quantity=x$gt5", OWN),
    refused("E-097-a-graph", "Observation?_graph=x", _CLOSED),
    refused("E-097b-contains", "Observation?_contains=x", "unknown-parameter", 400),
    refused("E-097c-an-include-that-is-none", "Observation?_include=Observation:nonexistent", "unknown-parameter", 400),
    refused("E-097d-an-include-of-another-type", "Observation?_include=Encounter:subject", "invalid-parameter", 400),
    refused("E-097e-an-include-of-no-reference", "Observation?_include=Observation:code", "unknown-parameter", 400),
    refused("E-097f-includes-without-end", "Observation?" + "&".join(["_include=Observation:performer"] * 11),
            "invalid-parameter", 400),
)  # fmt: skip


def _whole(target: str) -> None:
    assert "_elements" not in target
