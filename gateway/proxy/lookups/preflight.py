"""Searches of the gateway's own at a store, by which requests are decided: small, short, and not repeated into an outage.

Nobody's request waits longer than seconds for one. A store that fails several times in a row is left alone for a
while: its answers would be refusals anyway, and asking would hold it down.
"""

import asyncio
from typing import Any

from authz.clock import Clock
from gateway.fhir import links, resource
from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy import headers
from gateway.proxy.answers.delivery import whole_resource
from gateway.proxy.upstream import UpstreamClient
from gateway.proxy.writes.stored_version import NO_CACHE, own_references

_MAX_PAGES = 50
_FAILURES = 5  # in a row, after which the store is left alone
_REST_SECONDS = 5
# The store is well and does not take this one search: who asks it again and again keeps nobody else from asking.
_OF_THE_QUESTION = frozenset({Reason.UPSTREAM_REFUSED, Reason.NOT_FOUND})


class Unavailable(Exception):
    """The store could not be asked, or did not answer as it should."""


class TooMany(Exception):
    """The answer is longer than what may be asked for."""


class Preflight:
    """Searches at one store, with the gateway's own identity. seconds bounds a search with all its pages."""

    def __init__(self, client: UpstreamClient, clock: Clock, *, seconds: float) -> None:
        self._client = client
        self._clock = clock
        self._seconds = seconds
        self._failures = 0
        self._rests_until = 0
        upstream = client.upstream
        self.bases = frozenset((*upstream.bases, upstream.base))

    async def search(self, target: str, *, at_most: int) -> list[dict[str, Any]]:
        """The resources that the store finds, matches and others; the caller holds them to what was asked.

        Raises Unavailable; TooMany for more than at_most.
        """
        if self._clock() < self._rests_until:
            raise Unavailable
        try:
            async with asyncio.timeout(self._seconds):
                found = await self._pages(target, at_most)
        except (Unavailable, FhirError, TimeoutError) as error:
            if not (isinstance(error, FhirError) and error.reason in _OF_THE_QUESTION):
                self._failures += 1
            if self._failures >= _FAILURES:
                self._rests_until = self._clock() + _REST_SECONDS
            raise Unavailable from error
        self._failures = 0
        return found

    async def _pages(self, target: str, at_most: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        next_: str | None = target
        for _ in range(_MAX_PAGES):
            bundle = await self._page(next_ or target)
            for entry in resource.objects(bundle["entry"]):
                value = entry.get("resource")
                if isinstance(value, dict):
                    own_references(value, self.bases)
                    found.append(value)
            if len(found) > at_most:
                raise TooMany
            next_ = self._next(bundle)
            if next_ is None:
                return found
        raise TooMany

    async def _page(self, target: str) -> dict[str, Any]:
        upstream = self._client.upstream
        answer = await self._client.send("GET", target, headers.of_our_own(upstream) | NO_CACHE)
        bundle = await whole_resource(answer, upstream.max_resource)
        bundle.setdefault("entry", [])
        if bundle["resourceType"] != "Bundle" or not isinstance(bundle["entry"], list):
            raise Unavailable
        return bundle

    def _next(self, bundle: dict[str, Any]) -> str | None:
        """Where the store goes on; None at the end. Raises Unavailable for a place that is not below its base."""
        for link in resource.objects(bundle.get("link")):
            if link.get("relation") == "next":
                url = link.get("url")
                target = links.below(url, self.bases) if isinstance(url, str) else None
                if not target or {".", ".."} & set(target.partition("?")[0].split("/")):
                    raise Unavailable
                return target
        return None
