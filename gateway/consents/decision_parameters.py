"""The effective decision of a patient's consents as a FHIR operation: its Parameters in, and those of its answer.

In:   scope (code, or coding; patient-privacy without it), actor (reference, identifier or string; several are names of
      one caller), purpose (code or coding), type (code), resource
Out:  decision (permit, deny, no-consent), reason, depends-on-resource, and for each provision that decided `consent`;
      `obligation` for what of a permit hangs on the resource: hide what it names, or show that only
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.consents.consent import (
    SCOPES,
    Basis,
    ConsentAnswer,
    ConsentQuestion,
    Obligation,
    Said,
    Why,
    listed,
)
from gateway.consents.elements import local_name
from gateway.consents.resource_facts import facts_of
from gateway.fhir.compartment import patients_of
from gateway.fhir.definitions import RESOURCE_TYPES
from gateway.fhir.operation_parameters import parameters_of
from gateway.fhir.outcome import FhirError, Reason

NAME = "consent-decision"
DECISIONS = {Said.PERMIT: "permit", Said.DENY: "deny", Said.NONE: "no-consent"}
_SAID = {word: said for said, word in DECISIONS.items()}
_ONCE = frozenset({"scope", "type", "resource"})
_VALUES = {
    "securityLabel": "valueCoding",
    "class": "valueCoding",
    "code": "valueCodeableConcept",
    "dataPeriod": "valuePeriod",
}


def read_question(value: Mapping[str, Any] | None, patient: str, bases: frozenset[str]) -> ConsentQuestion:
    """What Parameters ask about this patient; None is a request without a body. Raises FhirError."""
    scope, actors, purposes = (SCOPES, "patient-privacy"), set[str](), set[str]()
    type_: str | None = None
    resource: Mapping[str, Any] | None = None
    seen: set[str] = set()
    for each in parameters_of(value) if value is not None else ():
        name = each.get("name")
        if not isinstance(name, str) or (name in _ONCE and name in seen):
            raise _wrong("scope, type and resource are given once")
        seen.add(name)
        match name:
            case "scope":
                system, code = _coding(each)
                scope = (system or SCOPES, code)
            case "actor":
                actors |= _actor(each, bases)
            case "purpose":
                purposes.add(_coding(each)[1])
            case "type":
                type_ = _coding(each)[1]
            case "resource":
                resource = _resource(each, patient, bases)
            case _:
                said = f"${NAME} takes scope, actor, purpose, type and resource"
                raise FhirError(Reason.UNSUPPORTED_PARAMETER, said)
    if resource is not None:
        own = str(resource.get("resourceType"))
        if type_ not in (None, own):
            raise _wrong("type is not the type of the resource")
        type_ = own
    if type_ is not None and type_ not in RESOURCE_TYPES:
        raise _wrong("type is a FHIR resource type such as Observation")
    facts = None if resource is None else facts_of(resource, bases)
    return ConsentQuestion(scope, frozenset(actors) or None, frozenset(purposes), type_, facts)


def written_answer(answer: ConsentAnswer) -> dict[str, Any]:
    """The answer as Parameters."""
    said: list[dict[str, Any]] = [
        {"name": "decision", "valueCode": DECISIONS[answer.said]},
        {"name": "reason", "valueCode": str(answer.why)},
        {"name": "depends-on-resource", "valueBoolean": answer.depends},
    ]
    said += [{"name": "consent", "part": _parts_of(basis)} for basis in answer.bases]
    said += [{"name": "obligation", "part": list(_obligation(each))} for each in answer.obligations]
    return {"resourceType": "Parameters", "parameter": said}


def read_answer(value: Mapping[str, Any]) -> ConsentAnswer:
    """The answer that written_answer() wrote. Raises KeyError and ValueError for anything else."""
    named: dict[str, list[Mapping[str, Any]]] = {}
    for each in value["parameter"]:
        named.setdefault(each["name"], []).append(each)
    return ConsentAnswer(
        _SAID[named["decision"][0]["valueCode"]],
        tuple(_read_basis(each["part"]) for each in named.get("consent", [])),
        Why(named["reason"][0]["valueCode"]),
        named["depends-on-resource"][0]["valueBoolean"],
        tuple(_read_obligation(each["part"]) for each in named.get("obligation", [])),
    )


def _read_basis(parts: Sequence[Mapping[str, Any]]) -> Basis:
    said = {each["name"]: each for each in parts}
    place, _, version = said["reference"]["valueReference"]["reference"].partition("/_history/")
    return Basis(
        place.removeprefix("Consent/"),
        version,
        said["provision"]["valueString"],
        _SAID[said["decision"]["valueCode"]],
        Why(said["reason"]["valueCode"]),
    )


def _read_obligation(parts: Sequence[Mapping[str, Any]]) -> Obligation:
    limits: dict[str, Any] = {}
    for each in parts:
        name = each["name"]
        if name == "data":
            meaning, reference = each["part"]
            item = {"meaning": meaning["valueCode"], "reference": reference["valueReference"]}
            limits.setdefault(name, []).append(item)
        elif name == "dataPeriod":
            limits[name] = each["valuePeriod"]
        elif name in _VALUES:
            limits.setdefault(name, []).append(each[_VALUES[name]])
    hides = next(each for each in parts if each["name"] == "action")["valueCode"] == "hide"
    return Obligation(hides, _read_basis(parts), limits)


def written_obligations(obligations: Iterable[Obligation]) -> list[dict[str, object]]:
    """Obligations as plain JSON, for answers that are no FHIR."""
    return [
        {"action": _action(each), "limits": dict(each.limits), **each.basis.as_record()}
        for each in obligations
    ]


def _parts_of(basis: Basis) -> list[dict[str, Any]]:
    version = f"/_history/{basis.version}" if basis.version else ""
    return [
        {"name": "reference", "valueReference": {"reference": f"Consent/{basis.consent}{version}"}},
        {"name": "provision", "valueString": basis.provision},
        {"name": "decision", "valueCode": DECISIONS[basis.said]},
        {"name": "reason", "valueCode": str(basis.why)},
    ]


def _action(obligation: Obligation) -> str:
    return "hide" if obligation.hides else "only"


def _obligation(obligation: Obligation) -> Iterable[dict[str, Any]]:
    yield {"name": "action", "valueCode": _action(obligation)}
    yield from _parts_of(obligation.basis)
    for name, value in sorted(obligation.limits.items()):
        for each in listed(value):
            if name == "data":
                reference = each.get("reference") if isinstance(each, Mapping) else None
                meaning = each.get("meaning") if isinstance(each, Mapping) else None
                parts = [
                    {"name": "meaning", "valueCode": meaning},
                    {"name": "reference", "valueReference": reference},
                ]
                yield {"name": "data", "part": parts}
            else:
                yield {"name": name, _VALUES[name]: each}


def _coding(parameter: Mapping[str, object]) -> tuple[str | None, str]:
    """System and code of a parameter that is a code or a coding. Raises FhirError."""
    value = parameter.get("valueCoding", {"code": parameter.get("valueCode")})
    code = value.get("code") if isinstance(value, Mapping) else None
    system = value.get("system") if isinstance(value, Mapping) else None
    if not isinstance(code, str) or not code or not (system is None or isinstance(system, str)):
        raise _wrong("scope, purpose and type are a valueCode or a valueCoding")
    return system, code


def _actor(parameter: Mapping[str, object], bases: frozenset[str]) -> set[str]:
    """The names of an actor. Raises FhirError."""
    found: set[str] = set()
    reference = parameter.get("valueReference")
    if isinstance(reference, Mapping):
        if isinstance(text := reference.get("reference"), str):
            found.add(local_name(text, bases))
        found |= _identifier(reference.get("identifier"))
    found |= _identifier(parameter.get("valueIdentifier"))
    if isinstance(text := parameter.get("valueString"), str) and text:
        found.add(local_name(text, bases))
    if not found:
        raise _wrong("actor is a valueReference, a valueIdentifier or a valueString")
    return found


def _identifier(value: object) -> set[str]:
    text = value.get("value") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(text, str) or not text:
        return set()
    system = value.get("system")
    return {text, f"{system}|{text}"} if isinstance(system, str) else {text}


def _resource(parameter: Mapping[str, object], patient: str, bases: frozenset[str]) -> Mapping[str, Any]:
    found = parameter.get("resource")
    if not isinstance(found, Mapping):
        raise _wrong("the parameter resource holds a resource")
    if patient not in (patients_of(found, bases) or ()):
        raise _wrong("the resource is not about the patient who is asked for")
    return found


def _wrong(text: str) -> FhirError:
    return FhirError(Reason.INVALID_PARAMETER, text)
