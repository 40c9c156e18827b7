"""The CapabilityStatement of the gateway: what the store can do, cut down to what may pass (FHIR R4 3.1.0.10, SMART 2.1).

It is built anew from the parts that are known, never by deleting from the store's: the store's product name, address
and authorization server do not belong to the caller, and what a later version of the store adds is closed until it is
decided. It is public, so it does not depend on who asks; what a caller may do, scopes and policies say.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from gateway.fhir.dates import interval
from gateway.fhir.definitions import is_resource_type, search_parameter
from gateway.fhir.interaction import Interaction
from gateway.fhir.json_patch import JSON_PATCH
from gateway.fhir.operations import OPERATIONS
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
_OPENABLE = {"_content": "string", "_filter": "special", "_list": "special", "_text": "string"}
_DOORS = ("authorize", "token", "introspect", "revoke", "register", "manage")  # of the oauth-uris extension


_CORE, _BULK = (
    "http://hl7.org/fhir/OperationDefinition",
    "http://hl7.org/fhir/uv/bulkdata/OperationDefinition",
)
_DEFINITIONS = {  # of the operations that are decided here, by name and type; '' is the whole system
    ("everything", "Patient"): f"{_CORE}/Patient-everything",
    ("lastn", "Observation"): f"{_CORE}/Observation-lastn",
    ("docref", "DocumentReference"): "http://hl7.org/fhir/us/core/OperationDefinition/docref",
    ("validate", "*"): f"{_CORE}/Resource-validate",
    ("export", ""): f"{_BULK}/export",
    ("export", "Patient"): f"{_BULK}/patient-export",
    ("export", "Group"): f"{_BULK}/group-export",
    ("consent-decision", "Patient"): "urn:securus:operation:consent-decision",
}
_OUR_OWN = frozenset({"consent-decision"})  # answered here, whatever the store offers


class Opened(Protocol):
    """What policies open to anybody, by resource type; the type '' is the whole system."""

    def interactions(self, type_: str) -> frozenset[Interaction]:
        """The interactions with a type that are opened."""
        ...

    def envelopes(self) -> frozenset[Interaction]:
        """Batch and transaction, as far as they are opened."""
        ...

    def conditional(self, type_: str) -> frozenset[Interaction]:
        """The writes of a type that may find their resource by criteria."""
        ...

    def has_operation(self, type_: str, name: str) -> bool:
        """Whether an operation is opened there."""
        ...

    def searches_by(self, type_: str, code: str) -> bool:
        """Whether a search of a type may use this parameter."""
        ...

    def includes(self, type_: str, source: str, code: str) -> bool:
        """Whether a search of a type may include by this reference of source."""
        ...


def capability_statement(
    upstream: Mapping[str, Any],
    *,
    public_base: str,
    oauth_uris: Mapping[str, str],
    opened: Opened,
    transactions: bool = True,
    carried_out: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """The statement of the gateway in front of the store whose statement is upstream.

    oauth_uris are the addresses of the authorization server's doors by the names of the SMART extension: authorize,
    token, and what there is of introspect, revoke, register, manage. opened is what policies open to anybody;
    transactions, where the store carries them out as well; carried_out is what the store does of search.OPENABLE.
    Raises FhirError UPSTREAM_INVALID when upstream is not the statement of an R4 server.
    """
    if upstream.get("resourceType") != "CapabilityStatement":
        raise FhirError(Reason.UPSTREAM_INVALID, "The store's capabilities are not a CapabilityStatement")
    if not str(upstream.get("fhirVersion", "")).startswith("4.0"):
        raise FhirError(Reason.UPSTREAM_INVALID, "The store does not speak FHIR R4")
    at_system = _operations(upstream)
    resources = {
        resource["type"]: _resource(resource, opened, at_system, carried_out)
        for rest in _objects(upstream.get("rest"))
        if rest.get("mode") == "server"
        for resource in _objects(rest.get("resource"))
        if isinstance(resource.get("type"), str) and is_resource_type(resource["type"])
    }
    # FHIR has no empty arrays.
    listed = [
        resources[name] for name in sorted(resources) if resources[name].keys() & {"interaction", "operation"}
    ]
    patches = any({"code": "patch"} in each.get("interaction", ()) for each in listed)
    bundles = [{"code": code} for code in _bundles(upstream, opened, transactions)]
    operations = _operation_list("", at_system, opened)
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
            | ({"interaction": bundles} if bundles else {})
            | ({"operation": operations} if operations else {})
        ],
    }


def _resource(
    upstream: Mapping[str, Any], opened: Opened, at_system: frozenset[str], carried_out: frozenset[str]
) -> dict[str, Any]:
    type: str = upstream["type"]
    offered = {each.get("code") for each in _objects(upstream.get("interaction"))}
    if "update" in offered:
        offered.add("patch")  # applied here, and stored by an update
    open_codes = {_CODES[each] for each in opened.interactions(type) & OPEN_INTERACTIONS}
    codes = [code for code in _CODES.values() if code in offered and code in open_codes]
    resource: dict[str, Any] = {"type": type}
    for name in ("profile", "supportedProfile"):
        if name in upstream:
            resource[name] = upstream[name]
    if codes:
        resource["interaction"] = [{"code": code} for code in codes]
    if upstream.get("versioning") in ("no-version", "versioned", "versioned-update"):
        resource["versioning"] = upstream["versioning"]
    # The gateway finds the resource of a conditional write itself, by a search.
    by_criteria = opened.conditional(type) if "search-type" in offered else frozenset()
    resource |= {
        "updateCreate": "update" in codes and "create" in codes,
        "conditionalCreate": Interaction.CREATE in by_criteria and "create" in codes,
        "conditionalRead": "full-support" if "read" in codes else "not-supported",
        "conditionalUpdate": Interaction.UPDATE in by_criteria and "update" in codes,
        "conditionalDelete": "single"
        if Interaction.DELETE in by_criteria and "delete" in codes
        else "not-supported",
    }
    if "search-type" in codes:
        resource |= _search(type, upstream, opened, carried_out)
    operations = _operation_list(type, at_system | _operations(upstream), opened)
    return resource | ({"operation": operations} if operations else {})


def _search(
    type: str, upstream: Mapping[str, Any], opened: Opened, carried_out: frozenset[str]
) -> dict[str, Any]:
    """Includes and parameters of searches: what the store offers, as far as it is opened. FHIR has no empty arrays."""
    found: dict[str, Any] = {
        "searchInclude": sorted(
            f"{source}:{code}"
            for source, code in _joins(upstream.get("searchInclude"))
            if source == type and opened.includes(type, source, code)
        ),
        "searchRevInclude": sorted(
            f"{source}:{code}"
            for source, code in _joins(upstream.get("searchRevInclude"))
            if (parameter := search_parameter(source, code)) is not None
            and type in parameter.targets
            and opened.includes(type, source, code)
        ),
        "searchParam": [
            {"name": parameter.code, "type": parameter.type}
            for each in _objects(upstream.get("searchParam"))
            if isinstance(code := each.get("name"), str)
            and code not in CLOSED_PARAMETERS
            and (parameter := search_parameter(type, code)) is not None
            and opened.searches_by(type, code)
        ]
        + [
            {"name": code, "type": _OPENABLE[code]}
            for code in sorted(carried_out)
            if opened.searches_by(type, code)
        ],
    }
    return {name: value for name, value in found.items() if value}


def _joins(listed: Any) -> set[tuple[str, str]]:
    """Type and parameter of what a store says that it includes; '*' and its own names are left out."""
    texts = [each.split(":") for each in listed if isinstance(each, str)] if isinstance(listed, list) else []
    return {(parts[0], parts[1]) for parts in texts if len(parts) in (2, 3) and is_resource_type(parts[0])}


def _operations(upstream: Mapping[str, Any]) -> frozenset[str]:
    """The names of the operations that a store lists for itself, or of a resource that it does."""
    rests = [each for each in _objects(upstream.get("rest")) if each.get("mode") == "server"] or [upstream]
    names = (each.get("name") for rest in rests for each in _objects(rest.get("operation")))
    return frozenset(name.removeprefix("$") for name in names if isinstance(name, str))


def _operation_list(type: str, offered: frozenset[str], opened: Opened) -> list[dict[str, str]]:
    """What is decided here, is offered by the store or answered here, and is opened at a type."""
    found = []
    for name in sorted(OPERATIONS):
        definition = _DEFINITIONS.get((name, type)) or (_DEFINITIONS.get((name, "*")) if type else None)
        if definition is not None and name in offered | _OUR_OWN and opened.has_operation(type, name):
            found.append({"name": name, "definition": definition})
    return found


def _bundles(upstream: Mapping[str, Any], opened: Opened, transactions: bool) -> list[str]:
    """What may be asked of the system: batches are taken apart here, transactions are the store's to carry out."""
    offered = {
        each.get("code")
        for rest in _objects(upstream.get("rest"))
        if rest.get("mode") == "server"
        for each in _objects(rest.get("interaction"))
    }
    envelopes = opened.envelopes()
    found = ["batch"] if Interaction.BATCH in envelopes else []
    if Interaction.TRANSACTION in envelopes and transactions and "transaction" in offered:
        found.append("transaction")
    return found


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
        "cors": True,
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
