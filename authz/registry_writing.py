"""How the registry writes: each change one version further, with its row of history, its event and what it ends."""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from authz.client_directory import rules_of
from authz.clock import Clock
from authz.events import ClientChanged, Emit
from authz.handles import digest, new_handle
from authz.protocol.client_metadata import read_metadata
from authz.protocol.clients import AuthenticationMethod, Client, ProfileName
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.jwk import import_jwks
from authz.protocol.software_statements import SoftwareStatement
from authz.settings import AuthorizationSettings
from authz.storage.registrations import Registration, RegistrationChange, RegistrationStatus
from authz.storage.store import Store

_NODES_SECONDS = 60  # clocks of our own nodes differ by less
_PENDING_SECONDS = 90 * 86400  # a registration that nobody dealt with
_TOMBSTONE_SECONDS = 30 * 86400  # longer than any access token lives
Changed = Callable[[Sequence[str]], Awaitable[None]]


class RegistryError(Exception):
    """An operation that the registry refuses: the client is not there, or not in a status for it. The text says why."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A new registration, and the registration access token that nobody can read again (RFC 7592 3).

    client_secret  what it authenticates with, where it has one; nobody can read it again either
    """

    registration: Registration
    access_token: str
    client_secret: str | None = None


class RegistryWriter:
    """What all operations of the registry share. configured are the clients of gateway.yaml.

    changed is awaited after each change with the ids of the grants that it ended, so that this process knows at once;
    other processes learn it from the store within a second.
    """

    def __init__(
        self,
        *,
        store: Store,
        configured: Mapping[str, Client],
        settings: AuthorizationSettings,
        emit: Emit,
        clock: Clock,
        changed: Changed | None = None,
    ) -> None:
        self._store = store
        self._configured = configured
        self._settings = settings
        self._emit = emit
        self._clock = clock
        self._changed = changed
        issuers = settings.registration.statement_issuers
        self._issuers = {issuer: import_jwks(keys) for issuer, keys in issuers.items()}

    async def _add(
        self,
        document: Mapping[str, object],
        *,
        who: str,
        why: str,
        statement: SoftwareStatement | None,
        scope_ceiling: tuple[str, ...] | None,
        spending: str | None,
        approved: bool,
        profile: ProfileName,
    ) -> Registered:
        """A new client under an id of ours. Raises OAuthError; nothing is spent unless it is written."""
        now, token = self._clock(), new_handle()
        stated = {} if statement is None else dict(statement.metadata)
        rules = rules_of(self._settings, profile, scope_ceiling=scope_ceiling, stated=stated)
        metadata = read_metadata(document, rules).document
        client_secret = new_handle() if has_secret(metadata) else None
        registration = Registration(
            # base64url may begin with '-', which no command line takes for a name.
            client_id=secrets.token_hex(16),
            status=RegistrationStatus.APPROVED if approved else RegistrationStatus.PENDING,
            version=1,
            metadata=metadata,
            created_at=now,
            changed_at=now,
            access_token=digest(token),
            scope_ceiling=scope_ceiling,
            statement=None if statement is None else statement.text,
            stated=stated,
            expires_at=None if approved else now + _PENDING_SECONDS,
            profile=profile,
            secret_digest=None if client_secret is None else digest(client_secret),
        )
        change = RegistrationChange(registration.client_id, now, who, "registered", why, 1)
        if not await self._store.put_registration(registration, change, spending=spending, now=now):
            raise no_token("the initial access token was used up in this moment")
        await self._tell(registration, change, ())
        return Registered(registration, token, client_secret)

    async def _write(
        self, registration: Registration, what: str, *, who: str, why: str, ends_grants: bool = False
    ) -> Registration | None:
        """The next version of a registration, written; None when another change was first.

        Whoever is not approved any more loses every grant, after the status is written: what is issued between the two
        belongs to a client that is refused already.
        """
        now = self._clock()
        written = replace(registration, version=registration.version + 1, changed_at=now)
        change = RegistrationChange(written.client_id, now, who, what, why, written.version)
        if not await self._store.change_registration(written, change, from_version=registration.version):
            return None
        ended: Sequence[str] = ()
        if ends_grants or written.status is not RegistrationStatus.APPROVED:
            ended = await self._end_grants(written.client_id, now)
        await self._tell(written, change, ended)
        return written

    async def _end_grants(self, client_id: str, now: int) -> Sequence[str]:
        keep_until = now + self._settings.lifetimes.access_token + _NODES_SECONDS
        return await self._store.end_grants(client_id, now=now, keep_until=keep_until)

    async def _tell(
        self, registration: Registration, change: RegistrationChange, ended: Sequence[str]
    ) -> None:
        self._emit(
            ClientChanged(
                registration.client_id,
                change.what,
                change.who,
                change.why,
                str(registration.status),
                len(ended),
            )
        )
        if self._changed is not None:
            await self._changed(ended)


def tombstone(registration: Registration, status: RegistrationStatus, now: int) -> Registration:
    """The registration of a client that never comes back: kept until nobody can hold a token of it any more."""
    return replace(
        without_proposal(registration),
        status=status,
        access_token=None,
        secret_digest=None,
        former_secret=None,
        expires_at=now + _TOMBSTONE_SECONDS,
    )


def with_statement(registration: Registration, statement: SoftwareStatement | None) -> Registration:
    """The registration with that statement in the place of its own; as it is without one."""
    if statement is None:
        return registration
    return replace(registration, statement=statement.text, stated=dict(statement.metadata))


def without_proposal(registration: Registration) -> Registration:
    """The registration with no update that waits."""
    return replace(registration, proposed=None, proposed_statement=None, proposed_stated={})


def with_proposal_in_force(registration: Registration) -> Registration:
    """The registration with its update, and the statement that came with it, in force."""
    if registration.proposed is None:
        return registration
    following = replace(registration, metadata=registration.proposed)
    if registration.proposed_statement is not None:
        following = replace(
            following, statement=registration.proposed_statement, stated=registration.proposed_stated
        )
    return without_proposal(following)


def has_secret(metadata: Mapping[str, object]) -> bool:
    """Whether a client of this metadata authenticates by a secret, which this server makes (RFC 7591 3.2.1)."""
    return metadata.get("token_endpoint_auth_method") == AuthenticationMethod.CLIENT_SECRET_BASIC


def no_token(description: str) -> OAuthError:
    """The refusal of a request without a token that is good for it (RFC 6750 3.1): 401."""
    return OAuthError(ErrorCode.INVALID_TOKEN, description)
