"""The CDS Hook `patient-consent-consult`: what a call asks, and the card that answers it.

The shapes are those of the LEAP consent decision service (CDS Hooks 2.0). A card says yes or no for any resource, with
obligations that name codes. What of a permit these cannot say is not permitted in a card.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.consents.codes import RESOURCE_TYPES
from gateway.consents.consent import SCOPES, ConsentAnswer, Obligation, Said, listed, objects
from gateway.fhir.labels import ACT_CODE, CONFIDENTIALITY, ORDER

HOOK = "patient-consent-consult"
SERVICES: Mapping[str, Any] = {
    "services": [
        {
            "id": HOOK,
            "hook": HOOK,
            "title": "Patient Consent Consult",
            "description": "What the consents of a patient say to an actor, a purpose of use and content classes.",
        }
    ]
}
"""The answer of discovery."""
_MOST = 10  # names of a patient, names of an actor, categories, classes
_WORDS = {Said.PERMIT: "CONSENT_PERMIT", Said.DENY: "CONSENT_DENY", Said.NONE: "NO_CONSENT"}
_INDICATORS = {Said.PERMIT: "info", Said.DENY: "critical", Said.NONE: "warning"}
_DETAILS = {
    Said.PERMIT: "There is a patient consent permitting this action.",
    Said.DENY: "There is a patient consent denying this action, or permitting it for some resources only.",
    Said.NONE: "No applicable consent was found.",
}
_REDACT = {"system": ACT_CODE, "code": "REDACT"}


class ConsultError(Exception):
    """A call that is not one of the hook: answered 400. The text says what would be right."""


@dataclass(frozen=True, slots=True)
class Consult:
    """One call. patients are system and value, the system '' for an id of the FHIR server; server is fhirServer.

    scopes and types are several questions: of types each must be permitted, of scopes one.
    """

    patients: tuple[tuple[str, str], ...]
    actors: tuple[tuple[str, str], ...]
    purposes: tuple[str, ...]
    scopes: tuple[tuple[str, str], ...]
    types: tuple[str | None, ...]
    server: str


def read_consult(body: object) -> Consult:
    """The call of a body. Raises ConsultError."""
    if not isinstance(body, Mapping) or body.get("hook") != HOOK:
        raise ConsultError(f"hook must be {HOOK}")
    if not isinstance(body.get("hookInstance"), str) or not body["hookInstance"]:
        raise ConsultError("hookInstance must be text: a UUID of this call")
    context, server = body.get("context"), body.get("fhirServer", "")
    if not isinstance(context, Mapping):
        raise ConsultError("context must be an object")
    if not isinstance(server, str):
        raise ConsultError("fhirServer must be the base URL of the FHIR server")
    named = context.get("patientId")
    patients = [("", named)] if isinstance(named, str) else _pairs(named, "patientId", "value")
    if not patients or any(not value for _, value in patients):
        raise ConsultError("context.patientId must name the patient: system and value, or the id")
    purposes = context.get("purposeOfUse", [])
    if isinstance(purposes, str):
        purposes = [purposes]
    if not isinstance(purposes, list) or not all(isinstance(each, str) and each for each in purposes):
        raise ConsultError("context.purposeOfUse must be a code or a list of codes")
    classes = _pairs(context.get("class", []), "class", "code", "value")
    if any(system != RESOURCE_TYPES for system, _ in classes):
        raise ConsultError(f"context.class must be codes of {RESOURCE_TYPES}")
    found = Consult(
        patients=tuple(patients),
        actors=tuple(_pairs(context.get("actor", []), "actor", "value")),
        purposes=tuple(purposes[:_MOST]),
        scopes=tuple(_scopes(context)),
        types=tuple(code for _, code in classes) or (None,),
        server=server.rstrip("/"),
    )
    if len(found.scopes) * len(found.types) > _MOST:
        raise ConsultError(f"category and class ask for more than {_MOST} decisions together")
    return found


def card(answers: Sequence[Sequence[ConsentAnswer]], *, base: str, label: str, url: str) -> dict[str, Any]:
    """The card of the answers by scope, in each of them by type. base is the FHIR base that consents are named below."""
    decided = [_of_types(each) for each in answers]
    said = next(
        (word for word in (Said.DENY, Said.PERMIT, Said.NONE) if any(each[0] is word for each in decided)),
        Said.NONE,
    )
    mine = [each for each in decided if each[0] is said]
    ids = sorted({basis.consent for _, _, found in mine for basis in found.bases})
    extension: dict[str, Any] = {
        "decision": _WORDS[said],
        # Where several scopes permit, what one of them holds back is held back.
        "obligations": [each for _, obligations, _ in mine for each in obligations]
        if said is Said.PERMIT
        else [],
    }
    if ids:
        extension["basedOn"] = f"{base}/Consent/{ids[0]}"
    return {
        "summary": _WORDS[said],
        "detail": _DETAILS[said],
        "indicator": _INDICATORS[said],
        "source": {"label": label, "url": url},
        "extension": extension,
    }


def _of_types(answers: Sequence[ConsentAnswer]) -> tuple[Said, list[dict[str, Any]], ConsentAnswer]:
    """What is said of all types together: the most closed of it, with all obligations."""
    obligations: list[dict[str, Any]] = []
    worst: tuple[Said, ConsentAnswer] | None = None
    closed = (Said.DENY, Said.NONE, Said.PERMIT)
    for each in answers:
        said = each.said
        if said is Said.PERMIT and each.depends:
            redacting = _redacting(each.obligations)
            if redacting is None:
                said = Said.DENY
            else:
                obligations += [found for found in redacting if found not in obligations]
        if worst is None or closed.index(said) < closed.index(worst[0]):
            worst = said, each
    if worst is None:
        raise ConsultError("nothing was asked")
    return worst[0], obligations, worst[1]


def _redacting(obligations: Sequence[Obligation]) -> list[dict[str, Any]] | None:
    """Obligations in the words of the hook, by codes alone; None where these cannot say what is permitted."""
    found = []
    only: list[Mapping[str, Any]] = []
    has_only = any(not each.hides for each in obligations)
    for each in obligations:
        codes = _codes(each)
        if each.hides:
            # Codes that hide more than is asked are good; without any it cannot be said.
            if not codes:
                return None
            found.append({"id": _REDACT, "parameters": {"codes": codes}})
        elif len(each.limits) == 1 and codes:
            only += [code for code in codes if code not in only]
    if has_only and not only:
        return None
    if only:
        found.append({"id": _REDACT, "parameters": {"exceptAnyOfCodes": only}})
    return found


def _codes(obligation: Obligation) -> list[dict[str, Any]]:
    """The codes that an obligation names, by its labels or else its classes; what is hidden with all that is above it."""
    labels = _codings(obligation.limits.get("securityLabel"))
    if obligation.hides:
        levels = [
            ORDER.index(c["code"]) for c in labels if c["system"] == CONFIDENTIALITY and c["code"] in ORDER
        ]
        above = ORDER[min(levels) :] if levels else ()
        others = [each for each in labels if each["system"] != CONFIDENTIALITY]
        labels = [*({"system": CONFIDENTIALITY, "code": code} for code in above), *others]
    return labels or _codings(obligation.limits.get("class"))


def _codings(value: object) -> list[dict[str, Any]]:
    return [
        {"system": each["system"], "code": each["code"]}
        for each in objects(value)
        if isinstance(each.get("system"), str) and isinstance(each.get("code"), str)
    ]


def _scopes(context: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """The scopes of consents that are asked for: categories, or the one scope of older calls."""
    found = _pairs(context.get("category", []), "category", "code")
    scope = context.get("scope")
    if isinstance(scope, str) and scope:
        found.append((SCOPES, scope))
    return dict.fromkeys(found or [(SCOPES, "patient-privacy")])


def _pairs(value: object, name: str, *keys: str) -> list[tuple[str, str]]:
    """System and value of each item of a list, or of one object. Raises ConsultError."""
    found = []
    items = listed(value)
    if len(items) > _MOST:
        raise ConsultError(f"context.{name} has at most {_MOST} items")
    for item in items:
        system = item.get("system", "") if isinstance(item, Mapping) else None
        text = next((item[key] for key in keys if key in item), None) if isinstance(item, Mapping) else None
        if not isinstance(system, str) or not isinstance(text, str) or not text:
            raise ConsultError(f"context.{name} must be objects with system and {keys[0]}")
        found.append((system, text))
    return found
