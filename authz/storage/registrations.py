"""The records of who the clients are: registrations, what happened to them, and permissions to register."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from authz.protocol.clients import ProfileName


class RegistrationStatus(StrEnum):
    """Where a registration stands. Only an approved client can do anything."""

    PENDING = "pending"  # waits for its first approval
    APPROVED = "approved"
    REJECTED = "rejected"  # never approved, and never will be
    SUSPENDED = "suspended"  # stopped, until somebody lets it work again
    DELETED = "deleted"  # by the client or by the operator; the row stays a while as a tombstone


@dataclass(frozen=True, slots=True)
class Registration:
    """A client of the registry, or the status of one that gateway.yaml holds.

    version         grows by one with each change: a change names the version that it was decided upon
    metadata        the validated document (RFC 7591 2); in force while approved. Empty for a client of gateway.yaml
    proposed        an update that waits for approval while metadata stays in force; a statement that came with it, and
                    what that states, wait beside it
    configured      whether the client is one of gateway.yaml: then only its status is here
    access_token    digest of its registration access token (RFC 7592 1.2); None where there is none
    scope_ceiling   what it may ask for at most, by its initial access token; None without a limit
    statement       software statement that it registered with, unmodified (RFC 7591 3.2.1)
    profile         its security profile, which no update of its own changes
    secret_digest   SHA-256 of its secret in base64url, where it authenticates by one
    former_secret   the digest of the secret before, good until former_until: both are accepted while a client changes over
    stated          the claims of that statement that are client metadata: they override, updates too
    expires_at      when the row goes: one that was not dealt with, and a tombstone; None while it is needed
    sequence        number of the change that made it what it is; given by the store
    """

    client_id: str
    status: RegistrationStatus
    version: int
    metadata: Mapping[str, object]
    created_at: int
    changed_at: int
    proposed: Mapping[str, object] | None = None
    proposed_statement: str | None = None
    proposed_stated: Mapping[str, object] = field(default_factory=dict)
    configured: bool = False
    access_token: str | None = None
    scope_ceiling: tuple[str, ...] | None = None
    statement: str | None = None
    stated: Mapping[str, object] = field(default_factory=dict)
    expires_at: int | None = None
    sequence: int = 0
    profile: ProfileName = ProfileName.FAPI2
    secret_digest: str | None = None
    former_secret: str | None = None
    former_until: int = 0


@dataclass(frozen=True, slots=True)
class RegistrationChange:
    """One row of a registration's history: who did what when, and why. Never changed, never removed.

    what      'registered', 'updated', 'update-proposed', 'approved', 'rejected', 'suspended', 'reactivated',
              'deleted', 'token-renewed', 'secret-renewed' or 'profile-changed'
    sequence  its place among all changes; given by the store
    """

    client_id: str
    at: int
    who: str
    what: str
    why: str
    version: int
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class InitialAccessToken:
    """A permission to register (RFC 7591 1.2). id is the digest of the token."""

    id: str
    uses_left: int
    scope_ceiling: tuple[str, ...] | None
    made_by: str
    why: str
    created_at: int
    expires_at: int


class RegistrationStore(Protocol):
    """The part of the Store that keeps them. What holds for every method of a Store holds for these."""

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
