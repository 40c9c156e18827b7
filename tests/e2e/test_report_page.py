"""The conformance report of a running server, at its operations listener, and what a failure does to /readyz."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from authz.settings import Account
from authz.storage.store import StoreUnavailable
from tests.support.gateway import RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("report")]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    gateway = await start_gateway(tmp_path)
    yield gateway
    await stop_gateway(gateway)


async def ask(running: RunningGateway, path: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of GET path at the operations listener."""
    url = f"http://127.0.0.1:{running.operations_port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        headers = {name.lower(): value for name, value in response.headers.items()}
        return response.status, headers, await response.text()


async def test_the_page_is_html_without_script_under_a_strict_policy(running: RunningGateway) -> None:
    status, headers, text = await ask(running, "/report")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["cache-control"] == "no-store"
    assert "<script" not in text
    assert "Conformance of https://localhost" in text


async def test_the_running_server_knows_its_own_keys(running: RunningGateway) -> None:
    status, headers, text = await ask(running, "/report?format=json")
    assert (status, headers["content-type"].partition(";")[0]) == (200, "application/json")
    rows = {row["rule"]: row for row in json.loads(text)["rows"]}
    assert rows["fapi2-5.4.1-5"]["verdict"] == rows["fapi2-5.4.3-1"]["verdict"] == "pass"


async def test_nothing_of_the_report_is_at_the_public_listener(running: RunningGateway) -> None:
    assert (await running.send("GET", "/report", [])).status == 404


async def test_a_server_that_is_not_what_it_declares_is_not_ready_and_says_why(
    running: RunningGateway,
) -> None:
    assert (await ask(running, "/readyz"))[0] == 200
    lifetimes = replace(running.gateway.settings.authorization.lifetimes, code=61)
    authorization = replace(running.gateway.settings.authorization, lifetimes=lifetimes)
    running.gateway.settings = replace(running.gateway.settings, authorization=authorization)
    await running.gateway.reload()
    status, _, text = await ask(running, "/readyz")
    assert status == 503
    (problem,) = json.loads(text)["problems"]
    assert "FAPI 2.0 Security Profile 5.3.2.1" in problem
    assert "code is 61 s" in problem


async def test_a_recommendation_that_is_not_followed_leaves_it_ready(running: RunningGateway) -> None:
    weak = Account("a", "s1", "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g", "A")
    running.gateway.settings = replace(running.gateway.settings, accounts=(weak,))
    await running.gateway.reload()
    assert (await ask(running, "/readyz"))[0] == 200


async def test_the_log_says_why_the_store_and_the_keys_do_not_answer(
    running: RunningGateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def is_full() -> None:
        raise StoreUnavailable("database or disk is full")

    monkeypatch.setattr(running.gateway.store, "check", is_full)
    monkeypatch.setattr(running.gateway.keys, "check", is_full)
    status, _, text = await ask(running, "/readyz")
    assert status == 503
    problems = ["the store does not answer", "the signing keys do not answer"]
    assert json.loads(text)["problems"] == problems
    said = [record for record in caplog.records if record.name == "securus.operations"]
    assert [(each.message, vars(each)["cause"]) for each in said] == [
        (problem, "database or disk is full") for problem in problems
    ]
