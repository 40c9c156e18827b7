"""What is kept of patients, opened for their own pages, as far as the configuration says."""

from collections.abc import Mapping
from typing import Any

from authz.account.own_records import Actor, ActorKind, OwnRecords
from authz.clock import Clock
from authz.keys import KeyRing
from authz.login.relations import NoRelations, Relations
from authz.storage.store import Store
from gateway.account.accesses import IndexedAccesses
from gateway.account.consents import KeptConsents
from gateway.account.relations import Records, RelatedPersonsAt
from gateway.consent_service.grants import standing
from gateway.consent_service.receipts import TYPE
from gateway.settings import GatewaySettings

_PRACTITIONER = "Practitioner/"


def open_own_records(
    settings: GatewaySettings, store: Store, keys: KeyRing, clock: Clock, records: Mapping[str, Records]
) -> OwnRecords:
    """Consents and accesses of the base that account_pages names, and who acts for whom by it.

    records are by the identifier of their base, and may be there later than this.
    """
    pages = settings.account_pages
    if pages is None:
        return OwnRecords()
    accesses = IndexedAccesses(store, pages.base)
    relations: Relations = NoRelations()
    if pages.related_persons is not None:
        relations = RelatedPersonsAt(
            pages.related_persons,
            base=pages.base,
            issuer=settings.authorization.issuer,
            records=lambda: records[pages.base],
            clock=clock,
        )
    if not pages.consents:
        return OwnRecords(accesses=accesses, relations=relations)
    practitioners = [
        Actor(ActorKind.PRACTITIONER, found, account.name)
        for account in settings.accounts
        if isinstance(found := account.claims.get("fhirUser"), str) and found.startswith(_PRACTITIONER)
    ]

    async def sign(claims: Mapping[str, object]) -> str:
        return await keys.sign(claims, typ=TYPE)

    async def standing_now(patient: str) -> Mapping[str, Mapping[str, Any]]:
        return await standing(store, pages.base, patient, now=clock())

    consents = KeptConsents(
        store=store,
        grants=store,
        clock=clock,
        base=pages.base,
        issuer=settings.authorization.issuer,
        policy=pages.policy,
        custodian={"reference": pages.custodian, "display": settings.authorization.organisation},
        actors={ActorKind.ORGANIZATION: pages.organizations, ActorKind.PRACTITIONER: practitioners},
        sign=sign,
        standing=standing_now,
    )
    return OwnRecords(consents, accesses, relations)
