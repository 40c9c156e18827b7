"""The clients that may act now, as one live mapping: those of gateway.yaml and the approved ones of the registry.

In memory on every node, read from the store by the sequence of changes. Doors look a client up at each request, so a
client that was suspended is gone for all of them at once.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from authz.kept_current import KeptCurrent
from authz.protocol.client_members import unacceptable
from authz.protocol.client_metadata import RegistrationRules, read_metadata
from authz.protocol.client_profiles import PROFILES
from authz.protocol.clients import AuthenticationMethod, Client, ProfileName
from authz.protocol.encoding import base64url_decode
from authz.protocol.errors import OAuthError
from authz.protocol.origins import origins_of
from authz.registered import Registered
from authz.settings import AuthorizationSettings
from authz.storage.records import decode
from authz.storage.registrations import Registration
from authz.storage.store import Store

_SELF_SIGNED = AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH
_PAGE = 500  # rows: ten milliseconds
_MOST_JUDGED = 10_000
_JUDGED_IN_ONE_TURN = 50
_log = logging.getLogger("securus.clients")


class ClientDirectory(KeptCurrent, Mapping[str, Client]):
    """client_id → client, for every client that may act. configured is looked into anew each time.

    Of a registered client the record is kept; it is judged when somebody first looks it up, and what came of that for
    so many clients as are at work. A hundred thousand may be registered, and most of them are silent.

    generation  grows whenever with_own_certificates() may have changed
    """

    def __init__(
        self, store: Store, configured: Mapping[str, Client], settings: AuthorizationSettings
    ) -> None:
        super().__init__()
        self._store = store
        self._configured = configured
        self._settings = settings
        self._registered = Registered()
        self._judged: dict[str, Client | None] = {}  # the longest judged first; None is not in force
        self._pages: dict[str, set[str]] | None = None
        self._sequence = 0
        self._anew: _Anew | None = None
        self._is_filled = False
        self.generation = 0

    def __getitem__(self, client_id: str) -> Client:
        if client_id in self._registered.stopped:
            raise KeyError(client_id)
        # A configured client is never replaced by a registered one.
        found = self._configured.get(client_id) or self._judge(client_id)
        if found is None:
            raise KeyError(client_id)
        return found

    async def everyone(self) -> list[Client]:
        """Every client, for a report: each is judged, which takes a while, and requests are answered meanwhile."""
        found = []
        for number, client_id in enumerate([*self._configured, *self._registered.records]):
            if number % _JUDGED_IN_ONE_TURN == 0:
                await asyncio.sleep(0)
            client = self.get(client_id)
            if client is not None:
                found.append(client)
        return found

    def __iter__(self) -> Iterator[str]:
        """Every one of them is judged at once: for tests and small registries."""
        for client_id in {**self._configured, **self._registered.records}:
            if client_id in self:
                yield client_id

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def is_suspended(self, client_id: str) -> bool:
        """Whether the client was stopped: suspended, rejected or deleted. A client that nobody knows was not."""
        return client_id in self._registered.stopped

    def has_page(self, origin: str) -> bool:
        """Whether this is the origin of the pages of a client (SMART App Launch 2.2 @17)."""
        if origin in self._registered.origins:
            return True
        if self._pages is None:  # those of gateway.yaml stay as they are
            self._pages = {}
            for client in self._configured.values():
                for page in origins_of(client):
                    self._pages.setdefault(page, set()).add(client.client_id)
        return not self._pages.get(origin, set()) <= self._registered.stopped

    def with_own_certificates(self) -> list[Client]:
        """The clients that authenticate by a certificate which they signed themselves (RFC 8705 2.2)."""
        names = [*self._configured, *self._registered.self_signed]
        found = [client for name in dict.fromkeys(names) if (client := self.get(name)) is not None]
        return [client for client in found if client.authentication_method is _SELF_SIGNED]

    def _judge(self, client_id: str) -> Client | None:
        if client_id in self._judged:
            return self._judged[client_id]
        record = self._registered.records.get(client_id)
        if record is None:
            return None
        found = None
        try:
            found = client_of(decode(record, Registration), self._settings)
        except OAuthError as error:
            # What was right when it was approved, and is not by today's configuration, is not in force.
            _log.error(
                "an approved client is not in force: its registration is not acceptable any more",
                extra={"client_id": client_id, "cause": error.description},
            )
        while len(self._judged) >= _MOST_JUDGED:
            del self._judged[next(iter(self._judged))]
        self._judged[client_id] = found
        return found

    async def _read(self, *, whole: bool) -> None:
        """Take in what is new. The whole is read in pages beside it, one each time, so that nobody waits for it."""
        if whole and self._is_filled:
            self._anew = _Anew()
        while True:
            newest, changed = await self._store.registrations_since(self._sequence, at_most=_PAGE)
            for registration in changed:
                self._take(registration)
            self._sequence = max(newest, self._sequence)
            if len(changed) < _PAGE:
                break
            await asyncio.sleep(0)
        self._is_filled = True
        if self._anew is not None:
            await self._read_anew(self._anew)

    async def _read_anew(self, anew: "_Anew") -> None:
        newest, found = await self._store.registrations_since(anew.sequence, at_most=_PAGE)
        for registration in found:
            anew.registered.take(registration)
        anew.sequence = max(newest, anew.sequence)
        if len(found) == _PAGE:
            return
        before, after = self._registered.records, anew.registered.records
        for client_id in [name for name in self._judged if before.get(name) != after.get(name)]:
            del self._judged[client_id]
        self._registered, self._anew = anew.registered, None
        self._sequence = max(anew.sequence, self._sequence)
        self.generation += 1

    def _take(self, registration: Registration) -> None:
        client_id, by_certificate = registration.client_id, self._registered.self_signed
        was = client_id in by_certificate
        self._registered.take(registration)
        self._judged.pop(client_id, None)
        self.generation += was or registration.configured or client_id in by_certificate


@dataclass(slots=True)
class _Anew:
    """The whole, as far as it is read."""

    sequence: int = 0
    registered: Registered = field(default_factory=Registered)


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
