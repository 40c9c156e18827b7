"""What a Consent must be to be kept, and how one goes on: FHIR R4 6.2, held to before anything is written.

The shape is that of R4: arrays where it repeats, what it must have, the codes of required bindings, the constraints
ppc-1 to ppc-5. IHE PCF asks for more; what is missing of that is said, not refused. A consent is never unmade: it is
revoked, and a new one is given.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.consents.consent import listed
from gateway.fhir.dates import interval
from gateway.fhir.definitions import Element, members
from gateway.fhir.ids import is_id
from gateway.fhir.outcome import FhirError, Reason

STATUSES = ("draft", "proposed", "active", "rejected", "inactive", "entered-in-error")
REASON_URL = "http://hl7.org/fhir/StructureDefinition/event-statusReason"
"""The extension that says why a consent has its status."""
_NEXT: Mapping[str, frozenset[str]] = {
    "draft": frozenset({"draft", "proposed", "active", "rejected", "inactive", "entered-in-error"}),
    "proposed": frozenset({"proposed", "active", "rejected", "inactive", "entered-in-error"}),
    "active": frozenset({"active", "inactive", "entered-in-error"}),
    "rejected": frozenset({"entered-in-error"}),
    "inactive": frozenset({"entered-in-error"}),
    "entered-in-error": frozenset(),
}
_MUST_HAVE: Mapping[str, tuple[str, ...]] = {
    "Consent": ("status", "scope", "category", "patient"),
    "Consent.verification": ("verified",),
    "Consent.provision.actor": ("role", "reference"),
    "Consent.provision.data": ("meaning", "reference"),
}
_CODES: Mapping[tuple[str, str], frozenset[str]] = {
    ("Consent", "status"): frozenset(STATUSES),
    ("Consent.provision", "type"): frozenset({"deny", "permit"}),
    ("Consent.provision.data", "meaning"): frozenset({"instance", "related", "dependents", "authoredby"}),
}
_TEXTS = frozenset({"code", "uri", "url", "canonical", "string", "id", "markdown", "base64Binary", "xhtml"})
_TIMES = frozenset({"date", "dateTime", "instant"})
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_UNCHECKED = frozenset({"Resource", "Extension"})
_MAX_DEPTH = 16
_CONSENT_DOCUMENT = ("http://loinc.org", "59284-0")
_PRIVACY = ("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy")


def check_consent(value: Mapping[str, Any]) -> None:
    """Raise FhirError(CONSENT_INVALID) unless value is a Consent of R4 about a patient."""
    _check(value, "Consent", "Consent", _MAX_DEPTH)
    if not all(map(_is_text, _texts(value))):
        raise _invalid(
            "Consent", "has characters that no text has: control characters, halves of a surrogate pair"
        )
    if not value.get("policy") and not value.get("policyRule"):
        raise _invalid("Consent", "either policy or policyRule must say what is agreed to (ppc-1)")
    if "sourceAttachment" in value and "sourceReference" in value:
        raise _invalid("Consent", "source is an attachment or a reference, not both")


def check_next(before: Mapping[str, Any], after: Mapping[str, Any], *, is_of_a_grant: bool) -> None:
    """Raise FhirError(CONSENT_STATUS) unless after may follow before.

    is_of_a_grant: the consent was given to an app at the consent page. What it says is what the app holds: it can be
    revoked, and not be amended.
    """
    old, new = str(before.get("status")), str(after.get("status"))
    if new not in _NEXT.get(old, frozenset()):
        allowed = sorted(_NEXT.get(old, frozenset()) - {old})
        said = f"{old} is followed by {' or '.join(allowed)}" if allowed else f"{old} is final"
        raise FhirError(Reason.CONSENT_STATUS, f"{said}, not by {new}: who agrees anew gives a new consent")
    if before.get("patient") != after.get("patient"):
        raise FhirError(Reason.CONSENT_STATUS, "a consent stays with its patient: record a new one")
    if is_of_a_grant and new == old:
        raise FhirError(
            Reason.CONSENT_STATUS, "what was allowed to an app is revoked, not amended: let the app ask again"
        )


def advice(value: Mapping[str, Any]) -> list[str]:
    """What IHE PCF asks of a Consent beside R4, and this one lacks."""
    said = []
    if _PRIVACY not in codings(value.get("scope")):
        said.append("scope is not patient-privacy")
    if _CONSENT_DOCUMENT not in {pair for each in listed(value.get("category")) for pair in codings(each)}:
        said.append("category does not include LOINC 59284-0")
    for name in ("dateTime", "performer", "organization", "policy"):
        if not value.get(name):
            said.append(f"{name} is missing")
    if not any(name in value for name in ("sourceAttachment", "sourceReference")):
        said.append("source is missing")
    if "policyRule" in value:
        said.append("policyRule is not used: policy.uri names the policy")
    provision = value.get("provision")
    if not isinstance(provision, Mapping) or provision.get("type") not in ("permit", "deny"):
        said.append("provision.type does not say permit or deny")
    elif any(inner.get("provision") for inner in listed(provision.get("provision"))):
        said.append("exceptions have exceptions of their own")
    return said


def patient_of(value: Mapping[str, Any]) -> str:
    """The id of the patient of a Consent that passed check_consent(), its reference relative. Raises FhirError.

    The id is one of FHIR and nothing beside: a query or a fragment behind it would make a consent that is found for
    nobody, and ask the store for something else than a patient.
    """
    reference = value.get("patient")
    text = reference.get("reference") if isinstance(reference, Mapping) else None
    kind, _, id_ = text.partition("/") if isinstance(text, str) else ("", "", "")
    if kind != "Patient" or not is_id(id_):
        raise _invalid("Consent.patient", "must be a reference to a patient of this base, such as Patient/1")
    return id_


def provisions_of(value: Mapping[str, Any]) -> int:
    """How many provisions a Consent has, those within others too."""
    within = [each for each in listed(value.get("provision")) if isinstance(each, Mapping)]
    return len(within) + sum(map(provisions_of, within))


def codings(concept: object) -> set[tuple[str, str]]:
    """System and code of a concept's codings."""
    found = concept.get("coding") if isinstance(concept, Mapping) else None
    return {
        (str(each.get("system", "")), str(each.get("code", "")))
        for each in listed(found)
        if isinstance(each, Mapping)
    }


def _check(value: Mapping[str, Any], path: str, said: str, depth: int) -> None:
    if depth == 0:
        raise _invalid(said, "is nested too deep")
    for name in _MUST_HAVE.get(path, ()):
        if value.get(name) in (None, "", [], {}):
            raise _invalid(f"{said}.{name}", "is missing")
    known = members(path)
    for name, inner in value.items():
        element = known.get(name)
        # resourceType, and what stands beside a primitive: of known names only, as on every write.
        if element is None:
            continue
        if element.repeats != isinstance(inner, list):
            raise _invalid(f"{said}.{name}", "must be an array" if element.repeats else "must be one value")
        for each in listed(inner):
            _check_value(each, element, (path, name), f"{said}.{name}", depth)


def _check_value(value: object, element: Element, place: tuple[str, str], said: str, depth: int) -> None:
    if element.type in _UNCHECKED:
        return
    codes = _CODES.get(place)
    if codes is not None and value not in codes:
        raise _invalid(said, f"must be one of {', '.join(sorted(codes))}")
    if element.type in _TIMES:
        if not isinstance(value, str) or interval(value) is None:
            raise _invalid(said, f"must be a {element.type}")
    elif element.type == "boolean":
        if not isinstance(value, bool):
            raise _invalid(said, "must be true or false")
    elif element.type in _TEXTS:
        if not isinstance(value, str) or not value:
            raise _invalid(said, "must be text")
    elif element.type[:1].isupper():
        if not isinstance(value, Mapping) or not value:
            raise _invalid(said, "must be an object that says something")
        _check(value, element.path, said, depth - 1)


def _texts(value: object) -> Iterator[str]:
    """Every text anywhere, in extensions too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _is_text(text: str) -> bool:
    """Whether pages, files and XML can hold it (FHIR R4 2.24.0.1, string)."""
    return _NO_TEXT.search(text) is None


def _invalid(where: str, what: str) -> FhirError:
    return FhirError(Reason.CONSENT_INVALID, f"{where} {what}", expression=where)
