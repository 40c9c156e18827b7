"""The public keys of clients: by value, or fetched from their jwks_uri and kept (RFC 7591 2, OpenID Connect Core 10).

A key set is kept for as long as its sender says, within bounds, and fetched again before that only when it lacks the
key that is looked for, since anybody can send a token that names a key nobody has. No URL is fetched twice within the
cool-down, whatever came of the first time. When a fetch fails the last key set stays good for a day: an app's web
server may be down for a night, but a key that was taken back must not live for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from authz.clock import Clock
from authz.events import Emit, KeySetFetched
from authz.fetched import Fetched, FetchError
from authz.protocol.clients import Client
from authz.protocol.jwk import VERIFIED_ONLY, JoseError, PublicKey, import_jwks, read_key_set

COOL_DOWN_SECONDS = 60
_FRESH_SECONDS = 300  # of an answer that does not say how long it is fresh
_MIN_FRESH_SECONDS = 60
_MAX_FRESH_SECONDS = 3600
_STALE_SECONDS = 24 * 3600
_MAX_BYTES = 64 * 1024
_MEDIA_TYPES = ("application/jwk-set+json", "application/json")  # RFC 7517 8.5.1, and what most servers send
_MAX_URLS = 1000
_MAX_CLIENTS = 1000


class KeySetUnavailable(Exception):
    """The key set of a client cannot be had. The text is for the operator, not for callers."""


class Fetch(Protocol):
    """The guarded GET: authz.fetch.Fetcher.get."""

    def __call__(self, url: str, *, media_types: tuple[str, ...], max_bytes: int) -> Awaitable[Fetched]:
        """The body at a URL. Raises FetchError."""
        ...


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of a client: as they are registered or published, and those of them that verify signatures.

    What a client may sign with is for its profile to say: whoever verifies names the algorithms.
    """

    jwks: tuple[Mapping[str, object], ...]
    keys: tuple[PublicKey, ...]


@dataclass(slots=True)
class _Kept:
    """What is known of one URL."""

    found: KeySet | None = None
    fetched_at: int = 0
    fresh_until: int = 0
    tried_at: int | None = None
    problem: str = "it was not fetched yet"


class ClientKeys:
    """Gives clients' keys. Without fetch, key sets by URL are not to be had."""

    def __init__(self, fetch: Fetch | None, clock: Clock, emit: Emit) -> None:
        self._fetch = fetch
        self._clock = clock
        self._emit = emit
        self._by_value: dict[str, tuple[Client, KeySet]] = {}
        self._kept: dict[str, _Kept] = {}  # the longest unused first
        self._flights: dict[str, asyncio.Task[None]] = {}

    async def of(self, client: Client, *, holds: Callable[[KeySet], bool]) -> KeySet:
        """The client's keys. A set by URL that does not hold what is looked for may be fetched again.

        Raises KeySetUnavailable when a set by URL cannot be had and none from the last 24 h is kept.
        """
        if client.jwks_uri is None:
            return self._registered(client)
        url, now = client.jwks_uri, self._clock()
        kept = self._kept[url] = self._kept.pop(url, _Kept())
        self._forget()
        if kept.found is None or not kept.fetched_at <= now < kept.fresh_until or not holds(kept.found):
            await self._again(url, kept, now)
        if kept.found is None or now - kept.fetched_at >= _STALE_SECONDS:
            raise KeySetUnavailable(f"the key set at {_shown(url)} cannot be had: {kept.problem}")
        return kept.found

    async def close(self) -> None:
        """End the fetches that are under way."""
        for flight in list(self._flights.values()):
            flight.cancel()
        await asyncio.gather(*self._flights.values(), return_exceptions=True)

    def _registered(self, client: Client) -> KeySet:
        known = self._by_value.get(client.client_id)
        if known is None or known[0] is not client:  # its registration changed
            while len(self._by_value) >= _MAX_CLIENTS:
                del self._by_value[next(iter(self._by_value))]
            known = client, KeySet(client.jwks, import_jwks(client.jwks, also=VERIFIED_ONLY))
            self._by_value[client.client_id] = known
        return known[1]

    def _forget(self) -> None:
        while len(self._kept) > _MAX_URLS:
            del self._kept[next(iter(self._kept))]

    async def _again(self, url: str, kept: _Kept, now: int) -> None:
        """Wait for the fetch that is under way, or for one that begins unless the URL cools down."""
        flight = self._flights.get(url)
        if flight is None:
            if kept.tried_at is not None and 0 <= now - kept.tried_at < COOL_DOWN_SECONDS:
                return
            kept.tried_at = now
            flight = self._flights[url] = asyncio.create_task(self._refresh(url, kept, now))
            flight.add_done_callback(lambda _: self._flights.pop(url, None))
        # A request that is given up must not end the fetch that others wait for, or the cool-down would be for nothing.
        await asyncio.shield(flight)

    async def _refresh(self, url: str, kept: _Kept, now: int) -> None:
        outcome, changed = "fetched", False
        try:
            if self._fetch is None:
                raise FetchError("refused", "this server fetches nothing")
            fetched = await self._fetch(url, media_types=_MEDIA_TYPES, max_bytes=_MAX_BYTES)
            jwks = read_key_set(fetched.body)
        except (FetchError, JoseError) as error:
            outcome = error.outcome if isinstance(error, FetchError) else "not-keys"
            kept.problem = str(error)
        else:
            changed = kept.found is None or kept.found.jwks != jwks
            if changed:
                kept.found = KeySet(jwks, import_jwks(jwks, also=VERIFIED_ONLY))
            fresh = _FRESH_SECONDS if fetched.max_age_seconds is None else fetched.max_age_seconds
            kept.fetched_at = now
            kept.fresh_until = now + min(max(fresh, _MIN_FRESH_SECONDS), _MAX_FRESH_SECONDS)
            kept.problem = ""
        self._emit(KeySetFetched(_shown(url), outcome, changed, kept.problem))


def _shown(url: str) -> str:
    """The URL without its query, in which a secret may stand."""
    return url.partition("?")[0]
