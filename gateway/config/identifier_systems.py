"""`identifier_systems` of a mount: which FHIR system an assigning authority of documents is (C-CDA on FHIR, II)."""

import re

from gateway.config.schema import Section
from gateway.yaml_source import Scalar

_AUTHORITY = re.compile(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]{0,39})){1,40}")
_SYSTEM = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}:[\x21\x23-\x5b\x5d-\x7e]{1,500}")


def read_identifier_systems(section: Section) -> dict[str, str]:
    """The systems by 'urn:oid:…'; mistakes go to the section's problems."""
    inner = section.section("identifier_systems")
    found: dict[str, str] = {}
    for entry in inner.node if inner is not None else ():
        node = entry.value
        system = node.text if isinstance(node, Scalar) and isinstance(node.value, str) else ""
        if not _AUTHORITY.fullmatch(entry.key):
            section.report(
                entry.place, f"identifier_systems names '{entry.key}', expected urn:oid: and an OID"
            )
        elif not _SYSTEM.fullmatch(system):
            section.report(
                node.place, f"the system of '{entry.key}' must be a URI such as https://hospital.example/mrn"
            )
        found[entry.key] = system
    return found
