"""The body of a patch: JSON Patch (RFC 6902) or FHIRPath Patch, read strictly and applied to the stored version."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.fhir import resource
from gateway.fhir.fhirpath_patch import fhirpath_patch
from gateway.fhir.formats import BOTH
from gateway.fhir.json_patch import JSON_PATCH, invalid, json_patch
from gateway.fhir.known_elements import check_elements, unknown_element
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.shape import check_whole, is_subsetted
from gateway.proxy import headers

_TOO_DEEP = f"the patched resource is nested deeper than {resource.MAX_DEPTH} objects and arrays"
_KEPT = ("versionId", "lastUpdated")  # of meta: the store's own


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch as read: the operations of a JSON Patch, or a Parameters resource."""

    operations: list[Any] | None
    parameters: dict[str, Any] | None


def read_patch(content_type: str, raw: bytes) -> Patch:
    """The patch of a body. Raises FhirError: UNSUPPORTED_MEDIA_TYPE (XML Patch, merge patches), INVALID_BODY."""
    media, _, parameters = content_type.partition(";")
    if media.strip().lower() == JSON_PATCH and headers.is_json(f"application/json;{parameters}"):
        value = resource.parse_json(raw)
        if not isinstance(value, list):
            raise invalid("a JSON Patch is an array of objects")
        return Patch(value, None)
    if media.strip().lower() == headers.FHIR_JSON and headers.is_json(content_type):
        return Patch(None, resource.parse_resource(raw))
    raise FhirError(
        Reason.UNSUPPORTED_MEDIA_TYPE,
        f"a patch must be {JSON_PATCH}, or a Parameters resource as {BOTH}",
    )


def apply_patch(before: Mapping[str, Any], patch: Patch) -> dict[str, Any]:
    """The resource after the patch. Raises FhirError: PATCH_FAILED, INVALID_BODY, TOO_LARGE."""
    try:
        if patch.operations is not None:
            after = json_patch(before, patch.operations)
        else:
            after = fhirpath_patch(before, patch.parameters or {})
    except RecursionError as error:
        raise invalid(_TOO_DEEP) from error
    if resource.is_too_deep(after):
        raise invalid(_TOO_DEEP)
    if unknown_element(after) != unknown_element(before):  # what a store says in words of its own may stay
        check_elements(after)
    if not is_subsetted(before):
        check_whole(after)
    for name in _KEPT:
        if _meta(before).get(name) != _meta(after).get(name):
            raise invalid(f"a patch cannot change meta.{name}")
    return after


def _meta(value: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = value.get("meta")
    return meta if isinstance(meta, Mapping) else {}
