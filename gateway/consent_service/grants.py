"""Consents that were given to an app at the consent page, and the OAuth grants that were given with them.

Each ends with the other. A consent whose grant has ended is inactive from that moment: whoever decides by it or reads it
as FHIR writes that down first, so nobody sees it active, whichever of the many ways the grant went. A consent that is
revoked ends its grant, with every token, before the revocation is written.
"""

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from authz.clock import Clock
from authz.protocol.scopes import clinical
from authz.protocol.tokens import Grant
from authz.storage.consents import ConsentVersion, NoRoomLeft, Room
from authz.storage.store import Store
from gateway.consent_service.room import OPEN, USUAL_ROOM, room_for
from gateway.consent_service.rules import check_consent, patient_of
from gateway.consent_service.search import parsed
from gateway.consent_service.versions import instant, next_version, version_as_told, with_status
from gateway.consents.codes import LOINC, PARTICIPATIONS, RESOURCE_TYPES
from gateway.consents.consent import SCOPES
from gateway.fhir.definitions import is_resource_type
from gateway.fhir.ids import is_id
from gateway.fhir.links import local_reference
from gateway.fhir.outcome import FhirError
from gateway.fhir.resource import parse_resource

SCOPE_URL = "urn:securus:consent:scope"
"""The extension that holds one scope as it was allowed."""
_ASKED_AT_ONCE = 32  # before others have their turn: a store may answer without a wait
_ENDED = "the grant to the app has ended"
_KINDS = 1000  # of consents that were found right
_Kind = tuple[str, str, tuple[str, ...], str]
"""The client, its name, the scopes, and the type of who gave it: what a consent of a grant says beside ids and times."""


class GrantConsents:
    """Says what is allowed at the consent page as consents of one base. written is told of each that was stored."""

    def __init__(
        self,
        *,
        base: str,
        issuer: str,
        store: Store,
        clock: Clock,
        written: Callable[[ConsentVersion], None] = lambda _: None,
    ) -> None:
        self._base = base
        self._issuer = issuer
        self._store = store
        self._clock = clock
        self._written = written
        self._right: set[_Kind] = set()

    @property
    def usual_room(self) -> Room:
        """What a consent is held to by the store, which counts those that are there when it writes."""
        return USUAL_ROOM

    async def room(self, grant: Grant) -> Room | None:
        """What it is held to where that left no room: those that are there are read.

        Raises NoRoomLeft, StoreUnavailable.
        """
        value = self._consent(grant, "")
        if value is None:
            return None
        patient = patient_of(value)

        async def beside() -> Mapping[str, Mapping[str, Any]]:
            return await standing(self._store, self._base, patient, now=self._clock())

        try:
            return await room_for(self._store, value, base=self._base, id="", beside=beside)
        except FhirError as error:
            raise NoRoomLeft from error

    def of(self, grant: Grant, client_name: str) -> ConsentVersion | None:
        """The consent of a grant; None where it opens no patient's record, or was not the patient's to give."""
        value = self._consent(grant, client_name)
        if value is None:
            return None
        self._hold_to_rules(value, grant, client_name)
        return version_as_told(
            value,
            None,
            base=self._base,
            id=str(uuid.uuid4()),
            now=self._clock(),
            by=grant.subject,
            grant_id=grant.grant_id,
        )

    def stored(self, consent: ConsentVersion) -> None:
        """Take note that it was."""
        self._written(consent)

    def _hold_to_rules(self, value: Mapping[str, Any], grant: Grant, client_name: str) -> None:
        """Raise what check_consent() raises. Consents of one kind differ in ids and times that are always right: it is
        asked about the first of each kind."""
        performer = value["performer"][0]["reference"].partition("/")[0] if "performer" in value else ""
        kind = grant.client_id, client_name, grant.scope, performer
        if kind not in self._right:
            check_consent(value)
            if len(self._right) >= _KINDS:
                self._right.clear()
            self._right.add(kind)

    def _consent(self, grant: Grant, client_name: str) -> dict[str, Any] | None:
        patient = grant.context.get("patient")
        if not isinstance(patient, str) or not is_id(patient) or _is_of_staff(grant, self._base):
            return None
        return consent_of(grant, client_name, patient=patient, base=self._base, issuer=self._issuer)


def consent_of(grant: Grant, client_name: str, *, patient: str, base: str, issuer: str) -> dict[str, Any]:
    """What a person allowed to an app, as a Consent: permit, to this client, these types, from now until it ends."""
    opened = [scope for scope in clinical(grant.scope) if scope.context == "patient"]
    types = sorted({scope.type for scope in opened if is_resource_type(scope.type)})
    provision: dict[str, Any] = {
        "type": "permit",
        "period": {"start": instant(grant.created_at)},
        "actor": [
            {
                "role": {"coding": [{"system": PARTICIPATIONS, "code": "IRCP"}]},
                "reference": {
                    "identifier": {"system": issuer, "value": grant.client_id},
                    "display": client_name,
                },
            }
        ],
    }
    if types and not any(scope.type == "*" for scope in opened):
        provision["class"] = [{"system": RESOURCE_TYPES, "code": type_} for type_ in types]
    person = grant.claims.get("fhirUser")
    place = local_reference(person, (base,)) if isinstance(person, str) else None
    value: dict[str, Any] = {
        "resourceType": "Consent",
        "extension": [{"url": SCOPE_URL, "valueString": scope} for scope in grant.scope],
        "status": "active",
        "scope": {"coding": [{"system": SCOPES, "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": LOINC, "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{patient}"},
        "dateTime": instant(grant.created_at),
        "policy": [{"uri": issuer}],
        "provision": provision,
    }
    if place is not None and place.type in ("Patient", "RelatedPerson"):
        value["performer"] = [{"reference": f"{place.type}/{place.id}"}]
    return value


def _is_of_staff(grant: Grant, base: str) -> bool:
    """Whether somebody lets an app in for their own work with a patient: that is no word of the patient's."""
    person = grant.claims.get("fhirUser")
    place = local_reference(person, (base,)) if isinstance(person, str) else None
    return place is not None and place.type in ("Practitioner", "PractitionerRole")


async def settled(store: Store, versions: Sequence[ConsentVersion], now: int) -> list[ConsentVersion]:
    """The versions, given as the newest ones, with those inactive whose grant has ended. Raises StoreUnavailable."""
    found = []
    for first in range(0, len(versions), _ASKED_AT_ONCE):
        if first:
            await asyncio.sleep(0)
        some = versions[first : first + _ASKED_AT_ONCE]
        asked = {each.grant_id for each in some if each.grant_id is not None and each.status == "active"}
        live = await store.live_grants(asked, now=now) if asked else frozenset()
        for version in some:
            ends = version.grant_id in asked and version.grant_id not in live
            found.append(await _ended(store, version, now) if ends else version)
    return found


async def standing(store: Store, base: str, patient: str, *, now: int) -> dict[str, dict[str, Any]]:
    """The consents of a patient that are not over, by their ids; nobody changes them. Raises StoreUnavailable."""
    found = await settled(store, await store.consents_of(base, (patient,), statuses=OPEN), now)
    return {each.id: parsed(each) for each in found if each.status in OPEN}


async def end_with_grant(
    store: Store, value: Mapping[str, Any], before: ConsentVersion, *, now: int, by: str
) -> ConsentVersion | None:
    """Write value as the version that ends a consent, with whose grant it is over already where it has one.

    Whoever read the consent in between wrote down that it ended: this version follows theirs, and says who and why.
    None where somebody changed it otherwise. Raises StoreUnavailable.
    """
    make = next_version
    for _ in range(2):
        version = make(value, before, base=before.base, id=before.id, now=now, by=by)
        if await store.add_consent(version):
            return version
        found = await store.consent(before.base, before.id)
        if found is None or found.grant_id is None or found.status != "inactive":
            return None
        before, make = found, version_as_told  # what has ended has ended: this says by whom
    return None


async def _ended(store: Store, version: ConsentVersion, now: int) -> ConsentVersion:
    value = with_status(parse_resource(version.resource), "inactive", _ENDED)
    provision = value.get("provision")
    if isinstance(provision, Mapping) and isinstance(provision.get("period"), Mapping):
        value["provision"] = {**provision, "period": {**provision["period"], "end": instant(now)}}
    ended = next_version(value, version, base=version.base, id=version.id, now=now, by=version.recorded_by)
    if await store.add_consent(ended):
        return ended
    return await store.consent(version.base, version.id) or ended  # somebody else wrote it down meanwhile
