"""A create that holds while its criteria find nothing: what is told to whom when somebody else writes meanwhile."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from authz.storage.sqlite.store import SqliteStore, open_store
from gateway.consent_service.server import ConsentServer
from gateway.consents.consent import ConsentSource
from gateway.fhir import request
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.search import parse_terms, query_pairs
from gateway.proxy.kept_consents import LOOKED_AT
from gateway.proxy.trail import Trail
from gateway.proxy.writes.conditional_writes import to_the_keeper
from gateway.settings import ConsentSettings, Upstream
from tests.support.consent_desk import consent
from tests.support.policies import caller

BASE = "https://fhir.example"
PAPER = {"identifier": [{"system": "urn:paper", "value": "1"}]}
CRITERIA = "identifier=urn:paper|1"


async def _is_there(patient: str) -> bool:
    return True


async def _end(grant: str, who: str, why: str) -> None:
    raise AssertionError(grant)


def server_of(store: SqliteStore) -> ConsentServer:
    return ConsentServer(
        base=BASE, url=BASE, bases=frozenset({BASE}), store=store, clock=lambda: 1_800_000_000,
        is_there=_is_there, end_grant=_end,
    )  # fmt: skip


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "securus.db")
    yield opened
    await opened.close()


async def looked(server: ConsentServer) -> str:
    """The number that a search says."""
    said = await server.answer("GET", f"Consent?{CRITERIA}", {}, None, None)
    return said.headers[LOOKED_AT]


async def created(server: ConsentServer, at: str, **more: object) -> int:
    headers = {"if-none-exist": CRITERIA, LOOKED_AT: at}
    body = json.dumps(consent(**more)).encode()
    return (await server.answer("POST", "Consent", headers, body, caller())).status


async def test_what_was_looked_for_in_vain_is_made(store: SqliteStore) -> None:
    server = server_of(store)
    assert await created(server, await looked(server), **PAPER) == 201


async def test_what_the_criteria_match_since_must_be_looked_for_anew_whoever_may_see_it(
    store: SqliteStore,
) -> None:
    server = server_of(store)
    at = await looked(server)
    assert await created(server, at, patient="B", **PAPER) == 201
    assert await created(server, at, **PAPER) == 412
    # Whoever cannot find the other one makes another, as if they had come one after the other.
    assert await created(server, await looked(server), **PAPER) == 201


async def test_what_else_is_written_meanwhile_is_no_matter(store: SqliteStore) -> None:
    server = server_of(store)
    at = await looked(server)
    assert await created(server, at, identifier=[{"system": "urn:paper", "value": "2"}]) == 201
    assert await created(server, at, **PAPER) == 201


async def test_an_amendment_that_makes_another_one_match_counts(store: SqliteStore) -> None:
    server = server_of(store)
    first = await server.answer("POST", "Consent", {}, json.dumps(consent()).encode(), caller())
    made = json.loads(first.body)
    at = await looked(server)
    amended = json.dumps(made | PAPER).encode()
    headers = {"if-match": 'W/"1"'}
    put = await server.answer("PUT", f"Consent/{made['id']}", headers, amended, caller())
    assert put.status == 200
    assert await created(server, at, **PAPER) == 412


async def test_without_a_number_all_that_was_ever_written_is_looked_at(store: SqliteStore) -> None:
    server = server_of(store)
    assert await created(server, "", **PAPER) == 201
    assert await created(server, "", **PAPER) == 412


async def test_a_store_that_is_written_to_without_end_is_not_waited_for(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = server_of(store)
    at = await looked(server)

    async def always_second(version: object, *, at_number: int | None = None, **held: object) -> bool:
        return False

    monkeypatch.setattr(store, "add_consent", always_second)
    with pytest.raises(FhirError) as refused:
        await created(server, at, **PAPER)
    assert refused.value.reason is Reason.STORE_UNAVAILABLE


def test_who_may_find_nothing_makes_a_consent_as_if_under_no_condition() -> None:
    upstream = Upstream(
        "fhir", "fhir-r4", "/fhir", "http://store/fhir", BASE, frozenset({BASE}),
        consents=ConsentSettings(ConsentSource(), kept_here=True),
    )  # fmt: skip
    asked = request.parse("POST", "/Consent", "")
    terms = parse_terms(query_pairs(CRITERIA), "Consent")
    http: Any = None
    trail = Trail(http, "id", 0.0)
    assert to_the_keeper(upstream, asked, terms, trail) == {}
    trail.looked_at = "7"
    sent = to_the_keeper(upstream, asked, terms, trail)
    assert sent == {"if-none-exist": "identifier=urn%3Apaper%7C1", LOOKED_AT: "7"}
    assert to_the_keeper(upstream, asked, (), trail) == {}
    assert to_the_keeper(replace(upstream, consents=None), asked, terms, trail) == {}
