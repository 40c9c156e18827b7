"""The reads of the attack table once more, each behind a read that it is like: answer and record are those of the first."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.fhir.search import OPENABLE
from gateway.settings import UpstreamProfile
from tests.attacks.table import ROWS
from tests.attacks.table.play import check_no_marker
from tests.attacks.table.rows import Row
from tests.attacks.table.worlds import CALLERS, DEFINITIONS, POLICIES, wide_world
from tests.support import hostile_upstream
from tests.support.gateway import MOUNT, PRINCIPALS, Reply, RunningGateway, start_gateway, stop_gateway
from tests.support.twins import Line, Uses, answered, counting, recorded

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attack-table-followed")]
IS_ONE = re.compile(r"/[A-Z][A-Za-z]+/[^?$]*")
READS = [
    row for row in ROWS if row.ask.method == "GET" and IS_ONE.fullmatch(row.ask.place) and not row.ask.body
]
WORLDS = sorted({row.world for row in READS})


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=WORLDS)
async def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[str, RunningGateway, Uses]]:
    folder = tmp_path_factory.mktemp(request.param)
    policies = folder / "policies"
    policies.mkdir()
    (policies / "00-definitions.yaml").write_text(DEFINITIONS)
    (policies / f"{request.param}.yaml").write_text(POLICIES[request.param])
    PRINCIPALS.update(CALLERS)
    with pytest.MonkeyPatch.context() as patch:
        uses = counting(patch)
        patch.setattr(hostile_upstream, "_json", compact)
        running = await start_gateway(
            folder, policies=policies, profile=UpstreamProfile(opened_parameters=OPENABLE)
        )
        running.upstream.made = wide_world
        yield request.param, running, uses
        await stop_gateway(running)


def compact(value: Any, headers: dict[str, str] | None = None, status: int = 200) -> web.Response:
    """JSON as most stores write it: with spaces in it no read would go the short way."""
    said = {"Content-Type": "application/fhir+json; charset=utf-8", "Server": "upstream-product/1.0"}
    content = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return web.Response(status=status, body=content, headers={**said, **(headers or {})})


async def ask(
    gateway: RunningGateway, line: Line, row: Row, token: str, place: str
) -> tuple[Reply, list[Any]]:
    """The answer to the row's request at a place, with the records of it. The connection is kept."""
    target = MOUNT + place
    headers = [(name, value.replace("{origin}", gateway.origin)) for name, value in row.ask.headers]
    if row.ask.who is not None:
        proof = gateway.proof("GET", gateway.origin + target.partition("?")[0].partition("#")[0], token)
        headers = [("Authorization", f"DPoP {token}"), ("DPoP", proof), *headers]
    lines = [f"GET {target} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers)]
    after = await gateway.gateway.store.audit_head()
    reply = await line.ask("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
    records = await gateway.gateway.store.audit(after=0 if after is None else after[0], limit=1000)
    found = [json.loads(each.line) for each in records]
    return reply, [recorded(each, gateway) for each in found if each["event"] == "access"]


def without_precedents(gateway: RunningGateway, line: Line) -> None:
    """Let no read follow those before from here on."""
    for face in gateway.gateway._listening._faces:
        face._front._service.likenesses._known.clear()


async def test_what_follows_a_read_like_it_is_answered_as_if_it_stood_alone(
    world: tuple[str, RunningGateway, Uses],
) -> None:
    """Behind one of each resource of its type that its caller may read, with the same token and the same headers."""
    name, gateway, uses = world
    line, behind = Line(gateway), 0
    for row in READS:
        if row.world != name:
            continue
        token = "" if row.ask.who is None else await gateway.token(row.ask.who, **row.ask.claims)
        place = row.ask.place.replace("{origin}", gateway.origin)
        told = []
        for follows in (False, True):
            gateway.upstream.reset()
            without_precedents(gateway, line)
            if follows:
                for key in [key for key in wide_world() if key.startswith(place.split("/")[1] + "/")]:
                    await ask(gateway, line, row, token, f"/{key}")
            if row.store is not None:
                row.store(gateway.upstream)
            before, asked = uses.followed, len(gateway.upstream.requests)
            for _ in range(2 if follows else 1):
                reply, records = await ask(gateway, line, row, token, place)
                seen = [str(each) for each in gateway.upstream.requests[asked:]]
                asked = len(gateway.upstream.requests)
                told.append((answered(reply, gateway), records, seen))
                if not row.sees:
                    check_no_marker(reply)
            behind += uses.followed - before
            assert follows or uses.followed == before
        assert told[0] == told[1] == told[2], row.id
    await line.close()
    assert behind >= LEAST[name]


LEAST = dict.fromkeys(WORLDS, 0) | {"main": 100, "views": 5}
"""So many of them do follow another in each world."""
