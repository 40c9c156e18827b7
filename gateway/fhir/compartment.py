"""Whose resource it is: the Patient compartment of FHIR R4 3.1.3, judged on the resource itself.

A reference counts when it is literal and of the store: 'Patient/A' or that below one of the store's base URLs, with or
without a version. Display, logical identifier, other hosts and contained resources never make a resource one's own.
A Patient is in the compartment of its id alone; Patient.link does not open another record.

Three readings of membership, since a resource may name several people:
    subject  the patient whom it is about: the one subject-like parameter of the type
    spec     the specification's: any parameter of the CompartmentDefinition, the author's and performer's included
    all      every patient whom any of these parameters names is one of the caller's, and there is one
For subject and all, a reference that may be somebody else's counts against: a fragment whose resource is a Patient,
an absolute or logical reference to a Patient, a urn. So does a contained Patient, and a contained resource of another.
What closes asks the other way round, with may_be_in_compartment(): there the same reference counts for.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from typing import Any

from gateway.fhir.definitions import (
    RESOURCE_TYPES,
    is_resource_type,
    members,
    patient_compartment,
    search_parameter,
)
from gateway.fhir.fhirpath import Expression, compile_expression, first_members
from gateway.fhir.ids import is_id
from gateway.fhir.interaction import SearchTerm
from gateway.fhir.links import local_reference
from gateway.fhir.search import make_term

MEMBERSHIPS = ("subject", "spec", "all")
# In order of preference: the parameters that say whom a resource is about, not who took part in it.
_SUBJECT_LIKE = ("subject", "patient", "beneficiary", "individual")
_PLAIN_PATIENT = re.compile(r"Patient/[A-Za-z0-9-]{1,64}")
_RESOLVES = re.compile(r"\.where\(resolve\(\) is Patient\)")
_NAMED_TYPE = re.compile(
    r"(?:.*/)?([A-Za-z]+)/[A-Za-z0-9.-]{1,64}(?:/_history/[A-Za-z0-9.-]{1,64})?", re.DOTALL
)


class _Whose(Enum):
    OWN = auto()
    FOREIGN = auto()  # another patient of the store
    UNCLEAR = auto()  # a patient, or perhaps one, and it cannot be told which
    NOBODY = auto()  # certainly not a patient


@dataclass(frozen=True, slots=True)
class _Compartment:
    subject: tuple[Expression, ...]
    every: tuple[Expression, ...]


def subject_parameter(type: str) -> str | None:
    """The search parameter that says whom a resource of the type is about; None where R4 has none in the compartment.

    'subject' of an Observation, 'patient' of a Condition, 'beneficiary' of a Coverage; '_id' of a Patient.
    """
    if type == "Patient":
        return "_id"
    codes = patient_compartment(type)
    return next((code for code in _SUBJECT_LIKE if code in codes), None)


def in_compartment(
    resource: Mapping[str, Any], patients: frozenset[str], *, membership: str, bases: frozenset[str]
) -> bool:
    """Whether the resource is in the compartment of one of the patients (ids), in the given reading of membership.

    False for every type outside the Patient compartment, and for 'subject' where the type has no subject.
    """
    found = _named(resource, patients, membership, bases)
    if _Whose.OWN not in found:
        return False
    if membership == "spec":
        return True
    if "contained" in resource:
        found |= _named_within(resource, patients, bases)
    return not found & {_Whose.FOREIGN, _Whose.UNCLEAR}


def compartment_test(
    type: str, patients: frozenset[str], *, membership: str, bases: frozenset[str]
) -> Callable[[Mapping[str, Any]], bool]:
    """in_compartment() for resources of one type: the usual form of a subject, 'Patient/A', is told at a glance."""

    def test(resource: Mapping[str, Any]) -> bool:
        return in_compartment(resource, patients, membership=membership, bases=bases)

    def of_a_patient(resource: Mapping[str, Any]) -> bool:
        if resource.get("resourceType") == "Patient" and "contained" not in resource:
            return resource.get("id") in patients
        return test(resource)

    if type == "Patient" and membership in MEMBERSHIPS:
        return of_a_patient
    element = subject_element(type)
    if element is None or membership not in ("subject", "spec"):
        return test
    own = frozenset(f"Patient/{each}" for each in patients if is_id(each))
    decides = membership == "subject"  # by another parameter of the compartment it may still be in it

    def glance(resource: Mapping[str, Any]) -> bool:
        if resource.get("resourceType") == type and "contained" not in resource:
            reference = resource.get(element)
            if isinstance(reference, dict):
                text = reference.get("reference")
                if isinstance(text, str):
                    if text in own:
                        return True
                    if decides and _PLAIN_PATIENT.fullmatch(text):
                        return False
        return test(resource)

    return glance


@cache
def subject_element(type: str) -> str | None:
    """The element that names the subject of the type, where it stands at the top and only once; None elsewhere."""
    if type == "Patient" or not is_resource_type(type):
        return None
    subject = _compartment(type).subject
    routes = [route for each in subject for route in each.routes]
    if len(routes) != 1 or len(routes[0].steps) != 1 or not _is_single(routes[0].steps, type):
        return None
    (step,) = routes[0].steps
    return step if isinstance(step, str) else None


@cache
def members_naming_patients(type: str) -> frozenset[str] | None:
    """The members that anything here looks at in a resource of the type, by any membership; None for all of them."""
    if type == "Patient":
        return frozenset({"resourceType", "id", "contained"})
    if not is_resource_type(type):
        return frozenset({"resourceType", "contained"})
    compartment = _compartment(type)
    return first_members("resourceType", "contained", *compartment.subject, *compartment.every)


def may_be_in_compartment(
    resource: Mapping[str, Any], patients: frozenset[str], *, membership: str, bases: frozenset[str]
) -> bool:
    """Whether a denial about these patients (ids) must hold on the resource.

    It does when any of the references of that membership is one of them, whoever else is named beside, and when one
    cannot be told.
    """
    found = _named(resource, patients, membership, bases) | _named_within(resource, patients, bases)
    return not found.isdisjoint({_Whose.OWN, _Whose.UNCLEAR})


def patients_of(resource: Mapping[str, Any], bases: frozenset[str]) -> frozenset[str] | None:
    """The ids of the patients whom a resource is about: by its subject, by every parameter where it has none.

    None where one of them cannot be told, and outside of the compartment; empty where it is about no patient.
    """
    type = resource.get("resourceType")
    if not isinstance(type, str) or not is_resource_type(type):
        return None
    if type == "Patient":
        id_ = resource.get("id")
        return frozenset({id_}) if isinstance(id_, str) and is_id(id_) else None
    compartment = _compartment(type)
    found: set[str] = set()
    for expression in compartment.subject or compartment.every:
        for reference in expression.values(resource):
            match _whose(reference, frozenset(), bases, resource):
                case _Whose.FOREIGN:
                    local = local_reference(reference["reference"], bases)
                    found.add("" if local is None else local.id)
                case _Whose.UNCLEAR:
                    return None
                case _:
                    pass
    return frozenset(found)


def compartment_term(type: str, patients: Iterable[str], membership: str) -> SearchTerm | None:
    """The search term that narrows a search of the type to the patients, e.g. subject=Patient/A.

    None where one parameter cannot say it: then the answer alone is judged. Raises ValueError without patients (the
    search then finds nothing, and must not be sent) and for an id that is not one.
    """
    ids = sorted(set(patients))
    if not ids or not all(is_id(each) for each in ids):
        raise ValueError("a compartment needs at least one patient, each by a FHIR id")
    if type == "Patient":
        return make_term("_id", ids)
    code = subject_parameter(type)
    if membership != "subject":
        codes = patient_compartment(type)
        code = codes[0] if len(codes) == 1 else None
    return None if code is None else make_term(code, [f"Patient/{each}" for each in ids])


def narrows_exactly(type: str, membership: str) -> bool:
    """Whether compartment_term() finds exactly what in_compartment() accepts, so that counts may be shown.

    Not where the parameter may name several patients: the term finds a resource that names a stranger as well.
    """
    if type == "Patient":
        return True
    if compartment_term(type, ("A",), membership) is None:
        return False
    if membership == "spec":
        return True
    expressions = _compartment(type).subject or _compartment(type).every
    return all(_is_single(route.steps, type) for each in expressions for route in each.routes)


def _named(
    resource: Mapping[str, Any], patients: frozenset[str], membership: str, bases: frozenset[str]
) -> set[_Whose]:
    """Whose the resource is, by every reference that the membership looks at."""
    if membership not in MEMBERSHIPS:
        raise ValueError(f"membership is one of {', '.join(MEMBERSHIPS)}, not '{membership}'")
    type = resource.get("resourceType")
    if not isinstance(type, str) or not is_resource_type(type):
        return set()
    if type == "Patient":
        return {_Whose.OWN if resource.get("id") in patients else _Whose.FOREIGN}
    compartment = _compartment(type)
    expressions = compartment.subject if membership == "subject" else compartment.every
    return {
        _whose(reference, patients, bases, resource)
        for expression in expressions
        for reference in expression.values(resource)
    }


def _named_within(
    resource: Mapping[str, Any], patients: frozenset[str], bases: frozenset[str]
) -> set[_Whose]:
    """Whose the contained resources are. A Patient there has an id of the container's only: nobody can tell who it is."""
    contained = resource.get("contained")
    found: set[_Whose] = set()
    for inner in contained if isinstance(contained, list) else [contained]:
        if isinstance(inner, dict):
            is_person = inner.get("resourceType") == "Patient"
            found |= {_Whose.UNCLEAR} if is_person else _named(inner, patients, "all", bases)
    return found


@cache
def _compartment(type: str) -> _Compartment:
    subject = subject_parameter(type)
    every = {code: _references(type, code) for code in patient_compartment(type)}
    return _Compartment(
        () if subject is None or subject not in every else (every[subject],), tuple(every.values())
    )


@cache
def _references(type: str, code: str) -> Expression:
    """What the parameter selects, without its own test for patients: whose a reference is, is judged here."""
    parameter = search_parameter(type, code)
    if parameter is None:
        raise ValueError(f"{type} has no search parameter '{code}'")
    return compile_expression(_RESOLVES.sub("", parameter.expression))


def _is_single(steps: tuple[Any, ...], type: str) -> bool:
    path = type
    for step in steps:
        if isinstance(step, str):
            element = members(path)[step]
            if element.repeats:
                return False
            path = element.path
    return True


def _whose(
    reference: Any, patients: frozenset[str], bases: frozenset[str], resource: Mapping[str, Any]
) -> _Whose:
    if not isinstance(reference, dict):
        return _Whose.UNCLEAR
    text = reference.get("reference")
    if text is None:
        return _Whose.UNCLEAR if reference.get("type") == "Patient" else _Whose.NOBODY
    if not isinstance(text, str):
        return _Whose.UNCLEAR
    local = local_reference(text, bases)
    if local is not None:
        if local.type != "Patient":
            return _Whose.NOBODY
        return _Whose.OWN if local.id in patients else _Whose.FOREIGN
    if text.startswith("#"):
        return _Whose.UNCLEAR if _contained_type(resource, text[1:]) in (None, "Patient") else _Whose.NOBODY
    match = _NAMED_TYPE.fullmatch(text)
    if match is not None and match[1] in RESOURCE_TYPES and match[1] != "Patient":
        return _Whose.NOBODY
    return _Whose.UNCLEAR


def _contained_type(resource: Mapping[str, Any], id: str) -> str | None:
    contained = resource.get("contained")
    for inner in contained if isinstance(contained, list) else ():
        if isinstance(inner, dict) and inner.get("id") == id:
            type = inner.get("resourceType")
            return type if isinstance(type, str) else None
    return None
