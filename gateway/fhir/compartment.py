"""Whose resource it is: the Patient compartment (FHIR R4, CompartmentDefinition), judged on the resource itself.

A reference counts when it is literal and of the store: 'Patient/A' or that below one of the store's base URLs, with or
without a version. Display, logical identifier, other hosts and contained resources never make a resource one's own.
A Patient is in the compartment of its id alone; Patient.link does not open another record.

Three readings of membership, since a resource may name several people:
    subject  the patient whom it is about: the one subject-like parameter of the type
    spec     the specification's: any parameter of the CompartmentDefinition, the author's and performer's included
    all      every patient whom any of these parameters names is one of the caller's, and there is one
For subject and all, a reference that may be somebody else's counts against: a fragment whose resource is a Patient,
an absolute or logical reference to a Patient, a urn. So does a contained Patient, a contained resource of another,
one outside the compartment that names another, and one that holds resources itself. The items of a List count as well.
What closes asks the other way round, with may_be_in_compartment(): there the same reference counts for.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from gateway.fhir.definitions import is_resource_type, members, patient_compartment, search_parameter
from gateway.fhir.fhirpath import Expression, compile_expression, first_members
from gateway.fhir.held_resources import contained_resources, holds_others
from gateway.fhir.ids import is_id
from gateway.fhir.interaction import SearchTerm
from gateway.fhir.links import local_reference
from gateway.fhir.search import make_term
from gateway.fhir.whose import Whose, is_logical, patients_among, references_in, whose

MEMBERSHIPS = ("subject", "spec", "all")
# In order of preference: the parameters that say whom a resource is about, not who took part in it.
_SUBJECT_LIKE = ("subject", "patient", "beneficiary", "individual")
_LISTED = {"List": "List.entry.item"}
"""What of a type is a list of others: a List about one patient may name another."""
_PLAIN_PATIENT = re.compile(r"Patient/[A-Za-z0-9-]{1,64}")
_RESOLVES = re.compile(r"\.where\(resolve\(\) is Patient\)")


@dataclass(frozen=True, slots=True)
class _Compartment:
    subject: tuple[Expression, ...]
    every: tuple[Expression, ...]
    listed: tuple[Expression, ...]


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
    if Whose.OWN not in found:
        return False
    if membership == "spec":
        return True
    found |= _named_beside(resource, patients, bases)
    return not found & {Whose.FOREIGN, Whose.UNCLEAR}


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
    if type == "Patient" or type in _LISTED or not is_resource_type(type):
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
    looked_at = (*compartment.subject, *compartment.every, *compartment.listed)
    return first_members("resourceType", "contained", *looked_at)


def may_be_in_compartment(
    resource: Mapping[str, Any], patients: frozenset[str], *, membership: str, bases: frozenset[str]
) -> bool:
    """Whether a denial about these patients (ids) must hold on the resource.

    It does when any of the references of that membership is one of them, whoever else is named beside, and when one
    cannot be told. A subject that is known by an identifier alone may be anybody.
    """
    found = _named(resource, patients, membership, bases) | _named_beside(resource, patients, bases)
    return not found.isdisjoint({Whose.OWN, Whose.UNCLEAR}) or _has_logical_subject(resource)


def _has_logical_subject(resource: Mapping[str, Any]) -> bool:
    type = resource.get("resourceType")
    if not isinstance(type, str) or type == "Patient" or not is_resource_type(type):
        return False
    named = (each for expression in _compartment(type).subject for each in expression.values(resource))
    return any(isinstance(each, Mapping) and is_logical(each) for each in named)


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
            match whose(reference, frozenset(), bases, resource):
                case Whose.FOREIGN:
                    local = local_reference(reference["reference"], bases)
                    found.add("" if local is None else local.id)
                case Whose.UNCLEAR:
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
    if type in _LISTED:
        return False
    expressions = _compartment(type).subject or _compartment(type).every
    return all(_is_single(route.steps, type) for each in expressions for route in each.routes)


def _named(
    resource: Mapping[str, Any],
    patients: frozenset[str],
    membership: str,
    bases: frozenset[str],
    container: Mapping[str, Any] | None = None,
) -> set[Whose]:
    """Whose the resource is, by every reference that the membership looks at; container is what it is contained in."""
    if membership not in MEMBERSHIPS:
        raise ValueError(f"membership is one of {', '.join(MEMBERSHIPS)}, not '{membership}'")
    type = resource.get("resourceType")
    if not isinstance(type, str) or not is_resource_type(type):
        return set()
    if type == "Patient":
        return {Whose.OWN if resource.get("id") in patients else Whose.FOREIGN}
    compartment = _compartment(type)
    expressions = compartment.subject if membership == "subject" else compartment.every
    return {
        whose(reference, patients, bases, resource if container is None else container)
        for expression in expressions
        for reference in expression.values(resource)
    }


def _named_beside(resource: Mapping[str, Any], patients: frozenset[str], bases: frozenset[str]) -> set[Whose]:
    """Whose the contained resources are, and the people whom a List lists."""
    found: set[Whose] = set()
    if "contained" in resource:
        for inner in contained_resources(resource):
            if isinstance(inner, Mapping):
                found |= _named_within(inner, patients, bases, resource)
    type = resource.get("resourceType")
    if isinstance(type, str) and type in _LISTED:
        for expression in _compartment(type).listed:
            found |= patients_among(expression.values(resource), patients, bases)
    return found


def _named_within(
    inner: Mapping[str, Any],
    patients: frozenset[str],
    bases: frozenset[str],
    container: Mapping[str, Any],
) -> set[Whose]:
    """Whose a contained resource is. A Patient there has an id of the container's only: nobody can tell who it is.

    Nor can it be told of what holds others, which R4 forbids there, or is of no type. A type outside of the compartment
    may be about somebody all the same: there every reference to a patient counts.
    """
    type = inner.get("resourceType")
    if not isinstance(type, str) or not is_resource_type(type) or type == "Patient" or holds_others(inner):
        return {Whose.UNCLEAR}
    if patient_compartment(type):
        return _named(inner, patients, "all", bases, container)
    return patients_among(references_in(inner), patients, bases)


@cache
def _compartment(type: str) -> _Compartment:
    subject = subject_parameter(type)
    every = {code: _references(type, code) for code in patient_compartment(type)}
    return _Compartment(
        () if subject is None or subject not in every else (every[subject],),
        tuple(every.values()),
        (compile_expression(_LISTED[type]),) if type in _LISTED else (),
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
