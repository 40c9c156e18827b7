"""The leak bank played against the hostile store, with the five assertions that every attack makes."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.attacks.leak_bank import BUNDLES, ROWS
from tests.attacks.leak_bank.world import DEFINITIONS, LAB_TEXT, POLICY, TOKENS, bank_world
from tests.attacks.table.play import check_no_marker, check_no_store, check_sent, check_twin, play, send
from tests.attacks.table.rows import Row
from tests.attacks.table.stores import pages
from tests.support.gateway import MOUNT, PRINCIPALS, RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("leak-bank")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("leak-bank")
    policies = folder / "policies"
    policies.mkdir()
    (policies / "00-definitions.yaml").write_text(DEFINITIONS)
    (policies / "10-leak-bank.yaml").write_text(POLICY)
    running = await start_gateway(folder, policies=policies)
    running.upstream.made = bank_world
    PRINCIPALS.update(TOKENS)
    yield running
    await stop_gateway(running)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
async def test_question(gateway: RunningGateway, row: Row) -> None:
    await play(gateway, row)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in BUNDLES])
async def test_question_in_a_bundle(gateway: RunningGateway, row: Row) -> None:
    gateway.upstream.reset()
    reply = await send(gateway, row.ask)
    assert reply.status in row.status, (reply.raw[:900], [str(r) for r in gateway.upstream.requests])
    check_no_marker(reply)
    check_no_store(reply)
    check_sent(gateway, row, reply)
    if row.reason is not None:
        assert reply.reason == row.reason
    for text in row.holds:
        assert text in reply.body.decode(), reply.body[:900]
    for text in row.hides:
        assert text not in reply.body.decode(), reply.body[:900]
    await check_twin(gateway, row)


async def test_LK060_a_page_opens_for_nobody_else(gateway: RunningGateway) -> None:
    """Of another client, person or grant it is a page that never was; of a narrowed token it shows what is left."""
    gateway.upstream.reset()
    pages([bank_world()["Observation/oA-vs"]], [bank_world()["Observation/oA-lab"]])(gateway.upstream)
    found = await gateway.fhir("GET", "/Observation?_count=1", who="T2")
    place = next(link["url"] for link in found.json["link"] if link["relation"] == "next")
    path = place.removeprefix(gateway.origin + MOUNT)
    asked = len(gateway.upstream.requests)
    for claims in (
        {"scope": TOKENS["T1"]["scope"]},
        {"client_id": "another"},
        {"patient": "B"},
        {"grant_id": "another"},
        {"sub": "another"},
    ):
        reply = await gateway.fhir("GET", path, token=await gateway.token("T2", **claims))
        if claims.keys() <= {
            "scope",
            "patient",
        }:  # of the same grant: its page is judged by what this token says
            assert LAB_TEXT.encode() not in reply.raw
            assert reply.json.get("entry", []) == []
            asked = len(gateway.upstream.requests)
        else:
            assert (reply.status, reply.reason) == (404, "stale-link"), claims
    other = await gateway.fhir("GET", path, who="T1")
    assert (other.status, other.reason) == (404, "stale-link")
    assert len(gateway.upstream.requests) == asked
    gateway.upstream.reset()
    pages([bank_world()["Observation/oA-vs"]], [bank_world()["Observation/oA-lab"]])(gateway.upstream)
    own = await gateway.fhir("GET", path, who="T2")
    assert [entry["resource"]["id"] for entry in own.json["entry"]] == ["oA-lab"]
