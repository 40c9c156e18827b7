"""The header of a clinical document as values (HL7 CDA R2 4.2): whose it is, how confidential, of what kind, by whom."""

from dataclasses import dataclass

CONFIDENTIALITY_SYSTEM = "2.16.840.1.113883.5.25"


@dataclass(frozen=True, slots=True)
class InstanceIdentifier:
    """An identifier (II). root is an OID or UUID, which alone names where there is no extension."""

    root: str
    extension: str = ""


@dataclass(frozen=True, slots=True)
class Code:
    """A code (CE) with the OID of its system; code is '' where the document gives a nullFlavor in its place."""

    code: str
    system: str = ""


@dataclass(frozen=True, slots=True)
class DocumentOrganization:
    """An organisation that wrote the document, or that keeps it."""

    ids: tuple[InstanceIdentifier, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the body of a ClinicalDocument.

    record_targets  the identifiers of each patient role
    confidentiality None where the document does not say
    authors         the organisations that its authors write for
    effective_time  as written, a time stamp of HL7 (YYYYMMDDHHMMSS+ZZZZ)
    id              of the document itself; None where it gives none
    language        as written, '' where it does not say
    consents        the identifiers of consents that it names (authorization)
    is_unstructured whether its body is none of sections but a file: nobody looks into that, the header speaks for it
    """

    record_targets: tuple[tuple[InstanceIdentifier, ...], ...]
    confidentiality: Code | None = None
    code: Code | None = None
    authors: tuple[DocumentOrganization, ...] = ()
    custodian: DocumentOrganization | None = None
    effective_time: str = ""
    id: InstanceIdentifier | None = None
    language: str = ""
    consents: tuple[InstanceIdentifier, ...] = ()
    is_unstructured: bool = False
