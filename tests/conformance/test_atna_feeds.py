"""Feeds at receivers that hold them to the letter: FHIR under conditions, RFC 5424 and 5425 over TLS, NDJSON files."""

import asyncio
import fcntl
import json
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.audit.events.codes import RECORD
from gateway.audit.events.mapping import audit_events
from gateway.audit.events.record import Recorder
from gateway.audit.feeds.destination import DestinationAway
from gateway.audit.feeds.fhir_feed import FhirFeed
from gateway.audit.feeds.file_feed import FileFeed
from gateway.audit.feeds.syslog_feed import SyslogFeed
from gateway.audit.feeds.syslog_message import framed, syslog_message
from gateway.audit_settings import FeedKind, FeedSettings
from gateway.demo.authority import Authority
from gateway.demo.world import free_port
from tests.support.balp import r4_faults

Json = dict[str, Any]
RECORDER = Recorder("https://issuer.example", "Hospital One", {"fhir": "https://issuer.example/fhir"})
SECRET = "Bearer a-token-of-the-repository"


def events(count: int, *, first: int = 1) -> list[Json]:
    """Events of that many records, one each; with a letter outside ASCII."""
    found = []
    for seq in range(first, first + count):
        said = {"seq": seq, "at": "2027-01-15T08:00:00.062Z", "event": "sign-in", "outcome": "accepted"}
        line = json.dumps({**said, "subject": "ü", "client_id": "app", "peer": "192.0.2.1"})
        found += audit_events(line.encode(), RECORDER)
    return found


@dataclass
class Repository:
    """An audit record repository: creates AuditEvents under conditions, alone or in a batch Bundle."""

    port: int = field(default_factory=free_port)
    stored: dict[str, Json] = field(default_factory=dict)  # by our id
    requests: list[tuple[str, Any]] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)
    most_entries: int = 1000
    status: int = 0  # of everything, where it is set
    waits: asyncio.Event | None = None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.json()
        self.requests.append((request.path, body))
        self.headers.append(request.headers)
        if self.waits is not None:
            await self.waits.wait()
        if self.status:
            return web.Response(status=self.status)
        assert request.method == "POST"
        assert request.content_type == "application/fhir+json"
        if request.path == "/fhir/AuditEvent":
            return web.Response(status=self.create(body, request.headers["If-None-Exist"]))
        assert request.path == "/fhir"
        assert (body["resourceType"], body["type"]) == ("Bundle", "batch")
        if len(body["entry"]) > self.most_entries:
            return web.Response(status=413)
        told = []
        for entry in body["entry"]:
            assert (entry["request"]["method"], entry["request"]["url"]) == ("POST", "AuditEvent")
            status = self.create(entry["resource"], entry["request"]["ifNoneExist"])
            told.append({"response": {"status": f"{status} said"}})
        return web.json_response({"resourceType": "Bundle", "type": "batch-response", "entry": told})

    def create(self, event: Json, condition: str) -> int:
        assert r4_faults(event) == []
        assert condition == f"_tag={RECORD}|{event['id']}"
        if event["id"] in self.refuses:
            return 422
        is_there = event["id"] in self.stored
        self.stored.setdefault(event["id"], event)
        return 200 if is_there else 201


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority.new("Audit CA")
    (tmp_path / "ca.pem").write_bytes(made.pem)
    made.issue(tmp_path / "server.pem", tmp_path / "server.key", "localhost", server=True)
    made.issue(tmp_path / "own.pem", tmp_path / "own.key", "gateway.example", server=False)
    return made


def server_context(folder: Path) -> ssl.SSLContext:
    """A server that wants a certificate of ours."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture
async def repository() -> AsyncIterator[Repository]:
    found = Repository()
    runner = web.ServerRunner(web.Server(found.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", found.port).start()
    yield found
    if found.waits is not None:
        found.waits.set()
    await runner.cleanup()


@pytest.fixture
async def feed(repository: Repository) -> AsyncIterator[FhirFeed]:
    made = FhirFeed(
        FeedSettings(
            "repository",
            FeedKind.FHIR,
            f"http://127.0.0.1:{repository.port}/fhir",
            authorization=SECRET,
            timeout=0.5,
        )
    )
    yield made
    await made.close()


# ITI-20 by REST


async def test_several_events_are_one_batch_and_one_is_a_create(
    repository: Repository, feed: FhirFeed
) -> None:
    assert (await feed.deliver(events(5))).refused == {}
    assert (await feed.deliver(events(1, first=6))).refused == {}
    assert [path for path, _ in repository.requests] == ["/fhir", "/fhir/AuditEvent"]
    assert len(repository.stored) == 6
    assert {each["Authorization"] for each in repository.headers} == {SECRET}


async def test_what_comes_twice_is_stored_once(repository: Repository, feed: FhirFeed) -> None:
    for _ in range(2):
        await feed.deliver(events(3))
        await feed.deliver(events(1))
    assert len(repository.stored) == 3


async def test_one_that_is_refused_is_named_and_the_others_are_stored(
    repository: Repository, feed: FhirFeed
) -> None:
    sent = events(4)
    repository.refuses = {sent[2]["id"]}
    assert (await feed.deliver(sent)).refused == {sent[2]["id"]: "status 422"}
    assert len(repository.stored) == 3


async def test_a_Bundle_that_is_too_large_is_halved(repository: Repository, feed: FhirFeed) -> None:
    repository.most_entries = 3
    assert (await feed.deliver(events(10))).refused == {}
    assert len(repository.stored) == 10


@pytest.mark.parametrize("status", [301, 401, 403, 429, 500, 503])
async def test_an_answer_that_is_not_about_the_content_is_a_destination_that_is_away(
    repository: Repository, feed: FhirFeed, status: int
) -> None:
    repository.status = status
    for count in (1, 3):
        with pytest.raises(DestinationAway, match=str(status)):
            await feed.deliver(events(count))
    assert repository.stored == {}


async def test_a_repository_that_does_not_answer_is_away_after_the_timeout(
    repository: Repository, feed: FhirFeed
) -> None:
    repository.waits = asyncio.Event()
    with pytest.raises(DestinationAway):
        await feed.deliver(events(2))


async def test_nobody_there_is_away_and_the_text_names_no_address() -> None:
    nobody = FhirFeed(FeedSettings("x", FeedKind.FHIR, f"http://127.0.0.1:{free_port()}/fhir"))
    with pytest.raises(DestinationAway) as caught:
        await nobody.deliver(events(1))
    assert "127.0.0.1" not in str(caught.value)
    await nobody.close()


async def test_mutual_TLS_shows_our_certificate_and_takes_no_other_server(
    tmp_path: Path, authority: Authority
) -> None:
    found = Repository()
    runner = web.ServerRunner(web.Server(found.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", found.port, ssl_context=server_context(tmp_path)).start()
    url = f"https://localhost:{found.port}/fhir"
    own = {"certificate": tmp_path / "own.pem", "key": tmp_path / "own.key"}
    trusted = FhirFeed(
        FeedSettings("x", FeedKind.FHIR, url, authorities=tmp_path / "ca.pem", timeout=3, **own)
    )
    strangers = FhirFeed(FeedSettings("x", FeedKind.FHIR, url, timeout=3, **own))
    without = FhirFeed(FeedSettings("x", FeedKind.FHIR, url, authorities=tmp_path / "ca.pem", timeout=3))
    await trusted.deliver(events(2))
    for each in (strangers, without):
        with pytest.raises(DestinationAway):
            await each.deliver(events(2))
    for each in (trusted, strangers, without):
        await each.close()
    await runner.cleanup()
    assert len(found.requests) == 1


# ITI-20 by syslog

_HEADER = re.compile(
    r"<(?P<pri>\d{1,3})>1 (?P<at>\S+) (?P<host>[\x21-\x7e]{1,255}) (?P<app>[\x21-\x7e]{1,48})"
    r" (?P<process>[\x21-\x7e]{1,128}) (?P<id>[\x21-\x7e]{1,32}) - (?P<said>.*)",
    re.DOTALL,
)


def parsed(message: bytes) -> tuple[dict[str, str], Json]:
    """A message by the grammar of RFC 5424 6."""
    match = _HEADER.fullmatch(message.decode("ascii"))
    assert match is not None, message[:200]
    assert datetime.fromisoformat(match["at"]).tzinfo is not None
    assert len(match["at"].partition(".")[2].rstrip("Z")) <= 6  # RFC 5424 6.2.3
    return match.groupdict(), json.loads(match["said"])


def test_a_message_is_RFC_5424_with_the_priority_of_ITI_20_and_ASCII_alone() -> None:
    [event] = events(1)
    said, value = parsed(syslog_message(event, host="issuer.example"))
    assert (said["pri"], said["host"], said["app"], said["process"]) == (
        "85",
        "issuer.example",
        "securus",
        "-",
    )
    assert value == event
    assert framed(b"abc") == b"3 abc"


def test_what_another_process_delivers_again_is_the_same_message_to_the_last_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Syslog acknowledges nothing, so a receiver tells by the message, or by the id in it, that it has it already."""
    first = [syslog_message(event, host="issuer.example") for event in events(3)]
    monkeypatch.setattr("os.getpid", lambda: 4711)
    again = [syslog_message(event, host="issuer.example") for event in events(3)]
    assert again == first
    ids = {parsed(message)[1]["id"] for message in first}
    assert len(ids) == 3


class Receiver:
    """A syslog receiver over a stream that counts octets (RFC 5425 4.3)."""

    def __init__(self, *, hangs_up_after: int | None = None) -> None:
        self.port = free_port()
        self.messages: list[bytes] = []
        self.hangs_up_after = hangs_up_after
        self.connections = 0
        self._server: asyncio.Server | None = None

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port, ssl=context)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        taken = 0
        try:
            while length := await reader.readuntil(b" "):
                assert re.fullmatch(rb"[1-9]\d*", length[:-1])
                self.messages.append(await reader.readexactly(int(length)))
                taken += 1
                if self.hangs_up_after is not None and taken >= self.hangs_up_after:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def until(receiver: Receiver, count: int) -> None:
    async with asyncio.timeout(5):
        while len(receiver.messages) < count:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("is_tls", [True, False])
async def test_messages_arrive_whole_and_in_order_on_one_connection(
    tmp_path: Path, authority: Authority, is_tls: bool
) -> None:
    receiver = Receiver()
    await receiver.start(server_context(tmp_path) if is_tls else None)
    settings = FeedSettings(
        "syslog",
        FeedKind.SYSLOG,
        f"{'tls' if is_tls else 'tcp'}://localhost:{receiver.port}",
        authorities=tmp_path / "ca.pem",
        certificate=tmp_path / "own.pem",
        key=tmp_path / "own.key",
        timeout=3,
    )
    feed = SyslogFeed(settings, "issuer.example")
    sent = events(7)
    await feed.deliver(sent[:4])
    await feed.deliver(sent[4:])
    await until(receiver, 7)
    assert [parsed(message)[1] for message in receiver.messages] == sent
    assert receiver.connections == 1
    await feed.close()
    await receiver.stop()


async def test_a_receiver_that_hangs_up_is_away_and_the_delivery_comes_again(tmp_path: Path) -> None:
    receiver = Receiver(hangs_up_after=2)
    await receiver.start()
    feed = SyslogFeed(
        FeedSettings("syslog", FeedKind.SYSLOG, f"tcp://127.0.0.1:{receiver.port}", timeout=3),
        "issuer.example",
    )
    with pytest.raises(DestinationAway):
        await feed.deliver(events(3))
    receiver.hangs_up_after = None
    await feed.deliver(events(3))
    await until(receiver, 5)
    assert len({message for message in receiver.messages}) == 3
    await feed.close()
    await receiver.stop()
    with pytest.raises(DestinationAway):
        await feed.deliver(events(1))


async def test_a_receiver_that_nobody_vouches_for_gets_nothing(tmp_path: Path, authority: Authority) -> None:
    receiver = Receiver()
    await receiver.start(server_context(tmp_path))
    feed = SyslogFeed(
        FeedSettings("syslog", FeedKind.SYSLOG, f"tls://localhost:{receiver.port}", timeout=3),
        "issuer.example",
    )
    with pytest.raises(DestinationAway):
        await feed.deliver(events(1))
    assert receiver.messages == []
    await receiver.stop()


async def test_a_datagram_holds_one_message_and_what_is_longer_is_refused() -> None:
    class Protocol(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.messages: list[bytes] = []

        def datagram_received(self, data: bytes, addr: object) -> None:
            self.messages.append(data)

    port = free_port()
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Protocol, ("127.0.0.1", port))
    feed = SyslogFeed(FeedSettings("syslog", FeedKind.SYSLOG, f"udp://127.0.0.1:{port}"), "issuer.example")
    sent = events(2)
    sent[1]["agent"][0]["name"] = "x" * 70_000
    assert (await feed.deliver(sent)).refused == {sent[1]["id"]: "it is longer than a datagram"}
    async with asyncio.timeout(5):
        while not protocol.messages:
            await asyncio.sleep(0.01)
    assert parsed(protocol.messages[0])[1] == sent[0]
    transport.close()


# A file


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


async def test_a_file_is_put_aside_when_it_is_full_and_so_many_stay(tmp_path: Path) -> None:
    path = tmp_path / "feed" / "events.ndjson"
    feed = FileFeed(FeedSettings("file", FeedKind.FILE, path=path, max_size=100, kept=2))
    sent = [event["id"] for event in events(5)]
    for event in events(5):
        await feed.deliver([event])
    files = sorted(each.name for each in path.parent.iterdir())
    assert files == ["events.ndjson", "events.ndjson.1", "events.ndjson.2"]
    newest = [ids(path.with_name(name)) for name in files]
    assert newest == [[sent[4]], [sent[3]], [sent[2]]]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_line_that_a_crash_tore_is_cut_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    feed = FileFeed(FeedSettings("file", FeedKind.FILE, path=path))
    await feed.deliver(events(1))
    whole = path.read_bytes()
    for torn in (b'{"resourceType":"Audit', b'{"x":"' + b"y" * 200_000):
        path.write_bytes(whole + torn)
        await feed.deliver(events(1, first=2))
        assert ids(path) == [event["id"] for event in events(2)]
    path.write_bytes(b"torn from the beginning")
    await feed.deliver(events(1))
    assert ids(path) == [events(1)[0]["id"]]


async def test_a_file_that_another_process_writes_to_at_this_moment_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    feed = FileFeed(FeedSettings("file", FeedKind.FILE, path=path))
    await feed.deliver(events(1))
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DestinationAway):
            await feed.deliver(events(1, first=2))
    assert len(ids(path)) == 1
    await feed.deliver(events(1, first=2))
    assert len(ids(path)) == 2


async def test_a_file_that_cannot_be_written_is_a_destination_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    feed = FileFeed(FeedSettings("file", FeedKind.FILE, path=tmp_path / "folder"))
    with pytest.raises(DestinationAway):
        await feed.deliver(events(1))
