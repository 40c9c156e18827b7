"""ITI-20 by syslog: over TLS with octet counting (RFC 5425); to loopback in clear, too, by TCP or UDP.

Syslog acknowledges nothing. A delivery counts once all of it was handed to the connection and the other side has not
closed it for a moment after; what a receiver loses behind that is not known to anybody. The FHIR feed has answers.
"""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from gateway.audit.events.codes import Json
from gateway.audit.feeds.destination import DestinationAway, Taken, tls_context
from gateway.audit.feeds.syslog_message import framed, syslog_message
from gateway.audit_settings import FeedSettings

_WRITTEN_IN_ONE_TURN = 16
_LISTEN_SECONDS = 0.1  # for a receiver that hangs up on what it was sent
_LONGEST_DATAGRAM = 65_000
_TOO_LONG = "it is longer than a datagram"


class SyslogFeed:
    """A syslog receiver."""

    def __init__(self, settings: FeedSettings, host: str) -> None:
        self._settings = settings
        self._host = host
        self._address = urlsplit(settings.url)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def deliver(self, events: Sequence[Json]) -> Taken:
        """Deliver a message an event."""
        messages: dict[str, bytes] = {}
        for event in events:
            messages[str(event["id"])] = syslog_message(event, host=self._host)
            if len(messages) % _WRITTEN_IN_ONE_TURN == 0:
                await asyncio.sleep(0)  # requests come first
        if self._address.scheme == "udp":
            return await asyncio.to_thread(self._by_datagram, messages)
        try:
            async with asyncio.timeout(self._settings.timeout):
                reader, writer = await self._connected()
                for message in messages.values():
                    writer.write(framed(message))
                    await writer.drain()
                await self._still_there(reader)
        except (OSError, TimeoutError, EOFError) as error:
            await self.close()
            raise DestinationAway(type(error).__name__) from error
        return Taken()

    async def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            with suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 1)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            secure = self._address.scheme == "tls"
            context = await asyncio.to_thread(tls_context, self._settings) if secure else None
            host, port = self._address.hostname or "", self._address.port or 6514
            self._streams = await asyncio.open_connection(host, port, ssl=context)
        return self._streams

    async def _still_there(self, reader: asyncio.StreamReader) -> None:
        """Raise EOFError where the other side hung up; what it says is not looked at."""
        try:
            async with asyncio.timeout(_LISTEN_SECONDS):
                while await reader.read(4096):
                    pass
        except TimeoutError:
            return
        raise EOFError

    def _by_datagram(self, messages: dict[str, bytes]) -> Taken:
        refused: dict[str, str] = {}
        try:
            family = socket.AF_INET6 if ":" in (self._address.hostname or "") else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                for id, message in messages.items():
                    if len(message) > _LONGEST_DATAGRAM:
                        refused[id] = _TOO_LONG
                        continue
                    sender.sendto(message, (self._address.hostname or "", self._address.port or 514))
        except OSError as error:
            raise DestinationAway(type(error).__name__) from error
        return Taken(refused)
