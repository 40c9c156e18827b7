"""What the operators read of a store that fails: the mount and the step, once for each request, nothing of a caller."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.fhir.outcome import FhirError
from gateway.log_lines import JsonLines
from tests.conformance.upstream.test_upstream_pool import Gate, drop, opened
from tests.conformance.upstream.test_upstream_tls import base, secret
from tests.support.raw_store import OK, Connected, RawStore, asked

__all__ = ["secret"]
FAILS = "a store does not answer as it should"


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The lines of the client, as they stand in the log."""
    return [json.loads(JsonLines().format(r)) for r in caplog.records if r.name == "securus.upstream"]


async def told(caplog: pytest.LogCaptureFixture, store: RawStore, **changes: Any) -> str:
    """The cause in the one line of a request that failed."""
    async with opened(store, **changes) as client:
        with pytest.raises(FhirError):
            await asked(client)
        assert client.in_use == 0
    (line,) = lines(caplog)
    assert (line["level"], line["message"], line["route"]) == ("warning", FAILS, "store")
    return str(line["cause"])


async def silent(here: Connected) -> None:
    await here.gone()


async def begun(here: Connected) -> None:
    await here.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}")
    await here.gone()


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (drop, "the connection ended before an answer"),
        (silent, "the answer did not begin in time"),
        (begun, "the answer did not go on in time"),
        (OK[:-1], "the answer broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "the answer has content-length twice"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", "the bytes are not gzip"),
    ],
)  # fmt: skip
async def test_the_step_at_which_an_answer_failed_is_named(
    store: RawStore,
    caplog: pytest.LogCaptureFixture,
    answer: bytes | Callable[[Connected], Awaitable[None]],
    cause: str,
) -> None:
    async def once(here: Connected) -> None:
        await here.send(answer) if isinstance(answer, bytes) else await answer(here)
        here.end()

    store.answers = [once]
    assert await told(caplog, store, answer_timeout=0.2, idle_timeout=0.2) == cause


async def test_a_store_that_nobody_reaches_is_told_from_one_without_a_name(
    store: RawStore, caplog: pytest.LogCaptureFixture
) -> None:
    await store.stop()
    assert (await told(caplog, store)).startswith("no address of the store can be reached: [Errno 111] ")
    caplog.clear()
    cause = await told(caplog, store, base="http://nobody.invalid")
    assert cause.startswith("the name of the store has no address: [Errno -")


@pytest.mark.parametrize("secret", ["store.example"], indirect=True)
async def test_a_certificate_that_is_not_trusted_is_named(
    secret: RawStore, caplog: pytest.LogCaptureFixture
) -> None:
    cause = await told(caplog, secret, base=base(secret))
    assert "certificate verify failed: Hostname mismatch" in cause


async def test_too_few_connections_are_told_from_a_slow_store(
    store: RawStore, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    store.answers = [gate, OK]
    async with opened(store, connections=1, connect_timeout=0.05) as client:
        first = asyncio.create_task(asked(client))
        await gate.asked.acquire()
        with pytest.raises(FhirError):
            await asked(client)
        gate.through.set()
        await first
    (line,) = lines(caplog)
    assert line["cause"] == "no connection to the store became free in time"


async def test_a_request_that_cannot_be_written_is_an_error_of_ours_and_its_value_stays_out(
    store: RawStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.answers = [OK]
    async with opened(store) as client:
        with pytest.raises(FhirError):
            await client.send("GET", "Patient/A", {"accept-language": "x\r\nx-admin: 1"})
    (line,) = lines(caplog)
    assert (line["level"], line["cause"]) == ("error", "a header is not one line of text")
    assert "x-admin" not in json.dumps(line)


async def test_a_store_that_answers_is_not_in_the_log(
    store: RawStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.answers = [b"HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n", OK]
    with caplog.at_level(logging.DEBUG):
        async with opened(store) as client:
            await asked(client)
            await asked(client)
    assert lines(caplog) == []
