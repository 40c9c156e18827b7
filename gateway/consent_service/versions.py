"""A Consent as the next version of itself: id, number and time are ours, the rest is what was written.

Whoever writes a consent makes the version here, where the rules are held to: the API, the consent page, the patient's
pages, the commands. What has been decided already, at another store or by the end of a grant, is written as it is told.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from authz.storage.consents import ConsentVersion
from gateway.consent_service.rules import REASON_URL, check_consent, check_next, patient_of, provisions_of
from gateway.fhir.resource import parse_resource, write_resource


@lru_cache(64)
def instant(seconds: int) -> str:
    """The time as a FHIR instant."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def next_version(
    value: Mapping[str, Any],
    before: ConsentVersion | None,
    *,
    base: str,
    id: str,
    now: int,
    by: str,
    grant_id: str | None = None,
) -> ConsentVersion:
    """The version that follows before, which is None for a new consent; by is who writes it.

    Raises FhirError(CONSENT_INVALID) where it is no Consent about a patient, FhirError(CONSENT_STATUS) where it may not
    follow before.
    """
    if before is None or value.get("status") not in _ENDS:  # what is kept can be ended, whatever its shape
        check_consent(value)
    if before is not None:
        check_next(parse_resource(before.resource), value, is_of_a_grant=before.grant_id is not None)
    return version_as_told(value, before, base=base, id=id, now=now, by=by, grant_id=grant_id)


def version_as_told(
    value: Mapping[str, Any],
    before: ConsentVersion | None,
    *,
    base: str,
    id: str,
    now: int,
    by: str,
    grant_id: str | None = None,
) -> ConsentVersion:
    """The same of what is decided already, whatever its status was: for an import, and for who ended a grant.

    Raises FhirError(CONSENT_INVALID) where it is about no patient.
    """
    number = 1 if before is None else before.version + 1
    said = value.get("meta")
    meta = {k: v for k, v in said.items() if k not in _OURS} if isinstance(said, Mapping) else {}
    resource = {
        "resourceType": "Consent",
        "id": id,
        "meta": {"versionId": str(number), "lastUpdated": instant(now)} | meta,
        **{name: inner for name, inner in value.items() if name not in ("resourceType", "id", "meta")},
    }
    return ConsentVersion(
        base,
        id,
        number,
        patient_of(value),
        str(value.get("status")),
        write_resource(resource),
        now,
        by,
        grant_id if before is None else before.grant_id,
        provisions_of(value),
    )


def with_status(value: Mapping[str, Any], status: str, reason: str) -> dict[str, Any]:
    """The consent in another status, with why; an older reason goes: its own version keeps it."""
    extensions = [
        each
        for each in value.get("extension", [])
        if not (isinstance(each, Mapping) and each.get("url") == REASON_URL)
    ]
    if reason:
        extensions.append({"url": REASON_URL, "valueCodeableConcept": {"text": reason}})
    rest = {name: inner for name, inner in value.items() if name != "extension"}
    return rest | {"status": status} | ({"extension": extensions} if extensions else {})


def reason_of(value: Mapping[str, Any]) -> str:
    """Why a consent has its status; '' where it does not say."""
    for each in value.get("extension", []):
        if isinstance(each, Mapping) and each.get("url") == REASON_URL:
            concept = each.get("valueCodeableConcept")
            text = concept.get("text") if isinstance(concept, Mapping) else None
            return text if isinstance(text, str) else ""
    return ""


_OURS = frozenset({"versionId", "lastUpdated"})
_ENDS = frozenset({"inactive", "rejected", "entered-in-error"})
