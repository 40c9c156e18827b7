"""Between sections N and O: resources that hold others, and what is contained where it should not be."""

from typing import Any

from tests.attacks.table.rows import Row, ask, row
from tests.attacks.table.stores import answers, found
from tests.support.world import SECRET, world

_W = world()
_A1, _B1, _MH = _W["Observation/a1"], _W["Observation/b1"], _W["Observation/a-mh"]
_B = {"resourceType": "Patient", "id": "p", "name": [{"family": SECRET}], "identifier": [{"value": SECRET}]}
_TO_B = {"reference": "Patient/B", "display": SECRET}
_COMPOSITION = {
    "resourceType": "Composition",
    "id": "c",
    "subject": {"reference": "Patient/A"},
    "status": "final",
}


def bundle(*held: Any, type_: str = "document", **more: Any) -> dict[str, Any]:
    """A Bundle of these, as a store has it."""
    return {
        "resourceType": "Bundle",
        "id": "x",
        "type": type_,
        "entry": [{"resource": each} for each in held],
    } | more


_OWN = bundle(_COMPOSITION, _W["Patient/A"], _A1, _W["Practitioner/dr1"])
_READ = ask("GET /Bundle/x")
_PERMITTED = {"world": "boxes", "twin": _READ, "twin_store": answers(_OWN)}


def held(name: str, resource: dict[str, Any], **more: Any) -> Row:
    """A Bundle or Parameters that holds something of a stranger: the patient is told what nobody has is told."""
    place = f"{resource['resourceType']}/x"
    said = {"store": answers(resource), "sent": (f"GET {place}",), "hides": (SECRET,)} | _PERMITTED | more
    return row(f"N-{name}", f"GET /{place}", 404, "not-found", **said)


_DEVICE = {"resourceType": "Device", "id": "d", "patient": {"reference": "Patient/A"}}
_KEPT = {"device": {"reference": "#d"}, "contained": [{"resourceType": "Organization", "id": "o"}, _DEVICE]}


def within(name: str, contained: Any, **more: Any) -> Row:
    """A result of the own that contains something which is not."""
    said = {
        "sent": ("GET Observation/a1",),
        "twin": "GET /Observation/a1",
        "twin_store": answers(_A1 | _KEPT),
    }
    store = answers(_A1 | {"contained": contained})
    return row(f"O-{name}", "GET /Observation/a1", 404, "not-found", store=store, **said | more)


def viewed(name: str, contained: Any) -> Row:
    """A visit that staff sees without names, in which a name is contained."""
    visit = {"resourceType": "Encounter", "id": "e", "status": "finished", "contained": contained}
    return row(f"O-{name}", "GET /Encounter/e", 200, who="dr1", world="views", store=answers(visit), hides=(SECRET,),
               sent=("GET Encounter/e",), holds=("SUBSETTED",), twin=ask("GET /Encounter/e", "dr1"),
               twin_store=answers({k: v for k, v in visit.items() if k != "contained"}))  # fmt: skip


_PARAMETERS = {
    "resourceType": "Parameters",
    "id": "x",
    "parameter": [{"name": "x", "part": [{"name": "y", "resource": _B}]}],
}
_WITHIN: dict[str, Any] = {
    "a-person-two-levels-down": [{"resourceType": "Encounter", "id": "i", "contained": [_B]}],
    "a-person-in-a-contained-bundle": [bundle(_B)], "a-person-in-contained-parameters": [_PARAMETERS],
    "a-person-in-an-array-in-an-array": [[_B]], "a-person-without-an-array": _B,
    "a-person-of-another-case": [_B | {"resourceType": "patient"}],
    "a-person-without-a-type": [{k: v for k, v in _B.items() if k != "resourceType"}],
}  # fmt: skip
_ABOUT_B: dict[str, Any] = {
    "a-device-of-a-stranger": {"resourceType": "Device", "patient": _TO_B},
    "a-task-for-a-stranger": {"resourceType": "Task", "for": _TO_B},
    "a-relative-of-a-stranger": {"resourceType": "RelatedPerson", "patient": _TO_B},
    "a-group-with-a-stranger": {"resourceType": "Group", "member": [{"entity": _TO_B}]},
    "a-contract-about-a-stranger": {"resourceType": "Contract", "subject": [_TO_B]},
    "a-slot-with-an-extension": {"resourceType": "Slot", "extension": [{"url": "urn:x", "valueReference": _TO_B}]},
    "a-device-of-a-stranger-elsewhere": {"resourceType": "Device", "patient": {
        "reference": "http://x.example/Patient/B", "display": SECRET}},
}  # fmt: skip
_STAFF = ask("GET /Bundle/x", "dr1")
_LIST = {"resourceType": "List", "id": "l", "subject": {"reference": "Patient/A"}}
ROWS = (
    held("a-document-about-a-stranger", bundle(_COMPOSITION | {"subject": _TO_B})),
    held("a-document-with-one-result-of-a-stranger", bundle(_COMPOSITION, _A1, _B1)),
    held("a-document-with-a-stranger", bundle(_COMPOSITION, _B)),
    held("a-document-in-a-bundle", bundle(bundle(_COMPOSITION, _B))),
    held("a-stranger-in-parameters-in-a-bundle", bundle(_COMPOSITION, _PARAMETERS)),
    held("a-stranger-within-a-result-in-a-bundle", bundle(_COMPOSITION, _A1 | {"contained": [_B]})),
    held("a-stranger-as-an-outcome", bundle(type_="batch-response", entry=[{"response": {"status": "200", "outcome": _B}}])),
    held("a-stranger-without-a-type", bundle({k: v for k, v in _B.items() if k != "resourceType"})),
    held("a-type-that-nobody-opens", bundle(_COMPOSITION, {"resourceType": "Account", "id": "x", "name": SECRET})),
    held("a-content-whose-owner-nobody-knows", bundle(_COMPOSITION, {
        "resourceType": "Binary", "id": "b", "data": "U0VDUkVULUI="})),
    held("an-array-in-the-entries", bundle(entry=[[{"resource": _B}]])),
    held("parameters-with-a-stranger", _PARAMETERS, twin=ask("GET /Parameters/x"), twin_store=answers(
        {"resourceType": "Parameters", "id": "x", "parameter": [{"name": "x", "resource": _A1}]})),
    row("N-bundles-are-searched", "GET /Bundle?type=document", 200, shows={"Bundle/x"}, hides=(SECRET, '"total"'),
        sent=("GET *",), store=found(_OWN, bundle(_COMPOSITION, _B1, id="y")), **_PERMITTED),
    row("N-versions-of-a-bundle", "GET /Bundle/x/_history", 200, shows={"Bundle/x"}, hides=(SECRET,), sent=("GET *",),
        store=found(entries=[{"resource": bundle(_COMPOSITION, _B1)}, {"resource": _OWN}], more={"type": "history"}),
        **_PERMITTED),
    row("N-a-version-of-a-bundle", "GET /Bundle/x/_history/1", 404, "not-found", hides=(SECRET,), sent=("GET *",),
        store=answers(bundle(_COMPOSITION, _B1)), **_PERMITTED),
    row("N-staff-sees-nothing-special-in-a-document", "GET /Bundle/x", 403, "policy-denied", who="dr1", world="boxes",
        hides=(SECRET, "PSY"), store=answers(bundle(_COMPOSITION, _MH)), sent=("GET Bundle/x",), twin=_STAFF,
        twin_store=answers(bundle(_COMPOSITION, _W["Observation/a-vitals"]))),
    *(row(f"N-staff-{name}", "GET /Bundle/x", 200, who="dr1", world="boxes", hides=(SECRET,),
          holds=("SUBSETTED", "Composition"), store=answers(bundle(_COMPOSITION, inner)), sent=("GET Bundle/x",),
          twin=_STAFF,
          twin_store=answers(bundle(_COMPOSITION, _W["Observation/a-vitals"])))
      for name, inner in (
          ("sees-no-name-in-a-document", _B), ("sees-no-name-within-what-is-held", _A1 | {"contained": [_B]}))),
    row("N-where-anything-is-open", "GET /Bundle/x", 200, who="dr1", world="any", store=answers(_OWN),
        sent=("GET Bundle/x",), holds=("Composition", "Practitioner"), twin=ask("GET /Observation/a1", "dr1")),
    *(within(name, contained) for name, contained in _WITHIN.items()),
    *(within(name, [inner | {"id": "i"}]) for name, inner in _ABOUT_B.items()),
    row("O-within-entries", "GET /Observation", 200, shows={"Observation/a-vitals"}, hides=(SECRET,), sent=("GET *",),
        store=found(_A1 | {"contained": [{"resourceType": "Encounter", "id": "i", "contained": [_B]}]},
                    _W["Observation/a-vitals"]),
        twin="GET /Observation?code=x"),
    *(viewed(f"unseen-{name}", contained) for name, contained in _WITHIN.items()),
    viewed("unseen-a-name-of-the-first-level", [_B]),
    row("O-a-list-that-lists-a-stranger", "GET /List/l", 404, "not-found", world="boxes", sent=("GET List/l",),
        store=answers(_LIST | {"entry": [{"item": _TO_B}]}), twin=ask("GET /List/l"),
        twin_store=answers(_LIST | {"entry": [{"item": {"reference": "Patient/A"}}]})),
    *(row(f"O-a-meta-that-is-{number}", "GET /Observation", 200, sent=("GET *",), twin="GET /Observation?code=x",
          shows={"Observation/a1", "Observation/a-vitals"}, store=found(_A1 | {"meta": meta}, _W["Observation/a-vitals"]))
      for number, meta in enumerate((5, 1.5, "security", ["security"], True))),
)  # fmt: skip
