"""The clients that may act now, as one live mapping: those of gateway.yaml and the approved ones of the registry.

In memory on every node, read from the store by the sequence of changes. Doors look a client up at each request, so a
client that was suspended is gone for all of them at once.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace

from authz.protocol.client_members import unacceptable
from authz.protocol.client_metadata import RegistrationRules, read_metadata
from authz.protocol.client_profiles import PROFILES
from authz.protocol.clients import Client, ProfileName
from authz.protocol.encoding import base64url_decode
from authz.protocol.errors import OAuthError
from authz.settings import AuthorizationSettings
from authz.storage.registrations import Registration, RegistrationStatus
from authz.storage.store import Store

_RELOAD_SECONDS = 3600
_STOPPED = frozenset({RegistrationStatus.SUSPENDED, RegistrationStatus.REJECTED, RegistrationStatus.DELETED})
_log = logging.getLogger("securus.clients")


class ClientDirectory(Mapping[str, Client]):
    """client_id → client, for every client that may act. configured is looked into anew each time.

    generation  grows whenever what the registry says has changed
    """

    def __init__(
        self, store: Store, configured: Mapping[str, Client], settings: AuthorizationSettings
    ) -> None:
        self._store = store
        self._configured = configured
        self._settings = settings
        self._registered: dict[str, Client] = {}
        self._stopped: set[str] = set()
        self._sequence = 0
        self._read_at = -1
        self._reload_at = 0
        self._refreshing = asyncio.Lock()
        self.generation = 0

    def __getitem__(self, client_id: str) -> Client:
        if client_id in self._stopped:
            raise KeyError(client_id)
        # A configured client is never replaced by a registered one.
        found = self._configured.get(client_id)
        return self._registered[client_id] if found is None else found

    def __iter__(self) -> Iterator[str]:
        for client_id in {**self._configured, **self._registered}:
            if client_id not in self._stopped:
                yield client_id

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def is_suspended(self, client_id: str) -> bool:
        """Whether the client was stopped: suspended, rejected or deleted. A client that nobody knows was not."""
        return client_id in self._stopped

    def is_stale(self, now: int) -> bool:
        """Whether the last refresh began in an earlier second: nobody should rely on is_suspended() any more."""
        return now > self._read_at

    async def refresh(self, *, now: int) -> None:
        """Take in what any node changed since the last call. Raises StoreUnavailable.

        Once an hour the whole is read anew, so that what the store has dropped leaves memory.
        """
        async with self._refreshing:  # an answer that is older must not be taken in after a newer one
            await self._refresh(now)

    async def be_current(self, *, now: int) -> None:
        """Refresh where that is late, once for all who wait for it. Raises StoreUnavailable."""
        async with self._refreshing:
            if self.is_stale(now):
                await self._refresh(now)

    async def _refresh(self, now: int) -> None:
        whole = now >= self._reload_at
        newest, changed = await self._store.registrations_since(0 if whole else self._sequence)
        if whole:
            self._registered, self._stopped = {}, set()
            self._reload_at = now + _RELOAD_SECONDS
        for registration in changed:
            self._take(registration)
        if changed or whole:
            self.generation += 1
        self._sequence = max(newest, self._sequence)
        self._read_at = now

    def _take(self, registration: Registration) -> None:
        client_id = registration.client_id
        self._registered.pop(client_id, None)
        self._stopped.discard(client_id)
        if registration.status in _STOPPED:
            self._stopped.add(client_id)
        elif registration.status is RegistrationStatus.APPROVED and not registration.configured:
            try:
                self._registered[client_id] = client_of(registration, self._settings)
            except OAuthError as error:
                # What was right when it was approved, and is not by today's configuration, is not in force.
                _log.error(
                    "an approved client is not in force: its registration is not acceptable any more",
                    extra={"client_id": client_id, "cause": error.description},
                )


def rules_of(
    settings: AuthorizationSettings,
    profile: ProfileName,
    *,
    scope_ceiling: tuple[str, ...] | None = None,
    stated: Mapping[str, object] | None = None,
) -> RegistrationRules:
    """What registrations of a profile are held to at this server. Raises OAuthError for a profile that is off."""
    if profile not in settings.profiles:
        raise unacceptable("token_endpoint_auth_method", f"the profile {profile} is not switched on here")
    return RegistrationRules(
        profile=PROFILES[profile],
        certificates_accepted=settings.mtls_origin is not None,
        signing_algorithms=settings.signing_algorithms,
        id_token_algorithms=settings.id_token_algorithms,
        unbound_allowed=not settings.registration.require_dpop,
        scope_ceiling=scope_ceiling,
        stated=stated,
    )


def client_of(registration: Registration, settings: AuthorizationSettings) -> Client:
    """The client that the metadata in force describes, judged by today's rules. Raises OAuthError."""
    rules = rules_of(
        settings,
        registration.profile,
        scope_ceiling=registration.scope_ceiling,
        stated=registration.stated,
    )
    client = read_metadata(registration.metadata, rules).client(registration.client_id)
    if registration.secret_digest is None:
        return client
    former = registration.former_secret
    return replace(
        client,
        secret_digest=base64url_decode(registration.secret_digest),
        former_secret=None if former is None else base64url_decode(former),
        former_until=registration.former_until,
    )
