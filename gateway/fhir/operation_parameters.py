"""The inputs of operations that come as a Parameters resource (FHIR R4 3.2.0.2): read as the query of a GET would be.

So an operation by POST is decided on the same words as one by GET. What has no such word, a part or a resource where
none is expected, is refused and never left out.
"""

from collections.abc import Mapping
from dataclasses import replace

from gateway.fhir import operations, search
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.outcome import FhirError, Reason

_TEXTS = (
    "valueString", "valueCode", "valueId", "valueUri", "valueUrl", "valueCanonical", "valueDate", "valueDateTime",
    "valueInstant",
)  # fmt: skip
_NUMBERS = ("valueInteger", "valuePositiveInt", "valueUnsignedInt")
_MAX_PARAMETERS = 100


def takes_parameters(asked: FhirRequest) -> bool:
    """Whether the request is an operation by POST whose inputs might as well be the query of a GET."""
    found = operations.OPERATIONS.get(asked.operation or "")
    is_post = asked.interaction is Interaction.OPERATION and asked.method == "POST"
    return is_post and asked.sealed is None and found is not None and found.method == "GET"


def with_parameters(asked: FhirRequest, value: Mapping[str, object] | None) -> FhirRequest:
    """The operation as a GET with the inputs of a Parameters resource; None is a request without a body.

    Raises FhirError.
    """
    if asked.terms:
        raise FhirError(
            Reason.AMBIGUOUS_QUERY, "an operation by POST has its inputs in the body, and no query"
        )
    pairs = [] if value is None else [_pair(each) for each in parameters_of(value)]
    if any(name in search.READ_PARAMETERS for name, _ in pairs):
        raise FhirError(Reason.UNSUPPORTED_PARAMETER, "say the format of the answer in Accept")
    types = [text for name, text in pairs if name == "_type"]
    if len(types) > 1:  # Bulk Data Access 2.0, 2.4.1: it may be repeated in the body
        pairs = [pair for pair in pairs if pair[0] != "_type"] + [("_type", ",".join(types))]
    terms = operations.parse_terms(asked.operation or "", asked.type, pairs)
    return replace(asked, method="GET", terms=terms)


def parameters_of(value: Mapping[str, object]) -> list[Mapping[str, object]]:
    """The parameters of a Parameters resource. Raises FhirError for what is none."""
    found = value.get("parameter", [])
    if value.get("resourceType") != "Parameters" or value.keys() - {
        "resourceType",
        "id",
        "meta",
        "parameter",
    }:
        raise FhirError(
            Reason.INVALID_BODY, "the body must be a Parameters resource with nothing but parameters"
        )
    if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
        raise FhirError(Reason.INVALID_BODY, "parameter must be a list of objects")
    if len(found) > _MAX_PARAMETERS:
        raise FhirError(Reason.INVALID_PARAMETER, f"at most {_MAX_PARAMETERS} parameters are accepted")
    return found


def validated(
    asked: FhirRequest, value: Mapping[str, object]
) -> tuple[FhirRequest, Mapping[str, object] | None]:
    """A $validate with the mode that its Parameters say, and the resource that they hold, None where they hold none.

    Raises FhirError, also for a profile: it is not for the caller to name.
    """
    held: Mapping[str, object] | None = None
    pairs: list[tuple[str, str]] = []
    for each in parameters_of(value):
        match each.get("name"):
            case "mode" if not pairs:
                pairs.append(_pair(each))
            case "resource" if held is None:
                found = each.get("resource")
                if not isinstance(found, Mapping) or each.keys() - {"name", "id", "resource"}:
                    raise FhirError(Reason.INVALID_BODY, "the parameter resource holds a resource alone")
                held = found
            case _:
                said = "$validate takes the parameters resource and mode, once each: profiles are not for the caller to name"
                raise FhirError(Reason.UNSUPPORTED_PARAMETER, said)
    if pairs and asked.terms:
        raise FhirError(Reason.AMBIGUOUS_QUERY, "mode is given in the query and in the body: give it once")
    return replace(asked, terms=(*asked.terms, *operations.parse_terms("validate", asked.type, pairs))), held


def _pair(parameter: Mapping[str, object]) -> tuple[str, str]:
    """Name and value as a query has them."""
    members = [member for member in parameter if member not in ("name", "id")]
    name = parameter.get("name")
    if not isinstance(name, str) or not name or len(members) != 1:
        raise FhirError(Reason.INVALID_PARAMETER, "a parameter has a name and one value")
    member, value = members[0], parameter[members[0]]
    if member in _TEXTS and isinstance(value, str):
        return name, value
    if member in _NUMBERS and isinstance(value, int) and not isinstance(value, bool):
        return name, str(value)
    if member == "valueBoolean" and isinstance(value, bool):
        return name, "true" if value else "false"
    if (
        member == "valueReference"
        and isinstance(value, Mapping)
        and value.keys() <= {"reference", "display", "type"}
    ):
        reference = value.get("reference")
        if isinstance(reference, str):
            return name, reference
    raise FhirError(
        Reason.INVALID_PARAMETER, "a parameter must be a text, a number, true or false, or a reference"
    )
