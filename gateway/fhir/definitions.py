"""What FHIR R4 (4.0.1) defines: resource types, search parameters, the Patient compartment, elements.

The tables are generated (gateway/fhir/tables/build_tables.py). The list of types is read at import, since every
request needs it; search parameters and elements are read at first use, together in a few milliseconds.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

_NOT_DOMAIN_RESOURCES = frozenset({"Binary", "Bundle", "Parameters"})
_BACKBONE_TYPES = frozenset(  # data types whose own base is BackboneElement: they have modifierExtension
    {
        "Dosage", "ElementDefinition", "MarketingStatus", "Population", "ProdCharacteristic", "ProductShelfLife",
        "SubstanceAmount", "Timing",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SearchParameter:
    """One search parameter of one type.

    type        number | date | string | token | reference | composite | quantity | uri | special
    expression  FHIRPath, rooted at the resource type; empty where R4 gives none
    targets     resource types that a reference may point to; empty for other parameters
    """

    code: str
    type: str
    expression: str
    targets: frozenset[str]


@dataclass(frozen=True, slots=True)
class Element:
    """One JSON member that may stand below a path.

    type     its data type; 'BackboneElement', 'Element' or 'Resource' where its members are listed elsewhere
    path     where its own members are listed: 'Observation.component', 'Reference', ...
    repeats  may occur more than once, so that JSON has an array
    """

    type: str
    path: str
    repeats: bool


def _table(name: str) -> Any:
    return json.loads((files("gateway.fhir.tables") / name).read_text(encoding="utf-8"))


_TYPES = _table("types.json")
RESOURCE_TYPES: frozenset[str] = frozenset(_TYPES["types"])
_PATIENT_COMPARTMENT: dict[str, tuple[str, ...]] = {
    name: tuple(codes) for name, codes in _TYPES["patient_compartment"].items()
}


def is_resource_type(name: str) -> bool:
    """Whether name is a concrete R4 resource type. Case matters."""
    return name in RESOURCE_TYPES


def patient_compartment(type: str) -> tuple[str, ...]:
    """The search parameters that place a resource of this type in a Patient compartment; none for other types."""
    return _PATIENT_COMPARTMENT.get(type, ())


@cache
def search_parameters(type: str) -> Mapping[str, SearchParameter]:
    """Every search parameter of the type by code, with those that all resources have ('_id', '_tag', ...)."""
    table = _search_table()
    rows = table["Resource"] | table.get(type, {})
    return MappingProxyType(
        {
            code: SearchParameter(
                code, kind, re.sub(r"\bResource\b(?=\.)", type, expression), frozenset(targets.split())
            )
            for code, (kind, expression, targets) in rows.items()
        }
    )


def search_parameter(type: str, code: str) -> SearchParameter | None:
    """The search parameter of the type with this code, None where R4 defines none."""
    return search_parameters(type).get(code)


@cache
def members(path: str) -> Mapping[str, Element]:
    """The JSON members that may stand below a type, a data type or a path such as 'Observation.component'.

    They come in the order of the definition, which is that of XML. A choice appears under each of its JSON names:
    'valueQuantity', 'valueString', ... Empty for what is not known.
    """
    type, _, inner = path.partition(".")
    rows = _element_table().get(type)
    if rows is None or (inner and inner not in rows):
        return MappingProxyType({})
    found: dict[str, Element] = {}
    for name, row in (_inherited(type, inner) | _below(rows, inner)).items():
        count, _, kinds = row.partition(" ")
        repeats = count not in ("0", "1")
        if kinds.startswith("@"):  # its definition stands at another element
            found[name] = Element("BackboneElement", kinds[1:], repeats)
            continue
        for kind in kinds.split("|"):
            key = name.removesuffix("[x]") + _capitalised(kind) if name.endswith("[x]") else name
            found[key] = Element(
                kind, f"{path}.{name}" if kind in ("BackboneElement", "Element") else kind, repeats
            )
    return MappingProxyType(found)


@cache
def choices(path: str, name: str) -> Mapping[str, Element]:
    """The members that an element name stands for: itself, or every JSON name of the choice name[x]."""
    known = members(path)
    if name in known:
        return MappingProxyType({name: known[name]})
    type, _, inner = path.partition(".")
    row = _element_table().get(type, {}).get(f"{inner}.{name}[x]" if inner else f"{name}[x]", "")
    keys = [name + _capitalised(kind) for kind in row.partition(" ")[2].split("|") if kind]
    return MappingProxyType({key: known[key] for key in keys})


def element_names(path: str) -> tuple[str, ...]:
    """The names of the members below a path, sorted; empty where the path is not known or a primitive."""
    return tuple(sorted({name for below in _resolve(path) for name in members(below)}))


def element_exists(path: str) -> bool:
    """Whether R4 knows the path, e.g. 'Observation.subject', 'Patient.name.family', 'Observation.value[x]'."""
    return "." in path and bool(_resolve(path))


@cache
def mandatory_elements(type: str) -> frozenset[str]:
    """The JSON members of the first level that a resource of the type must have."""
    return _listed(type, 0)


@cache
def summary_elements(type: str) -> frozenset[str]:
    """The JSON members of the first level that are in the summary of a type (FHIR R4 3.1.1.5.8)."""
    return _listed(type, 1)


def _listed(type: str, column: int) -> frozenset[str]:
    names = _summary_table().get(type, ("", ""))[column].split()
    return frozenset(key for name in names for key in choices(type, name.removesuffix("[x]")))


def _resolve(path: str) -> tuple[str, ...]:
    """The paths under which the members of a path are listed; empty where the path is not known."""
    type, *names = path.split(".")
    at: tuple[str, ...] = (type,) if type in _element_table() else ()
    for name in names:
        found = [choices(below, name.removesuffix("[x]")) for below in at]
        at = tuple(dict.fromkeys(element.path for some in found for element in some.values()))
    return at


def _inherited(type: str, inner: str) -> dict[str, str]:
    table = _element_table()
    if inner:
        return table["Element" if table[type][inner].endswith(" Element") else "BackboneElement"]
    if type in _BACKBONE_TYPES:
        return table["BackboneElement"]
    if type in RESOURCE_TYPES:
        return table["Resource" if type in _NOT_DOMAIN_RESOURCES else "DomainResource"]
    return table["Element"]


def _below(rows: Mapping[str, str], inner: str) -> dict[str, str]:
    start = f"{inner}." if inner else ""
    return {
        path[len(start) :]: row
        for path, row in rows.items()
        if path.startswith(start) and "." not in path[len(start) :]
    }


def _capitalised(kind: str) -> str:
    return kind[:1].upper() + kind[1:]


@cache
def _search_table() -> dict[str, dict[str, tuple[str, str, str]]]:
    table: dict[str, dict[str, tuple[str, str, str]]] = _table("search-parameters.json")
    return table


@cache
def _summary_table() -> dict[str, tuple[str, str]]:
    table: dict[str, tuple[str, str]] = _table("summaries.json")
    return table


@cache
def _element_table() -> dict[str, dict[str, str]]:
    table: dict[str, dict[str, str]] = _table("elements.json")
    return table
