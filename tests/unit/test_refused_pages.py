"""Pages that refuse somebody: a line in the log and a number, and no record that a flood of them could fill the log with."""

import logging
from pathlib import Path

import pytest

from authz.events import PageRefused
from tests.attacks.test_overload import metrics
from tests.support.gateway import start_gateway, stop_gateway
from tests.support.officer import open_desk


async def test_pages_of_the_officer_that_refuse_are_told_and_pages_that_do_not_exist_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "securus.pages")
    async with open_desk(tmp_path) as desk:
        nurse = desk.person()
        await nurse.sign_in("nora")
        assert (await nurse.get("/officer")).status == 403
        assert (await nurse.post("/officer/search", form_token="x")).status == 403
        assert (await nurse.get("/officer/A-B-C")).status == 404
        refused = [event for event in desk.events if isinstance(event, PageRefused)]
    assert refused == [
        PageRefused("/officer", "officer.not_yours_words"),
        PageRefused("/officer/search", "officer.form_expired"),
    ]
    said = [vars(record) for record in caplog.records if record.name == "securus.pages"]
    assert [(each["cause"], each["endpoint"], each["status"]) for each in said] == [
        ("officer.not_yours_words", "/officer", 403),
        ("officer.form_expired", "/officer/search", 403),
    ]


async def test_a_page_that_refused_is_in_the_metrics_of_the_gateway_and_not_in_its_audit_log(
    tmp_path: Path,
) -> None:
    running = await start_gateway(tmp_path)
    try:
        before = await running.audit()
        for _ in range(3):
            reply = await running.send("GET", "/authorize?client_id=portal&request_uri=urn:x")
            assert (reply.status, reply.header("content-type")) == (400, "text/html; charset=utf-8")
        line = 'securus_pages_refused_total{cause="error.request_uri_foreign",page="authorize"} 3.0'
        assert line in (await metrics(running)).splitlines()
        assert await running.audit() == before
    finally:
        await stop_gateway(running)
