"""Section V where a rule speaks of any resource: what rules the store stays closed until it is named."""

from typing import Any

from tests.attacks.table.rows import Ask, Row, ask, row
from tests.attacks.table.section_s import SUBSCRIPTION
from tests.attacks.table.stores import answers, found
from tests.support.gateway import Reply, RunningGateway
from tests.support.world import Resource

_SECRET = "Authorization: Bearer very-secret"
_TYPES = ("SearchParameter", "CompartmentDefinition", "StructureDefinition", "OperationDefinition", "CapabilityStatement",
          "ImplementationGuide", "Endpoint", "Library", "PlanDefinition", "ActivityDefinition", "MessageDefinition",
          "TestScript", "Measure", "Questionnaire", "ConceptMap", "ValueSet", "CodeSystem", "NamingSystem")  # fmt: skip
_KEPT: Resource = {
    "resourceType": "Subscription", "id": "x", "status": "active", "reason": "x", "criteria": "Observation?code=x",
    "channel": {"type": "rest-hook", "endpoint": "https://a.example", "header": [_SECRET]},
}  # fmt: skip
_STAFF = ask(
    "POST /Observation", "dr1", {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
)


def made(type_: str, who: str = "librarian") -> Ask:
    """The create that somebody may make who is named with the type."""
    return ask(f"POST /{type_}", who, {"resourceType": type_})


def closed(id: str, line: str, reason: str | None = "no-permit", body: Any = None, **more: Any) -> Row:
    """A write of staff that may do everything."""
    said = {"who": "dr1", "sees": True, "world": "any", "twin": _STAFF} | more
    return row(id, line, 403, reason, body=body, **said)


def _without_header(gateway: RunningGateway, reply: Reply) -> None:
    """The channel is seen, less what is sent along."""
    seen = reply.json if reply.json["resourceType"] == "Subscription" else reply.json["entry"][0]["resource"]
    assert seen["channel"] == {"type": "rest-hook", "endpoint": "https://a.example"}


ROWS = (
    *(closed(f"V-345c-{type_.lower()}-by-any", f"POST /{type_}", body={"resourceType": type_}) for type_ in _TYPES),
    *(closed(f"V-345d-{type_.lower()}-is-changed-by-any", f"PUT /{type_}/x", body={"resourceType": type_, "id": "x"})
      for type_ in _TYPES[:4]),
    closed("V-345e-a-library-goes-by-any", "DELETE /Library/x"),
    closed("V-345f-a-library-by-any-where-others-are-named", "POST /Library", body={"resourceType": "Library"},
           twin=made("Library")),
    closed("V-345g-a-plan-is-applied-by-any", "POST /PlanDefinition/p/$apply", "interaction-closed",
           body={"resourceType": "Parameters"}),
    closed("V-340c-a-subscription-by-any", "POST /Subscription", "interaction-closed", body=SUBSCRIPTION),
    closed("V-340d-a-subscription-by-name", "POST /Subscription", "interaction-closed", body=SUBSCRIPTION, who="librarian",
           twin=made("Library")),
    closed("V-340e-a-subscription-by-criteria", "PUT /Subscription?url=http://evil.example", "interaction-closed",
           body=SUBSCRIPTION),
    closed("V-341e-anothers-subscription-is-changed-by-name", "PUT /Subscription/x", "interaction-closed", who="librarian",
           body=SUBSCRIPTION | {"id": "x"}, twin=made("Library")),
    closed("V-341f-anothers-subscription-goes", "DELETE /Subscription/x", "interaction-closed"),
    row("V-341g-what-a-subscription-sends-along", "GET /Subscription/x", 200, who="librarian", world="any", sees=True,
        sent=("GET Subscription/x",), store=answers(_KEPT), hides=("very-secret",), check=_without_header,
        twin=made("Library")),
    row("V-341h-what-subscriptions-send-along", "GET /Subscription?status=active", 200, who="dr1", world="any", sees=True,
        sent=("GET *",), store=found(_KEPT), hides=("very-secret",), check=_without_header, twin=_STAFF),
    closed("V-348c-a-second-record-by-any", "POST /Patient", body={"resourceType": "Patient"}, twin=made("Patient")),
    closed("V-348d-matching-by-any", "POST /Patient/$match", "interaction-closed", body={"resourceType": "Parameters"}),
    closed("K-192d-a-query-language-by-any", "POST /$graphql", "interaction-closed", body={"query": "{PatientList{id}}"}),
    closed("K-192e-a-query-language-of-a-person-by-any", "GET /Patient/A/$graphql?query=%7Bname%7D", "interaction-closed"),
)  # fmt: skip
