"""What stands in place of an element that a resource must have and that the caller does not see.

Without it the resource would not be valid FHIR, and a reader would take a hidden status for a missing one.
"""

from collections.abc import Mapping
from typing import Any

from gateway.fhir.definitions import mandatory_elements, members

_MASKED = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked"}


def masked(seen: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is seen of whole, with the data-absent-reason 'masked' for each element of the first level that must be there."""
    type_ = str(whole.get("resourceType"))
    found = dict(seen)
    for name in sorted(mandatory_elements(type_)):
        if name not in whole or name in seen or f"_{name}" in seen:
            continue
        element = members(type_)[name]
        mark: Any = {"extension": [dict(_MASKED)]}
        is_primitive = element.path[:1].islower()
        found[f"_{name}" if is_primitive else name] = [mark] if element.repeats else mark
    return found
