"""What is said of a new document to a repository (ITI-41): what its own header says, and what is configured.

ITI TF-3 4.2.3. Hash and size are the repository's to tell: the document streams by.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from gateway.cda.header import Code, Header, InstanceIdentifier
from gateway.document_services.xds.canonical_xml import Element, element
from gateway.document_services.xds.entries import (
    APPROVED,
    CLASS,
    CONFIDENTIALITY_CODE,
    CONFIDENTIALITY_OID,
    PATIENT_ID,
    TYPE,
    UNIQUE_ID,
    patient_text,
)
from gateway.document_services.xds.envelopes import DOCUMENT, slot
from gateway.fhir.outcome import FhirError, Reason
from gateway.xds_settings import CodedValue, ProvideSettings

FORMAT = "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d"
FACILITY = "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1"
PRACTICE = "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead"
_AUTHOR = "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d"
_STABLE = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
_SET = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
_SET_UNIQUE_ID = "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8"
_SET_SOURCE_ID = "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832"
_SET_PATIENT_ID = "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446"
_SET_CONTENT_TYPE = "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500"
_HAS_MEMBER = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
_TIME = re.compile(r"(\d{4}(?:\d\d){0,5})(?:\.\d+)?([+-]\d{4})?")
_ZONED = re.compile(r"\d{14}")
MEDIA_TYPE = "text/xml"


@dataclass(frozen=True, slots=True)
class Submission:
    """A document that is to be provided. patient is who it is about at the affinity domain; now seconds since 1970."""

    header: Header
    patient: InstanceIdentifier
    entry_id: UUID
    set_id: UUID
    association_id: UUID
    now: int


def request(new: Submission, settings: ProvideSettings) -> Element:
    """ITI-41. Raises FhirError(INVALID_BODY) for a header that lacks what a registry needs."""
    from_header = element(
        "rim:RegistryObjectList", _entry(new, settings), _set(new, settings), _in_set(new), _member(new)
    )
    return element(
        "xds:ProvideAndRegisterDocumentSetRequest",
        element("lcm:SubmitObjectsRequest", from_header),
        element(
            "xds:Document", element("xop:Include", href=f"cid:{DOCUMENT}"), id=f"urn:uuid:{new.entry_id}"
        ),
    )


def unique_id(identifier: InstanceIdentifier | None) -> str:
    """The identifier of a document as registries have it: an OID, with '^' and the extension where there is one.

    Raises FhirError(INVALID_BODY).
    """
    if identifier is None:
        raise FhirError(Reason.INVALID_BODY, "the document has no id")
    root = identifier.root
    if not re.fullmatch(r"[0-9.]+", root):
        try:
            root = f"2.25.{UUID(root).int}"  # ITU-T X.667
        except ValueError as error:
            raise FhirError(Reason.INVALID_BODY, "the id of the document is no OID and no UUID") from error
    found = f"{root}^{identifier.extension}" if identifier.extension else root
    if len(found) > 128 or found.count("^") > 1:
        raise FhirError(Reason.INVALID_BODY, "the id of the document is longer than 128 characters")
    return found


def _entry(new: Submission, settings: ProvideSettings) -> Element:
    id_, header = f"urn:uuid:{new.entry_id}", new.header
    if header.code is None or not header.code.code or not header.code.system:
        raise FhirError(Reason.INVALID_BODY, "the document has no code of its type")
    label = header.confidentiality or Code("")
    said = CodedValue(label.code, label.system or CONFIDENTIALITY_OID, label.code)
    if not said.code:
        raise FhirError(Reason.INVALID_BODY, "the document has no confidentialityCode")
    type_ = CodedValue(header.code.code, header.code.system, header.code.code)
    source = header.record_targets[0][0]
    content = [
        slot("creationTime", [_time(header.effective_time)]),
        slot("languageCode", [header.language or "und"]),
        slot("sourcePatientId", [patient_text(source)]),
        _classified(CLASS, settings.codes["class"], id_),
        _classified(TYPE, type_, id_),
        _classified(CONFIDENTIALITY_CODE, said, id_),
        _classified(FORMAT, settings.codes["format"], id_),
        _classified(FACILITY, settings.codes["facility"], id_),
        _classified(PRACTICE, settings.codes["practice"], id_),
    ]
    for organization in header.authors[:8]:
        named = organization.name or (organization.ids[0].root if organization.ids else "")
        if named:
            content.append(
                element(
                    "rim:Classification",
                    slot("authorInstitution", [re.sub(r"[\^&~|]", " ", named)]),
                    classificationScheme=_AUTHOR,
                    classifiedObject=id_,
                    id=f"{id_}-author-{len(content)}",
                    nodeRepresentation="",
                )
            )
    content.append(_identified(PATIENT_ID, patient_text(new.patient), id_, "XDSDocumentEntry.patientId"))
    content.append(_identified(UNIQUE_ID, unique_id(header.id), id_, "XDSDocumentEntry.uniqueId"))
    return element(
        "rim:ExtrinsicObject", *content, id=id_, mimeType=MEDIA_TYPE, objectType=_STABLE, status=APPROVED
    )


def _set(new: Submission, settings: ProvideSettings) -> Element:
    id_ = f"urn:uuid:{new.set_id}"
    return element(
        "rim:RegistryPackage",
        slot("submissionTime", [datetime.fromtimestamp(new.now, UTC).strftime("%Y%m%d%H%M%S")]),
        _classified(_SET_CONTENT_TYPE, settings.codes["class"], id_),
        _identified(_SET_UNIQUE_ID, f"2.25.{new.set_id.int}", id_, "XDSSubmissionSet.uniqueId"),
        _identified(_SET_SOURCE_ID, settings.source, id_, "XDSSubmissionSet.sourceId"),
        _identified(_SET_PATIENT_ID, patient_text(new.patient), id_, "XDSSubmissionSet.patientId"),
        id=id_,
        status=APPROVED,
    )


def _in_set(new: Submission) -> Element:
    id_ = f"urn:uuid:{new.set_id}"
    return element("rim:Classification", classifiedObject=id_, classificationNode=_SET, id=f"{id_}-node")


def _member(new: Submission) -> Element:
    return element(
        "rim:Association",
        slot("SubmissionSetStatus", ["Original"]),
        associationType=_HAS_MEMBER,
        id=f"urn:uuid:{new.association_id}",
        sourceObject=f"urn:uuid:{new.set_id}",
        targetObject=f"urn:uuid:{new.entry_id}",
    )


def _classified(scheme: str, code: CodedValue, object_: str) -> Element:
    return element(
        "rim:Classification",
        slot("codingScheme", [code.system]),
        element("rim:Name", element("rim:LocalizedString", value=code.display)),
        classificationScheme=scheme,
        classifiedObject=object_,
        id=f"{object_}-{scheme[9:17]}",
        nodeRepresentation=code.code,
    )


def _identified(scheme: str, value: str, object_: str, name: str) -> Element:
    return element(
        "rim:ExternalIdentifier",
        element("rim:Name", element("rim:LocalizedString", value=name)),
        id=f"{object_}-{scheme[9:17]}",
        identificationScheme=scheme,
        registryObject=object_,
        value=value,
    )


def _time(stamp: str) -> str:
    """A time of a document as registries have it: in UTC. Raises FhirError(INVALID_BODY)."""
    match = _TIME.fullmatch(stamp)
    if match is None:
        raise FhirError(Reason.INVALID_BODY, "the effectiveTime of the document is no time")
    if match[2] is None or not _ZONED.fullmatch(match[1]):
        return match[1]
    try:
        moment = datetime.strptime(match[1] + match[2], "%Y%m%d%H%M%S%z")
    except ValueError as error:
        raise FhirError(Reason.INVALID_BODY, "the effectiveTime of the document is no time") from error
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S")
