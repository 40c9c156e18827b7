"""The Store: every record that must outlive a request, each family of them described in a file of its own.

Each method is one atomic step: two callers, in two processes or on two nodes, never both win. Identifiers of
secrets (codes, request_uri, refresh tokens, cookies) are SHA-256 digests in base64url made by the caller; a
store never sees the secret. All times are seconds since 1970. A record whose expires_at is not later than
`now` does not exist for any method. Every method raises StoreUnavailable when the store cannot answer:
callers let it pass, and the outermost door answers 503.
"""

from typing import Protocol

from authz.storage.audit_feeds import AuditFeedStore
from authz.storage.audit_index import AuditIndexStore
from authz.storage.audit_lines import AuditStore
from authz.storage.audit_seals import AuditSealStore
from authz.storage.audit_signals import SignalStore
from authz.storage.claims import ClaimStore
from authz.storage.consents import ConsentStore
from authz.storage.effects import EffectsStore
from authz.storage.grants import GrantStore
from authz.storage.interactions import InteractionStore
from authz.storage.registrations import RegistrationStore
from authz.storage.server_keys import KeyStore


class StoreUnavailable(Exception):
    """The store did not answer. Nothing was decided; the caller fails closed."""


class AuditConflict(StoreUnavailable):
    """Another process appended to the audit chain first: link anew, by extend_audit()."""


class Store(
    ClaimStore,
    InteractionStore,
    GrantStore,
    RegistrationStore,
    KeyStore,
    AuditStore,
    AuditSealStore,
    AuditFeedStore,
    AuditIndexStore,
    SignalStore,
    EffectsStore,
    ConsentStore,
    Protocol,
):
    """All of it, as one: what belongs together is written in one transaction, whichever family it is of."""

    # What nodes tell each other
    async def wait_for_change(self, *, at_most_seconds: float) -> None:
        """Return when another node may have changed revocations, clients or keys, at the latest after that time.

        A hint to read them sooner: a store without notices just waits.
        """
        ...

    # Housekeeping
    async def remove_expired(self, *, now: int, at_most: int) -> int:
        """Delete at most `at_most` expired rows over all tables; the number deleted."""
        ...

    async def check(self) -> None:
        """Raise StoreUnavailable unless the store can be read and written (for /readyz)."""
        ...

    async def close(self) -> None: ...
