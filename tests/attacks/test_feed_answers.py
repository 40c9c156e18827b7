"""A repository of audit records that answers badly: nothing is lost by it, and nothing taken for delivered."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from gateway.audit.events.codes import Json
from gateway.audit.events.mapping import audit_events
from gateway.audit.events.record import Recorder
from gateway.audit.feeds.destination import DestinationAway
from gateway.audit.feeds.fhir_feed import FhirFeed
from gateway.audit_settings import FeedKind, FeedSettings
from gateway.demo.world import free_port

TWO: list[Json] = [
    event
    for seq in (1, 2)
    for event in audit_events(
        json.dumps(
            {"seq": seq, "at": "2027-01-15T08:00:00.000Z", "event": "launch", "client_id": "app"}
        ).encode(),
        Recorder("https://issuer.example"),
    )
]


@dataclass
class Receiver:
    """Answers every Bundle with these pieces, one after the other."""

    port: int = field(default_factory=free_port)
    pieces: list[bytes] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        answer = web.StreamResponse(headers={"Content-Type": "application/fhir+json"})
        await answer.prepare(request)
        for piece in self.pieces:
            await answer.write(piece)
            await asyncio.sleep(0.02)
        return answer


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    runner = web.ServerRunner(web.Server(found.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", found.port).start()
    yield found
    await runner.cleanup()


@pytest.fixture
async def feed(receiver: Receiver) -> AsyncIterator[FhirFeed]:
    made = FhirFeed(
        FeedSettings("repository", FeedKind.FHIR, f"http://127.0.0.1:{receiver.port}/fhir", timeout=5)
    )
    yield made
    await made.close()


async def test_an_answer_that_comes_in_pieces_is_read_whole(receiver: Receiver, feed: FhirFeed) -> None:
    told = [{"response": {"status": status, "etag": "x" * 100}} for status in ("201", "422 no")]
    answer = json.dumps({"resourceType": "Bundle", "type": "batch-response", "entry": told}).encode()
    receiver.pieces = [answer[at : at + 60] for at in range(0, len(answer), 60)]
    taken = await feed.deliver(TWO)
    assert taken.refused == {str(TWO[1]["id"]): "status 422"}


@pytest.mark.parametrize(
    "response",
    [
        None,
        [],
        "201",
        {},
        {"status": None},
        {"status": []},
        {"status": "²01"},
        {"status": "٢٠١"},
        {"status": "ok"},
    ],
)
async def test_an_entry_that_says_nothing_that_counts_was_not_taken(
    receiver: Receiver, feed: FhirFeed, response: object
) -> None:
    told = [{"response": {"status": "201"}}, {"response": response}]
    receiver.pieces = [json.dumps({"resourceType": "Bundle", "entry": told}).encode()]
    with pytest.raises(DestinationAway):
        await feed.deliver(TWO)


@pytest.mark.parametrize(
    "answer", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null", b'{"entry":[1,2]}', b" " * (17 << 20)]
)
async def test_an_answer_that_is_none_took_nothing(receiver: Receiver, feed: FhirFeed, answer: bytes) -> None:
    receiver.pieces = [answer]
    with pytest.raises(DestinationAway):
        await feed.deliver(TWO)
