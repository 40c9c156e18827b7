"""The clients that may act now, as one live mapping: those of gateway.yaml and the approved ones of the registry.

In memory on every node, read from the store by the sequence of changes. Doors look a client up at each request, so a
client that was suspended is gone for all of them at once.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace

from authz.kept_current import KeptCurrent
from authz.protocol.client_members import unacceptable
from authz.protocol.client_metadata import RegistrationRules, read_metadata
from authz.protocol.client_profiles import PROFILES
from authz.protocol.clients import Client, ProfileName
from authz.protocol.encoding import base64url_decode
from authz.protocol.errors import OAuthError
from authz.settings import AuthorizationSettings
from authz.storage.registrations import Registration, RegistrationStatus
from authz.storage.store import Store

_STOPPED = frozenset({RegistrationStatus.SUSPENDED, RegistrationStatus.REJECTED, RegistrationStatus.DELETED})
_log = logging.getLogger("securus.clients")


class ClientDirectory(KeptCurrent, Mapping[str, Client]):
    """client_id → client, for every client that may act. configured is looked into anew each time.

    generation  grows whenever what the registry says has changed
    """

    def __init__(
        self, store: Store, configured: Mapping[str, Client], settings: AuthorizationSettings
    ) -> None:
        super().__init__()
        self._store = store
        self._configured = configured
        self._settings = settings
        self._registered: dict[str, Client] = {}
        self._stopped: set[str] = set()
        self._sequence = 0
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

    async def _read(self, *, whole: bool) -> None:
        newest, changed = await self._store.registrations_since(0 if whole else self._sequence)
        if whole:
            self._registered, self._stopped = {}, set()
        for registration in changed:
            self._take(registration)
        if changed or whole:
            self.generation += 1
        self._sequence = max(newest, self._sequence)

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
