"""How many consents of a patient may count at once: one bound, for whoever writes one, by whichever way.

Every provision in force is asked for each resource of the patient: nobody makes that slow for all others.
"""

from collections.abc import Mapping
from typing import Any

from gateway.consent_service.rules import provisions_of
from gateway.fhir.outcome import FhirError, Reason

OPEN = frozenset({"draft", "proposed", "active"})
"""Status of a consent that is not over."""
MOST_CONSENTS = 200
"""Consents of one patient that are not over."""
MOST_PROVISIONS = 1000
"""Provisions of all of them."""


def check_room(value: Mapping[str, Any], id: str, beside: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise FhirError(CONSENT_INVALID) where there are too many for a consent that is written with this id.

    beside are those of its patient that are not over, by their ids.
    """
    if value.get("status") not in OPEN:
        return
    others = [each for name, each in beside.items() if name != id]
    if len(others) >= MOST_CONSENTS:
        raise FhirError(
            Reason.CONSENT_INVALID,
            f"the patient has {MOST_CONSENTS} consents that are drafts, proposed or active: revoke those that are over",
            expression="Consent.patient",
        )
    if sum(map(provisions_of, [value, *others])) > MOST_PROVISIONS:
        raise FhirError(
            Reason.CONSENT_INVALID,
            f"the consents of the patient that are not over may have {MOST_PROVISIONS} provisions together",
            expression="Consent.provision",
        )
