"""Codes and names of profiles that AuditEvents are made of: DICOM, FHIR R4, IHE BALP, and our own words."""

from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]

DCM = "http://dicom.nema.org/resources/ontology/DCM"
SNOMED = "http://snomed.info/sct"
URI = "urn:ietf:rfc:3986"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
_BALP = "https://profiles.ihe.net/ITI/BALP/"
BALP_ENTITY = f"{_BALP}CodeSystem/BasicAuditEntityType"
OUR_EVENT = "urn:securus:audit-event"  # subtypes: the words of the log's own events
OUR_ENTITY = "urn:securus:audit-entity"
RECORD = "urn:securus:audit-record"  # meta.tag: what an event is known by, wherever it is sent
CLIENT_ID = "urn:securus:client"
ORGANIZATION = "urn:securus:organization"
JTI = "urn:ietf:params:oauth:jti:"

BASIC = "IHE.BasicAudit."
TOKEN_MINIMAL = "IHE.BasicAudit.OAUTHaccessTokenUse.Minimal"
TOKEN_COMPREHENSIVE = "IHE.BasicAudit.OAUTHaccessTokenUse.Comprehensive"
GET_TOKEN = "IHE.IUA.71"
AUTHZ_CONSENT = "IHE.BasicAudit.AuthZconsent"
DISCLOSURE_SOURCE = "IHE.BasicAudit.PrivacyDisclosure.Source"
DISCLOSURE_RECIPIENT = "IHE.BasicAudit.PrivacyDisclosure.Recipient"

SUCCESS, MINOR, SERIOUS = "0", "4", "8"

_DISPLAYS: Mapping[tuple[str, str], str] = {
    (DCM, "110100"): "Application Activity",
    (DCM, "110101"): "Audit Log Used",
    (DCM, "110106"): "Export",
    (DCM, "110107"): "Import",
    (DCM, "110113"): "Security Alert",
    (DCM, "110114"): "User Authentication",
    (DCM, "110120"): "Application Start",
    (DCM, "110122"): "Login",
    (DCM, "110123"): "Logout",
    (DCM, "110127"): "Emergency Override Started",
    (DCM, "110129"): "Security Configuration",
    (DCM, "110131"): "Software Configuration",
    (DCM, "110137"): "User security Attributes Changed",
    (DCM, "110138"): "Emergency Override Stopped",
    (DCM, "110150"): "Application",
    (DCM, "110152"): "Destination Role ID",
    (DCM, "110153"): "Source Role ID",
}
_PURPOSES = frozenset(
    {
        "BTG", "CAREMGT", "CLINTRCH", "CLINTRL", "COVERAGE", "DONAT", "ELIGDTRM", "EMRGNCY", "ETREAT", "FAMRQT", "FRAUD",
        "GOV", "HACCRED", "HCOMPL", "HDECD", "HDIRECT", "HDM", "HLEGAL", "HMARKT", "HOPERAT", "HOUTCOMS", "HPAYMT",
        "HPRGRP", "HQUALIMP", "HRESCH", "HSYSADMIN", "HTEST", "LABELING", "MEMADMIN", "METAMGT", "MILCDM", "PATADMIN",
        "PATRQT", "PATSFTY", "PERFMSR", "POPHLTH", "PRECLINTRCH", "PUBHLTH", "PWATRNY", "RECORDMGT", "REMITADV",
        "SUPNWK", "SYSDEV", "THREAT", "TRAIN", "TREAT", "TREATDS",
    }
)  # fmt: skip
"""Purposes of use of v3-ActReason; any other word of a token is told as text."""


def dcm(code: str) -> Json:
    """A Coding of DICOM."""
    return {"system": DCM, "code": code, "display": _DISPLAYS[DCM, code]}


def term(name: str, code: str, display: str | None = None) -> Json:
    """A Coding of a code system of HL7's terminology, such as v3-ActReason."""
    return coding(_TERMINOLOGY + name, code, display)


def coding(system: str, code: str, display: str | None = None) -> Json:
    """A Coding."""
    return {"system": system, "code": code, **({} if display is None else {"display": display})}


def interaction_code(code: str) -> Json:
    """A Coding of FHIR's restful-interaction."""
    return coding("http://hl7.org/fhir/restful-interaction", code)


def ours(word: str) -> Json:
    """The subtype that tells an event of the log from others of the same type."""
    return coding(OUR_EVENT, word)


def concept(*codings: Json) -> Json:
    """A CodeableConcept."""
    return {"coding": list(codings)}


def user_agent(code: str) -> Json:
    """A Coding of BALP's kinds of user agents: UserOauthAgent, AuthzOauthService."""
    return coding(f"{_BALP}CodeSystem/UserAgentTypes", code)


def authorization_subtype(code: str) -> Json:
    """A Coding of BALP's authorization decisions: AuthZ-Consent, AuthZ-Role."""
    return coding(f"{_BALP}CodeSystem/AuthZsubType", code)


def profile(name: str) -> str:
    """The canonical URL of a profile of BALP."""
    return f"{_BALP}StructureDefinition/{name}"


def purposes(words: Iterable[object]) -> list[Json]:
    """Purposes of use as CodeableConcepts: of v3-ActReason, of the system that 'system|code' names, or as text."""
    found = []
    for word in words:
        if not isinstance(word, str) or not word.strip():
            continue
        system, bar, code = word.rpartition("|")
        if bar and system and code:
            found.append(concept(coding(system, code)))
        elif word in _PURPOSES:
            found.append(concept(term("v3-ActReason", word)))
        else:
            found.append({"text": word})
    return found
