"""What is kept of patients, opened for their own pages, as far as the configuration says and the store keeps it."""

from typing import Protocol, runtime_checkable

from authz.account.own_records import Actor, ActorKind, OwnRecords
from authz.clock import Clock
from authz.storage.audit_index import AuditIndexStore
from authz.storage.consents import ConsentStore
from authz.storage.store import Store
from gateway.account.accesses import IndexedAccesses
from gateway.account.consents import KeptConsents
from gateway.settings import GatewaySettings

_PRACTITIONER = "Practitioner/"


@runtime_checkable
class _Indexes(AuditIndexStore, Protocol):
    """A store that keeps an index of the audit log."""


@runtime_checkable
class _KeepsConsents(ConsentStore, Protocol):
    """A store that keeps consents."""


def open_own_records(settings: GatewaySettings, store: Store, clock: Clock) -> OwnRecords:
    """Consents and accesses of the base that account_pages names."""
    pages = settings.account_pages
    if pages is None:
        return OwnRecords()
    accesses = IndexedAccesses(store, pages.base) if isinstance(store, _Indexes) else None
    if not pages.consents or not isinstance(store, _KeepsConsents):
        return OwnRecords(accesses=accesses)
    practitioners = [
        Actor(ActorKind.PRACTITIONER, found, account.name)
        for account in settings.accounts
        if isinstance(found := account.claims.get("fhirUser"), str) and found.startswith(_PRACTITIONER)
    ]
    consents = KeptConsents(
        store=store,
        grants=store,
        clock=clock,
        base=pages.base,
        issuer=settings.authorization.issuer,
        policy=pages.policy,
        custodian={"reference": pages.custodian, "display": settings.authorization.organisation},
        actors={ActorKind.ORGANIZATION: pages.organizations, ActorKind.PRACTITIONER: practitioners},
    )
    return OwnRecords(consents, accesses)
