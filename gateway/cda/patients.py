"""Whether a document is about a patient: the identifiers of its record targets against those of the patient.

Each record target must carry an identifier that the patient has, and none that says somebody else: one of a system
in which the patient is known by another value (case 236).
"""

from collections.abc import Collection, Mapping

from gateway.cda.header import Header, InstanceIdentifier

Identifier = tuple[str, str]  # system and value, as in FHIR
_URIS = "urn:ietf:rfc:3986"


def is_about(header: Header, identifiers: Collection[Identifier], systems: Mapping[str, str]) -> bool:
    """Whether every record target of the document is the patient with these identifiers.

    systems gives the URI of a FHIR system for an OID written as 'urn:oid:…'. A document without record target, or
    with one that has no identifier, is about nobody.
    """
    known = {(normal(system, systems), value) for system, value in identifiers}
    said = {system for system, _ in known}

    def is_them(target: tuple[InstanceIdentifier, ...]) -> bool:
        names = {as_fhir(each, systems) for each in target}
        return not names.isdisjoint(known) and all(name in known or name[0] not in said for name in names)

    return bool(header.record_targets) and all(map(is_them, header.record_targets))


def as_fhir(identifier: InstanceIdentifier, systems: Mapping[str, str]) -> Identifier:
    """The identifier as system and value of FHIR (C-CDA on FHIR, mapping of II)."""
    if not identifier.extension:
        return _URIS, _urn(identifier.root)
    return normal(_urn(identifier.root), systems), identifier.extension


def normal(system: str, systems: Mapping[str, str]) -> str:
    """A system by the one name that it has here."""
    return systems.get(system, system)


def _urn(root: str) -> str:
    is_oid = root[:1].isdigit() and all(part.isdigit() for part in root.split("."))
    return f"urn:oid:{root}" if is_oid else f"urn:uuid:{root.lower()}"
