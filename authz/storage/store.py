"""The Store: every record that must outlive a request, with one typed namespace for each single-use object.

Each method is one atomic step: two callers, in two processes or on two nodes, never both win. Identifiers of
secrets (codes, request_uri, refresh tokens, cookies) are SHA-256 digests in base64url made by the caller; a
store never sees the secret. All times are seconds since 1970. A record whose expires_at is not later than
`now` does not exist for any method. Every method raises StoreUnavailable when the store cannot answer:
callers let it pass, and the outermost door answers 503.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import msgspec

from authz.protocol.tokens import Grant
from authz.storage.audit_feeds import AuditFeedStore
from authz.storage.audit_index import AuditIndexStore
from authz.storage.audit_lines import AuditStore
from authz.storage.audit_seals import AuditSealStore
from authz.storage.audit_signals import SignalStore
from authz.storage.consents import ConsentStore, ConsentVersion, Room
from authz.storage.effects import EffectsStore
from authz.storage.postgresql.settings import PostgresqlSettings
from authz.storage.registrations import InitialAccessToken, Registration, RegistrationChange
from authz.storage.valkey_settings import ValkeySettings


class StoreUnavailable(Exception):
    """The store did not answer. Nothing was decided; the caller fails closed."""


class AuditConflict(StoreUnavailable):
    """Another process appended to the audit chain first: link anew, by extend_audit()."""


class Namespace(StrEnum):
    """Namespaces of single-use claims; a key in one never meets the same key in another."""

    DPOP_PROOF = "dpop-proof"  # jkt ‖ jti
    CLIENT_ASSERTION = "client-assertion"  # client_id ‖ jti
    REQUEST_OBJECT = "request-object"  # client_id ‖ jti
    EXPORT_SLOT = "export-slot"  # mount ‖ issuer ‖ client_id ‖ number: given back when the job has ended
    EXPORT_END = "export-end"  # id of a job
    CONDITIONAL_WRITE = (
        "conditional-write"  # SHA-256 of mount ‖ search: given back when the write was answered
    )
    EMERGENCY_END = "emergency-end"  # id of emergency access
    AUDIT_SIGNAL = "audit-signal"  # id of a signal
    AUDIT_FEED = "audit-feed"  # name of a feed: given back when the round of deliveries has ended; no housekeeping ends it


class SingleUse(msgspec.Struct, frozen=True):
    """What may be used once and is about to be: a key in a namespace of replay claims, taken until then."""

    namespace: Namespace
    key: bytes
    until: int


@dataclass(frozen=True, slots=True)
class PushedRequest:
    """A pushed authorization request, already validated (RFC 9126)."""

    id: str
    client_id: str
    parameters: Mapping[str, str]
    dpop_jkt: str | None
    expires_at: int


@dataclass(frozen=True, slots=True)
class Interaction:
    """A pushed request on its way through the pages: sign-in, choices, consent. Bound to one browser session."""

    id: str
    request_id: str
    client_id: str
    parameters: Mapping[str, str]
    dpop_jkt: str | None
    session_id: str | None
    expires_at: int
    signed_in: bool = False  # the person signed in on the way through this interaction
    patient: str | None = None  # the record that was chosen
    picked: bool = False  # by a picker: the account does not name it
    encounter: str | None = None  # the visit that was chosen; empty where the person goes on without one


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """A browser, signed in or not yet. subject is None before sign-in; signing in makes a new session.

    begun_as is the id of the session of nobody in whose place it came.
    """

    id: str
    csrf_key: str
    subject: str | None
    authenticated_at: int | None
    amr: tuple[str, ...]
    expires_at: int
    begun_as: str | None = None


@dataclass(frozen=True, slots=True)
class AuthorizationCode:
    """An authorization code and all that it is bound to (RFC 6749 4.1.2, 7636, 9449 10)."""

    id: str
    grant_id: str
    client_id: str
    redirect_uri: str
    code_challenge: str
    dpop_jkt: str | None
    nonce: str | None
    expires_at: int


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch from a record system (SMART App Launch 2.2): for one app, one base and one person; used once."""

    id: str
    client_id: str
    audience: str
    subject: str
    context: Mapping[str, object]
    expires_at: int


class Redemption(StrEnum):
    """What became of an attempt to redeem a code."""

    FIRST = "first"
    AGAIN = "again"


@dataclass(frozen=True, slots=True)
class RedeemedCode:
    """The code's record with whether this was its first use."""

    code: AuthorizationCode
    redemption: Redemption


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token. replaced_at says since when it has a successor.

    jkt is set for public clients only: the thumbprint of the key that it is held to (RFC 9449 5), or of the certificate
    (RFC 8705 4).
    """

    id: str
    grant_id: str
    client_id: str
    scope: tuple[str, ...]
    jkt: str | None
    expires_at: int
    replaced_at: int | None = None


class GrantUntil(msgspec.Struct, frozen=True):
    """A grant to be stored until expires_at, with a new refresh token of it or none."""

    grant: Grant
    expires_at: int
    refresh_token: RefreshToken | None = None


class Redeeming(msgspec.Struct, frozen=True):
    """A code that is to be redeemed.

    judge is told what redeem_code() gives, and of a first use the live grant; what it makes of them is stored, None for
    nothing. The code is used whatever it says. It may be asked more than once, and then the last time counts.
    """

    code_id: str
    judge: Callable[[RedeemedCode | None, Grant | None], GrantUntil | None]


Then = PushedRequest | GrantUntil | Redeeming
"""What hangs on the claims of a request."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A signing key of the server, encrypted at rest. state: announced | active | retired | removed."""

    kid: str
    algorithm: str
    state: str
    encrypted: bytes
    public_jwk: Mapping[str, object]
    created_at: int
    activates_at: int
    retires_at: int
    removes_at: int


class Store(
    AuditStore,
    AuditSealStore,
    AuditFeedStore,
    AuditIndexStore,
    SignalStore,
    EffectsStore,
    ConsentStore,
    Protocol,
):
    """Where records rest."""

    # single-use claims
    async def claim(self, namespace: Namespace, key: bytes, *, until: int, now: int) -> bool:
        """True for the first caller that names this key before `until`, False for every other."""
        ...

    async def claim_in_order(self, uses: Sequence[SingleUse], *, now: int, then: Then | None = None) -> int:
        """Claim each, and stop at the first that was claimed before; how many were won.

        Where all are won, `then` is stored, or redeemed, as its own method would do it. When that raises, the claims may
        have been made and may not have been, and so with `then`.
        """
        ...

    async def release(self, namespace: Namespace, key: bytes) -> None:
        """Give a claim back: the next caller that names this key is a first one. Only for claims of a place."""
        ...

    async def renew(self, namespace: Namespace, key: bytes, *, held_until: int, until: int) -> bool:
        """Let one's own claim of a place end at another moment, in one statement; it is given back where that is now.

        False, and nothing changed, where the claim that is there is not the one that ends at held_until: another's.
        """
        ...

    async def claimed_until(self, namespace: Namespace, key: bytes) -> int | None:
        """When the claim of a place ends, whether that is over or not; None where nobody has one."""
        ...

    async def count(self, key: str, *, window_seconds: int, now: int, by: int = 1) -> int:
        """Add to the counter of key in the window that now is in and return the new value (for rate limits).

        by is -1 to take back what was counted before it was known whether it should count.
        """
        ...

    # pushed requests, interactions, sessions
    async def put_pushed_request(self, record: PushedRequest) -> None: ...
    async def pushed_request(self, id: str, *, now: int) -> PushedRequest | None: ...
    async def keep_pushed_request(
        self, id: str, *, until: int, now: int, interaction: Interaction | None = None
    ) -> bool:
        """Let the row of a live pushed request live until then, for a person at the pages; False when there is none.

        The record keeps its own expires_at: the request_uri cannot be visited after it. The interaction that it is kept
        for is stored with it, in one transaction, whether the request lives or not.
        """
        ...

    async def put_launch(self, record: Launch) -> None: ...
    async def take_launch(self, id: str, *, client_id: str, now: int) -> Launch | None:
        """The launch, gone with this; None when unknown, used, expired or another app's, which it stays good for."""
        ...

    async def put_interaction(self, record: Interaction) -> None: ...
    async def interaction(self, id: str, *, now: int) -> Interaction | None: ...
    async def delete_interaction(self, id: str) -> None: ...
    async def put_session(self, record: BrowserSession) -> None: ...
    async def session(self, id: str, *, now: int) -> BrowserSession | None: ...
    async def delete_session(self, id: str) -> None: ...
    async def visit(
        self, *, session_id: str, interaction_id: str, now: int
    ) -> tuple[BrowserSession, Interaction] | None:
        """What a page needs: the live session, and the live interaction whose pushed request is live. None without all."""
        ...

    # grants, codes, refresh tokens
    async def complete_authorization(
        self,
        *,
        request_id: str,
        interaction_id: str,
        grant: Grant,
        code: AuthorizationCode,
        now: int,
        consents: Sequence[tuple[ConsentVersion, Room | None]] = (),
    ) -> bool:
        """In one transaction consume the pushed request and its interaction and write grant, code and new consents.

        False, and nothing written, when the pushed request was consumed before or has expired (RFC 9126 4). Raises
        NoRoomLeft, and nothing is written or consumed, when a patient has no room for a consent within what it is held to.
        """
        ...

    async def refuse_authorization(self, *, request_id: str, interaction_id: str, now: int) -> bool:
        """Consume the pushed request and its interaction after a refusal. False when already consumed."""
        ...

    async def redeem_code(self, id: str, *, now: int) -> RedeemedCode | None:
        """Mark the code as used and return it; a code used before comes back as AGAIN until its grant ends.

        None when it never existed or expired unused.
        """
        ...

    async def put_grant(
        self, grant: Grant, *, expires_at: int, refresh_token: RefreshToken | None = None
    ) -> None:
        """Store a grant or its next state, with a new refresh token of it, in one transaction."""
        ...

    async def grant(self, grant_id: str, *, now: int) -> Grant | None:
        """The live grant; None when unknown, expired or revoked."""
        ...

    async def live_grants(self, grant_ids: Collection[str], *, now: int) -> frozenset[str]:
        """Those of these ids whose grants are live; at most a few hundred at once."""
        ...

    async def grants(self, *, subject: str | None, client_id: str | None, now: int) -> Sequence[Grant]:
        """The live grants of a person, of a client, or of both together, the newest first; of all without either."""
        ...

    async def put_refresh_token(self, record: RefreshToken) -> None: ...
    async def refresh_token(self, id: str, *, now: int) -> RefreshToken | None:
        """The live refresh token; None when unknown, expired, or when its grant was revoked."""
        ...

    async def replace_refresh_token(self, id: str, *, by: RefreshToken, now: int, grace_seconds: int) -> bool:
        """Give a refresh token its successor, in one transaction.

        The token itself stays good for grace_seconds after its first replacement: a client that lost the answer asks
        again and gets another successor. False, and nothing written, when the token is unknown or that time is over.
        """
        ...

    async def revoke_grant(self, grant_id: str, *, now: int, keep_until: int) -> bool:
        """End a grant, its refresh tokens and its access tokens. True when it was live before."""
        ...

    async def revoke_token(self, token_id: str, *, now: int, keep_until: int) -> None:
        """End one access token, by its jti."""
        ...

    async def revocations_since(self, sequence: int) -> tuple[int, Sequence[str]]:
        """Revoked grant ids and token ids after sequence, and the newest sequence; for caches on every node."""
        ...

    async def end_grants(self, client_id: str, *, now: int, keep_until: int) -> Sequence[str]:
        """End every live grant of a client as revoke_grant does, in one transaction; the ids of those that were live."""
        ...

    # client registrations
    async def put_registration(
        self, record: Registration, change: RegistrationChange, *, spending: str | None, now: int
    ) -> bool:
        """Write a new registration with the first row of its history, in one transaction.

        With spending it costs one use of that initial access token. False, and nothing written, when the token is
        unknown, expired or used up, or when the client_id is taken.
        """
        ...

    async def change_registration(
        self, record: Registration, change: RegistrationChange, *, from_version: int
    ) -> bool:
        """Write the next version of a registration with its row of history.

        False, and nothing written, when another change was first or the registration had expired at the change's time.
        """
        ...

    async def registration(self, client_id: str, *, now: int) -> Registration | None:
        """The registration, whatever its status; None when unknown or expired."""
        ...

    async def registrations_since(
        self, sequence: int, *, at_most: int | None = None
    ) -> tuple[int, Sequence[Registration]]:
        """Registrations that changed after sequence, in the order of their changes, and the sequence of the last one.

        at_most is how many of them, the first ones; None is all. Fewer than at_most are all that there are.
        A change that is numbered lower than one that was seen is never seen first by anybody later.
        """
        ...

    async def registration_history(self, client_id: str) -> Sequence[RegistrationChange]:
        """What happened to a client, the oldest first; it outlives the registration."""
        ...

    async def put_initial_access_token(self, record: InitialAccessToken) -> None: ...
    async def initial_access_token(self, id: str, *, now: int) -> InitialAccessToken | None:
        """The live token with its uses left; None when unknown, expired or used up."""
        ...

    async def initial_access_tokens(self, *, now: int) -> Sequence[InitialAccessToken]:
        """Every live token, the oldest first."""
        ...

    async def delete_initial_access_token(self, id: str) -> bool:
        """Forget a token; False when there was none."""
        ...

    # server keys and secrets
    async def put_key(self, key: StoredKey) -> bool:
        """Write a key; False when one with this kid exists."""
        ...

    async def keys(self) -> Sequence[StoredKey]: ...
    async def move_key(self, kid: str, *, from_state: str, to_state: str, now: int) -> bool:
        """Change a key's state in one statement; False when it was not in from_state.

        A key that becomes active or retires does so now, early or late: what follows keeps its distance from that
        (RFC 7517 leaves this to us: what it signed a second ago must still be verified).
        """
        ...

    async def reseal_key(self, kid: str, *, expected: bytes, encrypted: bytes) -> bool:
        """Replace the encrypted part of a key in one statement; False when it was not the expected one."""
        ...

    async def delete_key(self, kid: str) -> None: ...
    async def secret(self, name: str, proposal: bytes) -> bytes:
        """The stored secret of that name; the proposal becomes it when there is none yet. Same for all callers."""
        ...

    # what nodes tell each other
    async def wait_for_change(self, *, at_most_seconds: float) -> None:
        """Return when another node may have changed revocations, clients or keys, at the latest after that time.

        A hint to read them sooner: a store without notices just waits.
        """
        ...

    # housekeeping
    async def remove_expired(self, *, now: int, at_most: int) -> int:
        """Delete at most `at_most` expired rows over all tables; the number deleted."""
        ...

    async def check(self) -> None:
        """Raise StoreUnavailable unless the store can be read and written (for /readyz)."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Which store, and where: path and options of SQLite, or the address of PostgreSQL."""

    kind: str = "sqlite"
    path: str = "state/securus.db"
    options: Mapping[str, str] = field(default_factory=dict)
    postgresql: PostgresqlSettings | None = None
    valkey: ValkeySettings | None = None  # where replay claims and rates are kept, beside either
