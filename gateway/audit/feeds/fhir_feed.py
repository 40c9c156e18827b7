"""ITI-20 by REST: AuditEvents are created, several in a batch Bundle, each under a condition that keeps it single.

A repository gives ids of its own, so the condition looks for the tag that our id stands in: what was delivered before,
and not noted by us, is found and not made again.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec

from gateway.audit.events.codes import RECORD, Json
from gateway.audit.feeds.destination import DestinationAway, Taken, tls_context
from gateway.audit_settings import FeedSettings

_MEDIA_TYPE = "application/fhir+json"
_LONGEST_ANSWER = 16 * 1024 * 1024
# Refusals of one resource or of how much was sent; any other 4xx is about us, and comes to an end by the operator.
_OF_CONTENT = frozenset({400, 404, 405, 409, 413, 422})
_THERE = frozenset({200, 201, 412})  # 412: the condition finds several, so it is there more than once already
_MOST_ENTRIES = 200


class FhirFeed:
    """A FHIR server that takes AuditEvents."""

    def __init__(self, settings: FeedSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def deliver(self, events: Sequence[Json]) -> Taken:
        """Deliver them in one Bundle; halved where the whole is refused, down to the event that is to blame."""
        refused: dict[str, str] = {}
        for start in range(0, len(events), _MOST_ENTRIES):
            await self._deliver(list(events[start : start + _MOST_ENTRIES]), refused)
        return Taken(refused)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _deliver(self, events: list[Json], refused: dict[str, str]) -> None:
        if not events:
            return
        if len(events) == 1:
            status, _ = await self._post(
                "/AuditEvent", events[0], {"If-None-Exist": f"_tag={RECORD}|{events[0]['id']}"}
            )
            if status not in _THERE:
                refused[str(events[0]["id"])] = f"status {status}"
            return
        status, answer = await self._post("", _bundle(events), {})
        if status != 200:
            middle = len(events) // 2
            await self._deliver(events[:middle], refused)
            await self._deliver(events[middle:], refused)
            return
        for event, entry in zip(events, _entries(answer, len(events)), strict=True):
            response = entry.get("response")
            said = str(response.get("status", "") if isinstance(response, dict) else "")[:3]
            status = int(said) if said.isascii() and said.isdigit() else 0
            if status in _THERE:
                continue
            if status not in _OF_CONTENT:
                words = said if status else "without a status"
                raise DestinationAway(f"an entry was answered {words}")
            refused[str(event["id"])] = f"status {said}"

    async def _post(self, path: str, value: Json, headers: dict[str, str]) -> tuple[int, Any]:
        """Status and answer. Raises DestinationAway for what is no answer about the content."""
        body = msgspec.json.encode(value)
        sent = {"Content-Type": f"{_MEDIA_TYPE}; charset=utf-8", "Accept": _MEDIA_TYPE, **headers}
        if self._settings.authorization is not None:
            sent["Authorization"] = self._settings.authorization
        try:
            session = await self._opened()
            async with session.post(
                self._settings.url + path, data=body, headers=sent, allow_redirects=False
            ) as reply:
                raw = await _whole(reply.content)
                status = reply.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise DestinationAway(f"{type(error).__name__}") from error
        if status not in _THERE and status not in _OF_CONTENT:
            raise DestinationAway(f"status {status}")
        if status != 200 or path:
            return status, None
        try:
            return status, json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise DestinationAway("the answer to a Bundle is no JSON") from error

    async def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            secure = self._settings.url.startswith("https:")
            context = await asyncio.to_thread(tls_context, self._settings) if secure else None
            connector = aiohttp.TCPConnector(limit=1, ssl=True if context is None else context)
            timeout = aiohttp.ClientTimeout(total=self._settings.timeout)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session


async def _whole(content: aiohttp.StreamReader) -> bytes:
    """An answer, which comes in pieces. Raises DestinationAway for one that is longer than any."""
    found = bytearray()
    async for piece in content.iter_any():
        found += piece
        if len(found) > _LONGEST_ANSWER:
            raise DestinationAway("the answer is longer than any to a Bundle")
    return bytes(found)


def _bundle(events: Sequence[Json]) -> Json:
    """The Bundle of ITI-20 that sends several AuditEvents."""
    return {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [
            {
                "resource": event,
                "request": {
                    "method": "POST",
                    "url": "AuditEvent",
                    "ifNoneExist": f"_tag={RECORD}|{event['id']}",
                },
            }
            for event in events
        ],
    }


def _entries(answer: Any, wanted: int) -> list[Json]:
    """The entries of the answer, one for each of ours. Raises DestinationAway."""
    found = answer.get("entry") if isinstance(answer, dict) else None
    if not isinstance(found, list) or len(found) != wanted or not all(isinstance(e, dict) for e in found):
        raise DestinationAway("the answer to a Bundle does not have an entry for each of ours")
    return found
