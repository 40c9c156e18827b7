"""Parameters as what an operation by POST is asked with (FHIR R4 3.2.0.3): they mean what a query would, name by name.

An operation that only reads is read here as the GET that says the same, and goes on as that: one decision, one way to
the store. What stands in the query and in the body is refused, since stores differ in which of the two they take.
"""

from collections.abc import Mapping
from dataclasses import replace

from gateway.fhir import operations, resource, search
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.operations import OPERATIONS, operation_of
from gateway.fhir.outcome import FhirError, Reason

_KINDS: Mapping[str, tuple[str, ...]] = {
    "_count": ("valueInteger",),
    "_outputFormat": ("valueString",),
    "_since": ("valueInstant",),
    "_type": ("valueCode", "valueString"),
    "_typeFilter": ("valueString",),
    "end": ("valueDate", "valueDateTime"),
    "max": ("valuePositiveInt", "valueInteger"),
    "mode": ("valueCode",),
    "patient": ("valueId",),
    "profile": ("valueUri",),
    "start": ("valueDate", "valueDateTime"),
    "type": ("valueCodeableConcept",),
}
"""How the definitions of the operations type each parameter; the search criteria of $lastn are texts of a query."""
_OF_SEARCHES = ("valueString",)
_VALIDATED = "resource"


def reads_by_post(asked: FhirRequest) -> bool:
    """Whether this is by POST an operation that only reads, and so may be asked by GET as well."""
    found = OPERATIONS.get(asked.operation or "")
    return (
        asked.interaction is Interaction.OPERATION
        and asked.method == "POST"
        and found is not None
        and found.method == "GET"
        and operation_of(replace(asked, method="GET")) is not None
    )


def as_read(asked: FhirRequest, raw: bytes) -> FhirRequest:
    """The GET that says the same as this POST with the body raw; b'' is no parameter.

    Raises FhirError: INVALID_BODY, UNSUPPORTED_PARAMETER, AMBIGUOUS_QUERY and what the same query would raise.
    """
    given = _parameters(resource.parse_resource(raw)) if raw else []
    return replace(asked, method="GET", terms=_together(asked, given))


def validated(asked: FhirRequest, raw: bytes) -> tuple[FhirRequest, bytes]:
    """The $validate with the terms of its Parameters beside those of its query, and the resource alone.

    A body that is no Parameters is the resource itself (FHIR R4 resource-operation-validate); b'' where none is given.
    Raises FhirError as as_read() does.
    """
    value = resource.parse_resource(raw) if raw else None
    if value is None or value["resourceType"] != "Parameters" or asked.type == "Parameters":
        return asked, raw
    given = _parameters(value)
    resources = [each for each in given if each["name"] == _VALIDATED]
    if len(resources) > 1 or any(set(each) != {"name", _VALIDATED} for each in resources):
        raise FhirError(Reason.INVALID_BODY, "Parameters hold the resource to validate once, as 'resource'")
    told = replace(asked, terms=_together(asked, [each for each in given if each["name"] != _VALIDATED]))
    found = resources[0][_VALIDATED] if resources else None
    if found is not None and not isinstance(found, dict):
        raise FhirError(Reason.INVALID_BODY, "Parameters hold the resource to validate once, as 'resource'")
    return told, b"" if found is None else resource.write_resource(found)


def _parameters(value: Mapping[str, object]) -> list[Mapping[str, object]]:
    found = value.get("parameter", [])
    if value["resourceType"] != "Parameters" or not set(value) <= {"resourceType", "id", "parameter"}:
        raise FhirError(Reason.INVALID_BODY, "the body of an operation must be Parameters")
    if not isinstance(found, list) or not all(_is_named(each) for each in found):
        raise FhirError(Reason.INVALID_BODY, "each parameter must have a name")
    return found


def _is_named(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("name"), str)


def _together(asked: FhirRequest, given: list[Mapping[str, object]]) -> tuple[SearchTerm, ...]:
    pairs = _listed([_pair(asked, each) for each in given])
    if any(name in search.READ_PARAMETERS for name, _ in pairs):
        raise FhirError(
            Reason.UNSUPPORTED_PARAMETER, "say the format of the answer in Accept, or in the query"
        )
    terms = operations.parse_terms(asked.operation or "", asked.type, pairs)
    if {term.code for term in terms} & {term.code for term in asked.terms}:
        raise FhirError(
            Reason.AMBIGUOUS_QUERY, "a parameter is given in the query and in the body: give it once"
        )
    together = (*asked.terms, *terms)
    search.check_together(together)
    return together


def _pair(asked: FhirRequest, parameter: Mapping[str, object]) -> tuple[str, str]:
    """Name and value as a query would hold them. Raises FhirError."""
    name = str(parameter["name"])
    is_criterion = asked.operation == "lastn" and name != "max"
    kinds = _OF_SEARCHES if is_criterion else _KINDS.get(name)
    if kinds is None:
        raise FhirError(Reason.UNSUPPORTED_PARAMETER, "a parameter of the body is closed here")
    said = [kind for kind in kinds if kind in parameter]
    if len(parameter) != 2 or len(said) != 1:
        raise FhirError(Reason.INVALID_BODY, f"a parameter must have a name and {' or '.join(kinds)}")
    value = parameter[said[0]]
    if said[0] == "valueCodeableConcept":
        return name, _token(value)
    if said[0] in ("valueInteger", "valuePositiveInt"):
        if not isinstance(value, int) or isinstance(value, bool):
            raise FhirError(Reason.INVALID_BODY, f"{said[0]} must be a number")
        return name, str(value)
    if not isinstance(value, str) or not value:
        raise FhirError(Reason.INVALID_BODY, f"{said[0]} must be text")
    return name, value


def _token(value: object) -> str:
    """A concept with one coding as the token of a search."""
    codings = value.get("coding") if isinstance(value, dict) and set(value) == {"coding"} else None
    coding = codings[0] if isinstance(codings, list) and len(codings) == 1 else None
    if not isinstance(coding, dict) or not set(coding) <= {"system", "code", "display"}:
        raise FhirError(Reason.INVALID_BODY, "a concept must have one coding of system and code")
    system, code = coding.get("system", ""), coding.get("code")
    if (
        not isinstance(system, str)
        or not isinstance(code, str)
        or not code
        or set(system + code) & set("\\|,$")
    ):
        raise FhirError(Reason.INVALID_BODY, "a concept must have one coding of system and code")
    return f"{system}|{code}" if system else code


def _listed(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Several _type of Parameters are the one list of a query."""
    types = [value for name, value in pairs if name == "_type"]
    rest = [pair for pair in pairs if pair[0] != "_type"]
    return [*rest, ("_type", ",".join(types))] if types else rest
