"""Two gateways that differ in one thing: at one of them reads may follow those like them, at the other none does.

Both have the same clock, policies, key of the caller and store's answers, so that whatever is asked of both must be
answered and put on record by both in the same words. Connections are kept, as clients keep them: without that no
head is like another.
"""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric

from gateway.proxy.read_precedent import ReadPrecedent
from gateway.proxy.record_forms import RecordForm
from tests.support.gateway import MOUNT, Reply, RunningGateway, parse_reply, start_gateway, stop_gateway
from tests.support.hostile_upstream import Handler

NOW = 1_900_000_000
_RANDOM = frozenset({"date", "x-fapi-interaction-id", "dpop-nonce"})
_OF_THE_LOG = ("seq", "at", "previous")
_OF_ALL_TIME = ("securus_audit_", "securus_process_")  # also of what happens beside requests
Both = Callable[[RunningGateway], Awaitable[Any]]


class Line:
    """A kept connection to a gateway."""

    def __init__(
        self, gateway: RunningGateway, *, port: int | None = None, certificate: Path | None = None
    ) -> None:
        self._gateway, self._port, self._certificate = gateway, port, certificate
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The two ends; connects where there is no connection, or none any more."""
        if self._reader is None or self._writer is None or self._reader.at_eof() or self._writer.is_closing():
            context = ssl.create_default_context(cafile=str(self._gateway.folder / "ca.pem"))
            if self._certificate is not None:
                context.load_cert_chain(str(self._certificate), str(self._certificate.with_suffix(".key")))
            self._reader, self._writer = await asyncio.open_connection(
                "localhost", self._port or self._gateway.port, ssl=context
            )
        return self._reader, self._writer

    async def ask(self, head: bytes) -> Reply:
        """The answer to a whole request; status 0 where there was none."""
        return (await self.ask_all(head, 1))[0]

    async def ask_all(self, content: bytes, count: int) -> list[Reply]:
        """So many answers to what is sent in one piece."""
        _, writer = await self.opened()
        writer.write(content)
        is_head = content.startswith(b"HEAD ")
        replies = [await asyncio.wait_for(self._reply(is_head=is_head), 5) for _ in range(count)]
        if replies[-1].status == 0 or replies[-1].header("connection") == "close":
            self.leave()
        return replies

    async def _reply(self, *, is_head: bool) -> Reply:
        reader, _ = await self.opened()
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            reply = parse_reply(head)
            if is_head or reply.status == 304:
                return reply
            length = reply.header("content-length")
            if length is not None:
                return parse_reply(head + await reader.readexactly(int(length)))
            body = b""
            while not body.endswith(b"0\r\n\r\n"):
                body += await reader.readuntil(b"\r\n")
            return parse_reply(head + body)
        except asyncio.IncompleteReadError as error:
            return parse_reply(error.partial)

    def leave(self) -> None:
        """Hang up without a word."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()


@dataclass
class Uses:
    """How often reads followed another, and how many of them to their end without leaving the usual way."""

    followed: int = 0
    shortly: int = 0


@dataclass
class Twins:
    """The two, the time at both, and what is known of the reads that followed."""

    first: RunningGateway
    plain: RunningGateway
    lines: dict[int, Line]
    uses: Uses
    now: list[int]
    ends: dict[int, int] = field(default_factory=dict)  # of the logs, as far as they were looked at
    tokens: dict[str, dict[int, str]] = field(default_factory=dict)
    nonces: dict[int, str] = field(default_factory=dict)  # those of an earlier moment, where it is kept

    @property
    def each(self) -> tuple[RunningGateway, RunningGateway]:
        """Both of them."""
        return self.first, self.plain

    def line(self, gateway: RunningGateway) -> Line:
        """The kept connection to one of them."""
        return self.lines[id(gateway)]

    async def at(self, now: int) -> None:
        """Move both clocks, and take nonces of then again."""
        self.now[0] = now
        self.nonces = {}
        for gateway in self.each:  # what they know is of then, too
            await gateway.send("GET", MOUNT + "/Patient/A", [("Authorization", "DPoP x")])

    def keep_nonces(self) -> None:
        """Use the nonces of now in all proofs that follow."""
        self.nonces = {id(gateway): gateway.nonce for gateway in self.each}

    def store_answers(self, answer: Handler | None) -> None:
        """What both stores answer from now on; None: what they have."""
        for gateway in self.each:
            gateway.upstream.answer = answer

    async def token(
        self, gateway: RunningGateway, name: str = "token", who: str = "pA-r", **claims: Any
    ) -> str:
        """The token of this name at one of them: the same words, each signed by its own."""
        known = self.tokens.setdefault(name, {})
        if id(gateway) not in known:
            known[id(gateway)] = await gateway.token(who, jti=name, **claims)
        return known[id(gateway)]

    async def head(
        self,
        gateway: RunningGateway,
        path: str,
        *,
        name: str = "token",
        who: str = "pA-r",
        headers: tuple[tuple[str, str], ...] = (),
        proof: Callable[[str, str], str] | None = None,
        mount: str = MOUNT,
        **claims: Any,
    ) -> bytes:
        """The head of a read; proof makes another proof of token and URL than the right one."""
        token = await self.token(gateway, name, who, **claims)
        url = gateway.origin + mount + path.partition("?")[0]
        kept = {"nonce": self.nonces[id(gateway)]} if self.nonces else {}
        said = gateway.proof("GET", url, token, **kept) if proof is None else proof(url, token)
        lines = [f"GET {mount}{path} HTTP/1.1", "Host: localhost", f"Authorization: DPoP {token}"]
        lines += [f"DPoP: {said}", *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    async def records(self, gateway: RunningGateway) -> list[dict[str, Any]]:
        """The records since this was asked last."""
        found = await gateway.gateway.store.audit(after=self.ends.get(id(gateway), 0), limit=100_000)
        if found:
            self.ends[id(gateway)] = found[-1].sequence
        return [json.loads(line.line) for line in found]

    async def read(self, path: str, **more: Any) -> Reply:
        """The answer to a read that both are asked; it is the same at both, and so is what they wrote down."""
        return await self.same(lambda gateway: self._read(gateway, path, **more))

    async def _read(self, gateway: RunningGateway, path: str, **more: Any) -> Reply:
        return await self.line(gateway).ask(await self.head(gateway, path, **more))

    async def same(self, ask: Both) -> Any:
        """What both answer to this; compared with headers, records, metrics and what the stores saw."""
        replies, told = [], []
        for gateway in self.each:
            await self.records(gateway)
            counted, asked = samples(gateway), len(gateway.upstream.requests)
            reply = await ask(gateway)
            replies.append(reply)
            lines = [each for each in await self.records(gateway) if each["event"] == "access"]
            seen = [(str(each), _sent(each.headers, gateway)) for each in gateway.upstream.requests[asked:]]
            told.append(
                {
                    "answers": [answered(each, gateway) for each in (reply if isinstance(reply, list) else [reply])],
                    "records": [recorded(each, gateway) for each in lines],
                    "counted": {k: v - counted.get(k, 0) for k, v in samples(gateway).items() if v != counted.get(k)},
                    "asked": seen,
                }
            )  # fmt: skip
        for what, found in told[0].items():
            assert found == told[1][what], f"{what}: {found}\nwithout precedents: {told[1][what]}"
        return replies[0]


def answered(reply: Reply | None, gateway: RunningGateway) -> object:
    """An answer without what is random in it, and without the gateway's own address."""
    if reply is None:
        return None
    fields = [(name.lower(), "" if name.lower() in _RANDOM else value) for name, value in reply.headers]
    said = json.dumps([reply.status, fields, reply.body.decode("latin-1")])
    return _neutral(said, gateway)


def recorded(record: dict[str, Any], gateway: RunningGateway) -> object:
    """A record without its place in the log."""
    kept = {name: value for name, value in record.items() if name not in _OF_THE_LOG}
    kept["interaction_id"] = len(str(kept.get("interaction_id", "")))
    return json.loads(_neutral(json.dumps(kept), gateway))


def samples(gateway: RunningGateway) -> dict[str, float]:
    """The counters, and how many observations histograms have."""
    found = {}
    metrics: list[Metric] = list(gateway.gateway.metrics.registry.collect())
    for metric in metrics:
        for sample in metric.samples:
            if sample.name.endswith(("_total", "_count")) and not sample.name.startswith(_OF_ALL_TIME):
                found[f"{sample.name}{sorted(sample.labels.items())}"] = sample.value
    return found


def _neutral(text: str, gateway: RunningGateway) -> str:
    text = text.replace(gateway.upstream.base, "http://store.example/fhir")
    for port in (gateway.port, gateway.mtls_port):
        text = text.replace(f"localhost:{port}", "gateway.example")
    return text


def _sent(headers: dict[str, str], gateway: RunningGateway) -> dict[str, str]:
    return {name: "" if name in ("host", "x-request-id") else value for name, value in headers.items()}


async def start_twins(folder: Path, patch: pytest.MonkeyPatch, **options: Any) -> Twins:
    """Two gateways with the same options."""
    now, running = [NOW], []
    for name in ("first", "plain"):
        (folder / name).mkdir()
        running.append(await start_gateway(folder / name, clock=lambda: now[0], **options))
    first, plain = running
    plain.key = first.key
    for mount in plain.gateway._mounts:
        mount.passage._precedents = None
    return Twins(first, plain, {id(each): Line(each) for each in running}, counting(patch), now)


async def stop_twins(twins: Twins) -> None:
    """Stop both."""
    for gateway in twins.each:
        await twins.line(gateway).close()
        await stop_gateway(gateway)


def counting(patch: pytest.MonkeyPatch) -> Uses:
    """A count of reads that follow others, from now on."""
    uses, answer, filled = Uses(), ReadPrecedent.answer, RecordForm.filled

    async def counted(self: ReadPrecedent, *asked: Any) -> Any:
        uses.followed += 1
        return await answer(self, *asked)

    def filling(self: RecordForm, *said: Any) -> bytes:
        uses.shortly += 1
        return filled(self, *said)

    patch.setattr(ReadPrecedent, "answer", counted)
    patch.setattr(RecordForm, "filled", filling)
    return uses
