"""How many consents of a patient may count at once: one bound, for whoever writes one, by whichever way.

Every provision in force is asked for each resource of the patient: nobody makes that slow for all others.

Whether there is room is counted in the store, which never counts less than there is: a consent whose grant has ended
counts until somebody writes down that it is over, and of an old version the provisions are guessed upwards. Only where
by that count there is no room, the consents are read. The store counts once more when it writes, so that the bound holds
for those who write at the same moment.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from authz.storage.consents import ConsentStore, ConsentVersion, NoRoomLeft, Room
from gateway.consent_service.rules import patient_of, provisions_of
from gateway.fhir.outcome import FhirError, Reason

OPEN = frozenset({"draft", "proposed", "active"})
"""Status of a consent that is not over."""
MOST_CONSENTS = 200
"""Consents of one patient that are not over."""
MOST_PROVISIONS = 1000
"""Provisions of all of them."""
USUAL_ROOM = Room(OPEN, MOST_CONSENTS, MOST_PROVISIONS)
"""What every consent that is not over is held to, by the count of the store."""
_AS_READ = Room(OPEN, MOST_CONSENTS, None)  # provisions that the store can only guess were read instead
Beside = Callable[[], Awaitable[Mapping[str, Mapping[str, Any]]]]
"""Reads the consents of a patient that are not over, by their ids, and writes down of which the grant has ended."""


async def room_for(
    store: ConsentStore, value: Mapping[str, Any], *, base: str, id: str, beside: Beside
) -> Room | None:
    """What the store is to hold a consent to that is written with this id; None for one that is over.

    Raises FhirError(CONSENT_INVALID) where there is no room for it, StoreUnavailable.
    """
    if value.get("status") not in OPEN:
        return None
    if await _fits(store, value, base, id):
        return USUAL_ROOM
    check_room(value, id, await beside())
    return USUAL_ROOM if await _fits(store, value, base, id) else _AS_READ


async def add_within(
    store: ConsentStore, version: ConsentVersion, room: Room | None, *, at_number: int | None = None
) -> bool:
    """Write a version as ConsentStore.add_consent() does, within that room.

    Raises FhirError(CONSENT_INVALID) where others have taken the room meanwhile, StoreUnavailable.
    """
    try:
        return await store.add_consent(version, at_number=at_number, within=room)
    except NoRoomLeft:
        raise FhirError(
            Reason.CONSENT_INVALID,
            f"the patient has {MOST_CONSENTS} consents or {MOST_PROVISIONS} provisions that are not over, since others"
            " were written at this moment",
            expression="Consent.patient",
        ) from None


async def _fits(store: ConsentStore, value: Mapping[str, Any], base: str, id: str) -> bool:
    there = await store.consents_standing(base, patient_of(value), OPEN, beside=id)
    return there.consents < MOST_CONSENTS and there.provisions + provisions_of(value) <= MOST_PROVISIONS


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
