"""Between sections H, I, J and P: what stands within a body, and bodies in another form than R4 has."""

from typing import Any

from tests.attacks.table.rows import Row, ask, row
from tests.attacks.table.section_h import note
from tests.attacks.table.stores import holding
from tests.support.world import world

_CREATE = ask("POST /Observation", "pA-rw", note())
_SCOPE = "scope-insufficient"
_B = {"reference": "Patient/B"}
_PERSON = {"resourceType": "Patient", "id": "q"}
_OF_B = {"resourceType": "Device", "id": "i", "patient": _B}
_NESTED = {"resourceType": "Encounter", "id": "i", "contained": [_PERSON]}
_HELD = {"resourceType": "Bundle", "id": "i", "type": "collection", "entry": [{"resource": _PERSON}]}
_WITHIN = {
    "another-result": {"resourceType": "Observation", "id": "i", "subject": _B}, "nested-person": _NESTED,
    "person-in-a-bundle": _HELD, "device-of-another": _OF_B,
    "task-for-another": {"resourceType": "Task", "id": "i", "for": _B},
    "relative-of-another": {"resourceType": "RelatedPerson", "id": "i", "patient": _B},
    "group-with-another": {"resourceType": "Group", "id": "i", "member": [{"entity": _B}]},
    "extension-of-an-organization": {"resourceType": "Organization", "id": "i", "extension": [
        {"url": "urn:x", "valueReference": _B}]},
    "logical-patient": {"resourceType": "Device", "id": "i", "patient": {
        "type": "http://hl7.org/fhir/StructureDefinition/Patient", "identifier": {"value": "B"}}},
}  # fmt: skip
_PERMITTED = (
    {"resourceType": "Organization", "id": "i", "partOf": {"reference": "#o"}}, {"resourceType": "Organization", "id": "o"},
    {"resourceType": "Device", "id": "d", "patient": {"reference": "Patient/A"}},
    {"resourceType": "Practitioner", "id": "p", "name": [{"family": "x"}]},
    {"resourceType": "Procedure", "id": "pr", "subject": {"reference": "Patient/A"}, "outcome": {"text": "x"}},
)  # fmt: skip
_FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "a-subject-in-an-array": ({"subject": [{"reference": "Patient/A"}]}, "Observation.subject must be one value"),
    "performers-without-an-array": ({"performer": _B}, "Observation.performer must be an array"),
    "an-array-in-an-array": ({"performer": [[_B]]}, "Observation.performer must be an object"),
    "contained-without-an-array": ({"contained": _PERSON}, "Observation.contained must be an array"),
    "contained-in-an-array": ({"contained": [[_PERSON]]}, "Observation.contained must be an object"),
    "contained-of-another-case": ({"contained": [_PERSON | {"resourceType": "patient"}]}, "must be a type of R4"),
    "contained-without-a-type": ({"contained": [{"id": "q"}]}, "must be a type of R4"),
    "meta-as-a-text": ({"meta": "security"}, "Observation.meta must be an object"),
    "a-label-without-an-array": ({"meta": {"security": {"code": "R"}}}, "Meta.security must be an array"),
    "a-status-as-an-object": ({"status": {"value": "final"}}, "Observation.status must be a text"),
}  # fmt: skip


def create(name: str, body: Any, status: int, reason: str, **more: Any) -> Row:
    """A create of which the store hears nothing."""
    return row(
        f"H-{name}", "POST /Observation", status, reason, who="pA-rw", body=body, **{"twin": _CREATE} | more
    )


def holder(*held: Any, type_: str = "collection") -> dict[str, Any]:
    """A Bundle of these."""
    return {"resourceType": "Bundle", "type": type_, "entry": [{"resource": each} for each in held]}


_STORED = holding(holder(world()["Observation/b1"]) | {"id": "x", "meta": {"versionId": "1"}})
_STORE_OWN = ask("POST /Bundle", "pA-rw", holder(note()))
_LIST = {
    "resourceType": "List",
    "status": "current",
    "mode": "working",
    "subject": {"reference": "Patient/A"},
}
_LISTED = [{"item": {"reference": "Observation/a1"}}]


def boxed(name: str, line: str, body: Any, status: int = 403, reason: str | None = None, **more: Any) -> Row:
    """A Bundle, Parameters or List that is not stored."""
    said = {"who": "pA-rw", "world": "boxes", "twin": _STORE_OWN} | more
    return row(f"J-{name}", line, status, reason, body=body, **said)


ROWS = (
    *(create(f"within-{name}", note(contained=[inner]), 403, _SCOPE, twin=ask(
        "POST /Observation", "pA-rw", note(contained=list(_PERMITTED)))) for name, inner in _WITHIN.items()),
    *(create(f"form-of-{name}", note() | more, 422, "invalid-body", holds=(said,)) for name, (more, said) in _FORMS.items()),
    row("H-a-subject-in-an-array-by-update", "PUT /Observation/a1", 422, "invalid-body", who="pA-rw", twin=_CREATE,
        body=note("a1", subject=[{"reference": "Patient/A"}])),
    row("I-a-person-within-by-patch", "PATCH /Observation/a1", 403, _SCOPE, who="pA-rw", sent=("GET Observation/a1",),
        body=[{"op": "add", "path": "/contained", "value": [_NESTED]}], twin=_CREATE),
    row("I-another-form-by-patch", "PATCH /Observation/a1", 422, "invalid-body", who="pA-rw", sent=("GET Observation/a1",),
        body=[{"op": "replace", "path": "/subject", "value": [{"reference": "Patient/A"}]}], twin=_CREATE),
    row("I-a-performer-by-criteria", "PATCH /Observation/a1", 403, _SCOPE, who="pA-rw", sent=("GET Observation/a1",),
        body=[{"op": "add", "path": "/performer", "value": [{"reference": "Patient?identifier=mrn|B"}]}], twin=_CREATE),
    boxed("a-strangers-result-in-a-bundle", "POST /Bundle", holder(note(patient="B")), reason=_SCOPE),
    boxed("own-and-foreign-in-a-bundle", "POST /Bundle", holder(note(), note(patient="B")), reason=_SCOPE),
    boxed("a-type-that-nobody-opens-in-a-bundle", "POST /Bundle", holder({"resourceType": "Account"}), reason="no-permit"),
    boxed("a-person-in-a-bundle-in-a-bundle", "POST /Bundle", holder(holder(_PERSON)), reason=_SCOPE),
    boxed("a-strangers-result-as-an-outcome", "POST /Bundle", {"resourceType": "Bundle", "type": "batch-response", "entry": [
        {"response": {"status": "200", "outcome": note(patient="B")}}]}, reason=_SCOPE),
    boxed("a-strangers-result-in-parameters", "POST /Parameters", {"resourceType": "Parameters", "parameter": [
        {"name": "x", "part": [{"name": "y", "resource": note(patient="B")}]}]}, reason=_SCOPE,
        twin=ask("POST /Parameters", "pA-rw", {"resourceType": "Parameters", "parameter": [
            {"name": "x", "resource": note()}]})),
    boxed("a-rule-book-in-a-bundle", "POST /Bundle", holder({"resourceType": "Library"}), reason="no-permit"),
    boxed("a-strangers-bundle-is-replaced", "PUT /Bundle/x", holder(note()) | {"id": "x"}, 404, "not-found",
          store=_STORED, sent=("GET Bundle/x",)),
    boxed("a-strangers-bundle-goes", "DELETE /Bundle/x", None, 404, "not-found", sent=("GET Bundle/x",),
          same_as="DELETE /Bundle/y", store=_STORED),
    boxed("a-list-with-a-stranger", "POST /List", _LIST | {"entry": [*_LISTED, {"item": _B}]}, reason=_SCOPE,
          twin=ask("POST /List", "pA-rw", _LIST | {"entry": _LISTED})),
)  # fmt: skip
