"""A patient's own consents, for the patient's own pages: written and read in the store of consents of one FHIR base."""

import json
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from authz.account.own_records import Actor, ActorKind, Author, ConsentsPage, NoRoom, OwnConsent, Wish
from authz.clock import Clock
from authz.storage.consents import ConsentStore, ConsentVersion
from gateway.account.consent_document import consent_of, performer_of, wish_of
from gateway.consent_service.receipts import receipt_claims
from gateway.consent_service.room import add_within, room_for
from gateway.consent_service.versions import next_version, with_status
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.resource import parse_resource

_SECTIONS = {"active": True, "over": False}  # of the pages, by the name that places in them begin with
_MAX_DIGITS = 18


class Grants(Protocol):
    """The part of the Store that knows whether grants live."""

    async def live_grants(self, grant_ids: Collection[str], *, now: int) -> frozenset[str]:
        """Those of these ids whose grants are live."""
        ...


class KeptConsents:
    """authz.account.own_records.OwnConsents over the store."""

    def __init__(
        self,
        *,
        store: ConsentStore,
        grants: Grants,
        clock: Clock,
        base: str,
        issuer: str,
        policy: str,
        custodian: Mapping[str, Any],
        actors: Mapping[ActorKind, Sequence[Actor]],
        sign: Callable[[Mapping[str, object]], Awaitable[str]],
        standing: Callable[[str], Awaitable[Mapping[str, Mapping[str, Any]]]],
    ) -> None:
        """sign makes a JWS of the claims of a receipt; policy is the address of what is agreed to, custodian the
        reference to who holds the records; standing reads the consents of a patient that are not over, by their ids.
        """
        self._store = store
        self._grants = grants
        self._clock = clock
        self._base = base
        self._issuer = issuer
        self._policy = policy
        self._custodian = custodian
        self._actors = actors
        self._sign = sign
        self._standing = standing

    @property
    def base(self) -> str:
        """The identifier of the base."""
        return self._base

    async def page(self, patient: str, *, before: str, limit: int) -> ConsentsPage:
        """A page of the patient's consents. Raises ValueError for a place that is none, StoreUnavailable."""
        section, number = _place(before)
        found: list[tuple[str, int, ConsentVersion]] = []
        for name in list(_SECTIONS)[list(_SECTIONS).index(section) :]:
            some = await self._store.consents_newest_first(
                self._base,
                patient,
                is_active=_SECTIONS[name],
                before=number,
                limit=limit + 1 - len(found),
            )
            found += [(name, at, version) for at, version in some]
            number = None
            if len(found) > limit:
                break
        shown = found[:limit]
        told = await self._told([version for _, _, version in shown])
        return ConsentsPage(told, f"{shown[-1][0]}.{shown[-1][1]}" if len(found) > limit else "")

    async def history(
        self, patient: str, id: str, *, before: int | None = None, limit: int
    ) -> Sequence[OwnConsent]:
        """Versions of a consent, the newest first; none where it is not this patient's. Raises StoreUnavailable."""
        newest = await self._newest(patient, id)
        if newest is None:
            return ()
        found = await self._store.consent_history(self._base, id, before=before, at_most=limit)
        if any(each.patient != patient for each in found):
            return ()
        return await self._told(found, newest=newest.version)

    async def version(self, patient: str, id: str, version: int | None = None) -> OwnConsent | None:
        """A version; None where it is not this patient's. Raises StoreUnavailable."""
        newest = await self._newest(patient, id)
        found = newest
        if newest is not None and version is not None:
            found = await self._store.consent(self._base, id, version)
        if newest is None or found is None or found.patient != patient:
            return None
        return (await self._told([found], newest=newest.version))[0]

    async def write(
        self, patient: str, wish: Wish, *, author: Author, words: str, after: OwnConsent | None, now: int
    ) -> OwnConsent | None:
        """Write a new consent, or the version after one; None where another was first. Raises NoRoom, StoreUnavailable."""
        resource = consent_of(
            wish,
            patient=patient,
            author=author,
            issuer=self._issuer,
            policy=self._policy,
            custodian=self._custodian,
            words=words,
            now=now,
        )
        if after is None:
            return await self._add(resource, None, str(uuid.uuid4()), author, now)
        before = await self._before(patient, after)
        return None if before is None else await self._add(resource, before, after.id, author, now)

    async def withdraw(
        self, patient: str, consent: OwnConsent, *, author: Author, now: int
    ) -> OwnConsent | None:
        """Write the version that ends it; None where another was written meanwhile. Raises StoreUnavailable."""
        before = await self._before(patient, consent)
        if before is None:
            return None
        ended = with_status(parse_resource(before.resource), "inactive", "")
        return await self._add(ended, before, consent.id, author, now)

    async def receipt(self, patient: str, id: str, version: int, *, now: int) -> str | None:
        """A signed receipt of a version; None where it is not this patient's. Raises StoreUnavailable."""
        found = await self._store.consent(self._base, id, version)
        if found is None or found.patient != patient:
            return None
        claims = receipt_claims(
            json.loads(found.resource),
            found.resource,
            issuer=self._issuer,
            base=self._base,
            organisation=str(self._custodian.get("display", "")),
            now=now,
        )
        return await self._sign(claims)

    def actors(self, kind: ActorKind) -> Sequence[Actor]:
        """Organizations or practitioners to choose from."""
        return self._actors.get(kind, ())

    async def _before(self, patient: str, consent: OwnConsent) -> ConsentVersion | None:
        """The version that the person saw, as it is kept; None where it is not the newest any more."""
        found = await self._store.consent(self._base, consent.id)
        is_it = found is not None and (found.patient, found.version) == (patient, consent.version)
        return found if is_it else None

    async def _add(
        self,
        resource: Mapping[str, Any],
        before: ConsentVersion | None,
        id_: str,
        author: Author,
        now: int,
    ) -> OwnConsent | None:
        """Write the next version by the rules of every consent; None where those or another writer forbid it.

        Raises NoRoom.
        """
        try:
            version = next_version(resource, before, base=self._base, id=id_, now=now, by=author.subject)
        except FhirError as error:
            if error.reason is not Reason.CONSENT_STATUS:
                raise
            return None

        async def beside() -> Mapping[str, Mapping[str, Any]]:
            return await self._standing(version.patient)

        try:
            room = await room_for(self._store, resource, base=self._base, id=id_, beside=beside)
            is_written = await add_within(self._store, version, room)
        except FhirError as error:
            raise NoRoom from error
        return (await self._told([version]))[0] if is_written else None

    async def _newest(self, patient: str, id: str) -> ConsentVersion | None:
        """The newest version of a consent of this patient, as it is kept."""
        found = await self._store.consent(self._base, id)
        return found if found is not None and found.patient == patient else None

    async def _told(
        self, versions: Sequence[ConsentVersion], *, newest: int | None = None
    ) -> Sequence[OwnConsent]:
        """These versions in our words; all are the newest ones of their consents where newest does not say which is."""
        told = [self._words(each) for each in versions]
        with_grant = {
            each.grant_id
            for each in told
            if each.grant_id is not None and each.status == "active" and newest in (None, each.version)
        }
        if not with_grant:
            return told
        # With its grant a consent has ended, whether or not that was written down yet.
        live = await self._grants.live_grants(with_grant, now=self._clock())
        return [
            replace(each, status="inactive")
            if newest in (None, each.version)
            and each.status == "active"
            and each.grant_id in with_grant - live
            else each
            for each in told
        ]

    def _words(self, version: ConsentVersion) -> OwnConsent:
        resource = json.loads(version.resource)
        by, relationship = performer_of(resource)
        return OwnConsent(
            id=version.id,
            version=version.version,
            status=version.status,
            recorded_at=version.recorded_at,
            recorded_by=version.recorded_by,
            by=by,
            relationship=relationship,
            wish=wish_of(resource, self._issuer),
            resource=resource,
            grant_id=version.grant_id,
        )


def _place(text: str) -> tuple[str, int | None]:
    """The section and number that a place names; the first section without one. Raises ValueError."""
    if not text:
        return next(iter(_SECTIONS)), None
    section, _, number = text.partition(".")
    if section not in _SECTIONS or not (number.isascii() and number.isdigit() and len(number) <= _MAX_DIGITS):
        raise ValueError("no such place")
    return section, int(number)
