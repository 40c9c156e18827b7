"""ITI-20 by REST at FHIR servers that we did not write: events arrive, alone and in Bundles, and twice is once."""

import http.client
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.events.mapping import audit_events
from gateway.audit.events.record import Recorder
from gateway.audit.feeds.fhir_feed import FhirFeed
from gateway.audit_settings import FeedKind, FeedSettings
from tests.support.engines import Engine, running_engine

pytestmark = [pytest.mark.asyncio, pytest.mark.process]
RECORDER = Recorder("https://issuer.example", "Hospital One", {"fhir": "https://issuer.example/fhir"})


def events(count: int) -> list[dict[str, Any]]:
    said = {
        "at": "2027-01-15T08:00:00.062Z",
        "event": "sign-in",
        "outcome": "accepted",
        "subject": "s",
        "peer": "::1",
    }
    found = []
    for number in range(1, count + 1):
        found += audit_events(json.dumps({**said, "seq": number}).encode(), RECORDER)
    return found


def stored(engine: Engine) -> list[dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=30)
    connection.request("GET", f"{engine.base.partition(str(engine.port))[2]}/AuditEvent?_count=100")
    bundle = json.loads(connection.getresponse().read())
    connection.close()
    return [entry["resource"] for entry in bundle.get("entry", [])]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.xdist_group(name), id=name) for name in ("medplum", "hapi")]
)
async def test_events_arrive_once_however_often_they_are_sent(tmp_path: Path, name: str) -> None:
    with running_engine(name, tmp_path / "log") as engine:
        feed = FhirFeed(FeedSettings("repository", FeedKind.FHIR, engine.base, timeout=30))
        sent = events(6)
        assert (await feed.deliver(sent[:5])).refused == {}
        assert (await feed.deliver(sent[5:])).refused == {}
        assert (await feed.deliver(sent)).refused == {}
        await feed.close()
        found = stored(engine)
    tags = [tag["code"] for each in found for tag in each["meta"]["tag"]]
    assert sorted(tags) == sorted(event["id"] for event in sent)
