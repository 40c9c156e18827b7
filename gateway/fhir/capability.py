"""The CapabilityStatement of the gateway: what the store can do, cut down to what may pass (FHIR R4 4.1, SMART 2.1).

It is built anew from the parts that are known, never by deleting from the store's: the store's product name, address
and authorization server do not belong to the caller, and what a later version of the store adds is closed until it is
decided. It is public, so it does not depend on who asks; what a caller may do, scopes and policies say.
"""

from collections.abc import Mapping
from typing import Any

from gateway.fhir.dates import interval
from gateway.fhir.definitions import is_resource_type, search_parameter
from gateway.fhir.interaction import Interaction
from gateway.fhir.json_patch import JSON_PATCH
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.search import CLOSED_PARAMETERS

_OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_SERVICE = "http://terminology.hl7.org/CodeSystem/restful-security-service"
_FHIR_VERSION = "4.0.1"
_FHIR_DATE = "2019-10-30"  # of FHIR 4.0.1
_CODES = {  # interactions of a resource type, in the words of CapabilityStatement.rest.resource.interaction
    Interaction.READ: "read",
    Interaction.VREAD: "vread",
    Interaction.UPDATE: "update",
    Interaction.PATCH: "patch",
    Interaction.DELETE: "delete",
    Interaction.HISTORY_INSTANCE: "history-instance",
    Interaction.HISTORY_TYPE: "history-type",
    Interaction.CREATE: "create",
    Interaction.SEARCH: "search-type",
}
# What may pass at all in this version; all else is refused before the store is asked.
OPEN_INTERACTIONS = frozenset(
    {
        Interaction.READ,
        Interaction.VREAD,
        Interaction.HISTORY_INSTANCE,
        Interaction.SEARCH,
        Interaction.CREATE,
        Interaction.UPDATE,
        Interaction.PATCH,
        Interaction.DELETE,
    }
)
_DOORS = ("authorize", "token", "introspect", "revoke", "register", "manage")  # of the oauth-uris extension


def capability_statement(
    upstream: Mapping[str, Any],
    *,
    public_base: str,
    oauth_uris: Mapping[str, str],
    interactions: frozenset[Interaction] = OPEN_INTERACTIONS,
    transactions: bool = True,
) -> dict[str, Any]:
    """The statement of the gateway in front of the store whose statement is upstream.

    oauth_uris are the addresses of the authorization server's doors by the names of the SMART extension: authorize,
    token, and what there is of introspect, revoke, register, manage. interactions are those that may pass at all;
    transactions, where the store carries them out as well.
    Raises FhirError UPSTREAM_INVALID when upstream is not the statement of an R4 server.
    """
    if upstream.get("resourceType") != "CapabilityStatement":
        raise FhirError(Reason.UPSTREAM_INVALID, "The store's capabilities are not a CapabilityStatement")
    if not str(upstream.get("fhirVersion", "")).startswith("4.0"):
        raise FhirError(Reason.UPSTREAM_INVALID, "The store does not speak FHIR R4")
    open_codes = frozenset(_CODES[each] for each in interactions if each in _CODES)
    resources = {
        resource["type"]: _resource(resource, open_codes)
        for rest in _objects(upstream.get("rest"))
        if rest.get("mode") == "server"
        for resource in _objects(rest.get("resource"))
        if isinstance(resource.get("type"), str) and is_resource_type(resource["type"])
    }
    # FHIR has no empty arrays.
    listed = [resources[name] for name in sorted(resources) if resources[name]["interaction"]]
    patches = any({"code": "patch"} in each["interaction"] for each in listed)
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _date(upstream.get("date")),
        "kind": "instance",
        "software": {"name": "Securus"},
        "implementation": {"description": "FHIR R4 through an access gateway", "url": public_base},
        "fhirVersion": _FHIR_VERSION,
        "format": ["application/fhir+json", "json", "application/fhir+xml", "xml"],
        # XML Patch is not among them: what a path of XML means in JSON has more than one reading.
        **({"patchFormat": [JSON_PATCH, "application/fhir+json", "application/fhir+xml"]} if patches else {}),
        "rest": [
            {"mode": "server", "security": _security(oauth_uris)}
            | ({"resource": listed} if listed else {})
            | {"interaction": [{"code": code} for code in _bundles(upstream, transactions)]}
        ],
    }


def _resource(upstream: Mapping[str, Any], open_codes: frozenset[str]) -> dict[str, Any]:
    type: str = upstream["type"]
    offered = {each.get("code") for each in _objects(upstream.get("interaction"))}
    codes = [code for code in _CODES.values() if code in offered and code in open_codes]
    resource: dict[str, Any] = {"type": type}
    for name in ("profile", "supportedProfile"):
        if name in upstream:
            resource[name] = upstream[name]
    if "patch" in open_codes and "patch" not in codes and "update" in codes:
        codes.insert(codes.index("update") + 1, "patch")  # applied here, and stored by an update
    resource["interaction"] = [{"code": code} for code in codes]
    if upstream.get("versioning") in ("no-version", "versioned", "versioned-update"):
        resource["versioning"] = upstream["versioning"]
    found = "search-type" in codes  # the gateway finds the resource itself, by a search
    resource |= {
        "updateCreate": "update" in codes and "create" in codes,
        "conditionalCreate": found and "create" in codes,
        "conditionalRead": "full-support",
        "conditionalUpdate": found and "update" in codes,
        "conditionalDelete": "single" if found and "delete" in codes else "not-supported",
    }
    if "search-type" in codes:
        resource["searchParam"] = [
            {"name": parameter.code, "type": parameter.type}
            for each in _objects(upstream.get("searchParam"))
            if isinstance(code := each.get("name"), str)
            and code not in CLOSED_PARAMETERS
            and (parameter := search_parameter(type, code)) is not None
        ]
        if not resource["searchParam"]:
            del resource["searchParam"]
    return resource


def _bundles(upstream: Mapping[str, Any], transactions: bool) -> list[str]:
    """What may be asked of the system: batches are taken apart here, transactions are the store's to carry out."""
    offered = {
        each.get("code")
        for rest in _objects(upstream.get("rest"))
        if rest.get("mode") == "server"
        for each in _objects(rest.get("interaction"))
    }
    return ["batch", "transaction"] if transactions and "transaction" in offered else ["batch"]


def _security(oauth_uris: Mapping[str, str]) -> dict[str, Any]:
    """SMART App Launch 2.2 2.1.0.3: the same addresses as in .well-known/smart-configuration."""
    if unknown := sorted(set(oauth_uris) - set(_DOORS)):
        raise ValueError(f"the oauth-uris extension has no '{unknown[0]}'")
    return {
        "extension": [
            {
                "url": _OAUTH_URIS,
                "extension": [
                    {"url": name, "valueUri": oauth_uris[name]} for name in _DOORS if name in oauth_uris
                ],
            }
        ],
        "cors": False,
        "service": [
            {
                "coding": [{"system": _SERVICE, "code": "SMART-on-FHIR", "display": "SMART-on-FHIR"}],
                "text": "OAuth 2.0 with FAPI 2.0 and SMART App Launch; tokens are bound to a key (DPoP or mutual TLS)",
            }
        ],
    }


def _date(said: Any) -> str:
    """Since when the statement is so: the store's own date, as far as it is one."""
    return said if isinstance(said, str) and interval(said) is not None else _FHIR_DATE


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
