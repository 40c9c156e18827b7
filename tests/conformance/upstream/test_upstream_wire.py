"""Answers of a store as bytes (RFC 9112): which are read, which are none, and what becomes of the connection.

A byte that is read in two ways is how one caller gets another's answer: what is not whole, one and plain is refused.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy.upstream import UpstreamClient
from tests.support.raw_store import OK, Connected, RawStore, asked


def head(*lines: str, status: str = "HTTP/1.1 200 OK", body: bytes = b"") -> bytes:
    return "\r\n".join([status, *lines, "", ""]).encode("latin-1") + body


CHUNKED = "Transfer-Encoding: chunked"
READ: list[tuple[str, bytes, bytes, bool]] = [
    # what it shows, the answer, its content, whether the connection is kept
    ("length", OK, b"{}", True),
    ("no-content", head("Content-Length: 0"), b"", True),
    ("chunks", head(CHUNKED, body=b"2\r\n{}\r\n0\r\n\r\n"), b"{}", True),
    ("chunks-in-capitals", head("TRANSFER-ENCODING: Chunked", body=b"0A\r\n0123456789\r\n0\r\n\r\n"), b"0123456789", True),
    ("extensions", head(CHUNKED, body=b'2;a;b=c;d="e;\\" f"\r\n{}\r\n0;x\r\n\r\n'), b"{}", True),
    ("trailers", head(CHUNKED, body=b"2\r\n{}\r\n0\r\nETag: 9\r\nX: y\r\n\r\n"), b"{}", True),
    ("until-close", head(body=b"{}"), b"{}", False),
    ("close", head("Content-Length: 2", "Connection: close", body=b"{}"), b"{}", False),
    ("close-among-others", head("Content-Length: 2", "Connection: x, Close", body=b"{}"), b"{}", False),
    ("old", head("Content-Length: 2", status="HTTP/1.0 200 OK", body=b"{}"), b"{}", False),
    ("old-kept", head("Content-Length: 2", "Connection: Keep-Alive", status="HTTP/1.0 200 OK", body=b"{}"), b"{}", True),
    ("kept-a-second", head("Content-Length: 2", "Keep-Alive: timeout=1", body=b"{}"), b"{}", False),
    ("kept-a-minute", head("Content-Length: 2", "Keep-Alive: max=5, timeout=60", body=b"{}"), b"{}", True),
    ("interim", head(status="HTTP/1.1 100 Continue") + head("Link: x", status="HTTP/1.1 103 Early Hints") + OK, b"{}", True),
    ("204", head(status="HTTP/1.1 204 No Content"), b"", True),
    ("204-length-0", head("Content-Length: 0", status="HTTP/1.1 204 No Content"), b"", True),
    ("304-length", head("Content-Length: 700", status="HTTP/1.1 304 Not Modified"), b"", True),
    ("no-reason", head("Content-Length: 2", status="HTTP/1.1 200", body=b"{}"), b"{}", True),
    ("empty-reason", head("Content-Length: 2", status="HTTP/1.1 200 ", body=b"{}"), b"{}", True),
    ("blanks", head("Content-Length: \t 2\t ", "X:", body=b"{}"), b"{}", True),
    ("line-of-16k", head("Content-Length: 2", "X: " + "x" * 16_300, body=b"{}"), b"{}", True),
    ("128-fields", head("Content-Length: 2", *[f"X-{n}: y" for n in range(127)], body=b"{}"), b"{}", True),
    ("redirect", head("Location: http://elsewhere/", "Content-Length: 0", status="HTTP/1.1 302 Found"), b"", True),
]  # fmt: skip
REFUSED: list[tuple[str, bytes]] = [
    ("two-lengths", head("Content-Length: 2", "Content-Length: 3", body=b"{}x")),
    ("the-same-length-twice", head("Content-Length: 2", "Content-Length: 2", body=b"{}")),
    ("lengths-in-one", head("Content-Length: 2, 2", body=b"{}")),
    ("length-and-chunks", head("Content-Length: 2", CHUNKED, body=b"2\r\n{}\r\n0\r\n\r\n")),
    ("chunks-and-length", head(CHUNKED, "Content-Length: 2", body=b"2\r\n{}\r\n0\r\n\r\n")),
    ("length-signed", head("Content-Length: +2", body=b"{}")),
    ("length-negative", head("Content-Length: -2", body=b"{}")),
    ("length-hex", head("Content-Length: 0x2", body=b"{}")),
    ("length-underscore", head("Content-Length: 0_2", body=b"{}")),
    ("length-arabic", head(body=b"").replace(b"\r\n\r\n", b"\r\nContent-Length: \xd9\xa2\r\n\r\n{}")),
    ("length-empty", head("Content-Length:", body=b"{}")),
    ("length-endless", head("Content-Length: " + "9" * 30, body=b"{}")),
    ("coding-unknown", head("Transfer-Encoding: gzip", body=b"{}")),
    ("coding-listed", head("Transfer-Encoding: gzip, chunked", body=b"2\r\n{}\r\n0\r\n\r\n")),
    ("coding-twice", head(CHUNKED, CHUNKED, body=b"2\r\n{}\r\n0\r\n\r\n")),
    ("coding-tab", head("Transfer-Encoding: \x0bchunked", body=b"2\r\n{}\r\n0\r\n\r\n")),
    ("coding-old", head(CHUNKED, status="HTTP/1.0 200 OK", body=b"2\r\n{}\r\n0\r\n\r\n")),
    ("coding-204", head(CHUNKED, status="HTTP/1.1 204 No Content", body=b"0\r\n\r\n")),
    ("length-204", head("Content-Length: 2", status="HTTP/1.1 204 No Content", body=b"{}")),
    ("length-interim", head("Content-Length: 2", status="HTTP/1.1 100 Continue", body=b"{}") + OK),
    ("blank-before-colon", head("Content-Length : 2", body=b"{}")),
    ("folded", head("Content-Length: 2", "X: a", " b", body=b"{}")),
    ("folded-first", head(" X: a", "Content-Length: 2", body=b"{}")),
    ("no-colon", head("Content-Length: 2", "X", body=b"{}")),
    ("no-name", head("Content-Length: 2", ": x", body=b"{}")),
    ("name-with-blank", head("Content-Length: 2", "X Y: x", body=b"{}")),
    ("name-not-ascii", head("Content-Length: 2", "X\xfc: x", body=b"{}")),
    ("nul", head("Content-Length: 2", "X: a\0b", body=b"{}")),
    ("escape", head("Content-Length: 2", "X: a\x1bb", body=b"{}")),
    ("delete", head("Content-Length: 2", "X: a\x7fb", body=b"{}")),
    ("bare-return", head("Content-Length: 2", "X: a\rY: b", body=b"{}")),
    ("bare-line-feed", head("Content-Length: 2", "X: a\nY: b", body=b"{}")),
    ("line-feeds-only", b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"),
    ("two-types", head("Content-Type: a/b", "Content-Type: c/d", "Content-Length: 2", body=b"{}")),
    ("two-tags", head('ETag: "1"', 'ETag: "2"', "Content-Length: 2", body=b"{}")),
    ("line-too-long", head("Content-Length: 2", "X: " + "x" * 17_000, body=b"{}")),
    ("head-too-long", head("Content-Length: 2", *[f"X{n}: " + "x" * 16_000 for n in range(5)], body=b"{}")),
    ("head-without-end", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000),
    ("129-fields", head("Content-Length: 2", *[f"X-{n}: y" for n in range(128)], body=b"{}")),
    ("0.9", b"{}"),
    ("1.2", head("Content-Length: 2", status="HTTP/1.2 200 OK", body=b"{}")),
    ("2.0", head("Content-Length: 2", status="HTTP/2.0 200 OK", body=b"{}")),
    ("another-protocol", b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    ("request", b"GET / HTTP/1.1\r\n\r\n"),
    ("small-letters", head("Content-Length: 2", status="http/1.1 200 OK", body=b"{}")),
    ("status-of-two", head("Content-Length: 2", status="HTTP/1.1 20 OK", body=b"{}")),
    ("status-of-four", head("Content-Length: 2", status="HTTP/1.1 2000 OK", body=b"{}")),
    ("status-099", head("Content-Length: 2", status="HTTP/1.1 099 OK", body=b"{}")),
    ("status-600", head("Content-Length: 2", status="HTTP/1.1 600 OK", body=b"{}")),
    ("two-blanks", head("Content-Length: 2", status="HTTP/1.1  200 OK", body=b"{}")),
    ("line-before", b"\r\n" + OK),
    ("upgrade", head("Upgrade: x", "Connection: upgrade", status="HTTP/1.1 101 Switching Protocols")),
    ("interim-for-ever", head(status="HTTP/1.1 102 Processing") * 20 + OK),
    ("behind-length", OK + b"x"),
    ("line-behind-length", OK + b"\r\n"),
    ("answer-behind-length", OK + OK),
    ("answer-behind-nothing", head("Content-Length: 0") + OK),
    ("answer-behind-204", head(status="HTTP/1.1 204 No Content") + OK),
    ("answer-behind-304", head("Content-Length: 2", status="HTTP/1.1 304 Not Modified", body=b"{}")),
    ("answer-behind-chunks", head(CHUNKED, body=b"2\r\n{}\r\n0\r\n\r\n") + OK),
]  # fmt: skip
BROKEN: list[tuple[str, bytes]] = [
    ("chunk-size-bare", head(CHUNKED, body=b"2\n{}\r\n0\r\n\r\n")),
    ("chunk-size-none", head(CHUNKED, body=b"\r\n{}\r\n0\r\n\r\n")),
    ("chunk-size-signed", head(CHUNKED, body=b"+2\r\n{}\r\n0\r\n\r\n")),
    ("chunk-size-0x", head(CHUNKED, body=b"0x2\r\n{}\r\n0\r\n\r\n")),
    ("chunk-size-blank", head(CHUNKED, body=b"2 \r\n{}\r\n0\r\n\r\n")),
    ("chunk-size-blank-first", head(CHUNKED, body=b" 2\r\n{}\r\n0\r\n\r\n")),
    ("chunk-size-endless", head(CHUNKED, body=b"2" * 3000)),
    ("chunk-size-too-large", head(CHUNKED, body=b"1" * 16 + b"\r\n{}\r\n0\r\n\r\n")),
    ("chunk-extension-bare", head(CHUNKED, body=b"2;a\nb\r\n{}\r\n0\r\n\r\n")),
    ("chunk-extension-odd", head(CHUNKED, body=b"2;=\r\n{}\r\n0\r\n\r\n")),
    ("chunk-longer", head(CHUNKED, body=b"1\r\n{}\r\n0\r\n\r\n")),
    ("chunk-shorter", head(CHUNKED, body=b"3\r\n{}\r\n0\r\n\r\n")),
    ("chunk-end-bare", head(CHUNKED, body=b"2\r\n{}\n0\r\n\r\n")),
    ("trailer-bare", head(CHUNKED, body=b"2\r\n{}\r\n0\r\nX: y\n\r\n")),
    ("trailer-length", head(CHUNKED, body=b"2\r\n{}\r\n0\r\nCONTENT-length: 9\r\n\r\n")),
    ("trailer-none", head(CHUNKED, body=b"2\r\n{}\r\n0\r\nX\r\n\r\n")),
    ("trailer-endless", head(CHUNKED, body=b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 5000)),
]  # fmt: skip


def named(rows: list[Any]) -> Any:
    return [pytest.param(*row[1:], id=row[0]) for row in rows]


@pytest.mark.parametrize("at_once", [True, False], ids=["at-once", "in-pieces"])
@pytest.mark.parametrize(("said", "content", "kept"), named(READ))
async def test_an_answer_is_read_and_the_connection_kept_where_it_may_be(
    store: RawStore, client: UpstreamClient, said: bytes, content: bytes, kept: bool, at_once: bool
) -> None:
    async def answer(here: Connected) -> None:
        cut = len(said) // 2
        await here.send(*([said] if at_once else [said[:cut], said[cut : cut + 1], said[cut + 1 :]]))
        if said.endswith(b"\r\n\r\n{}") and b"ontent" not in said:
            here.end()

    store.answers = [answer, OK]
    found, body = await asked(client)
    assert (found.status, body) == (int(said.split()[1]) if said[9:10] != b"1" else 200, content)
    assert await asked(client)
    assert store.on == ([0, 0] if kept else [0, 1])


@pytest.mark.parametrize("said", named(REFUSED))
async def test_what_is_no_answer_is_refused_and_the_connection_ends(
    store: RawStore, client: UpstreamClient, said: bytes
) -> None:
    gone = asyncio.Event()

    async def answer(here: Connected) -> None:
        await here.send(said)
        await here.gone()
        gone.set()

    store.answers = [answer, OK]
    with pytest.raises(FhirError) as refused:
        await asked(client)
    assert refused.value.reason is Reason.UPSTREAM_INVALID
    await asyncio.wait_for(gone.wait(), 5)
    assert client.in_use == 0
    assert (await asked(client))[1] == b"{}"
    assert store.on == [0, 1]


@pytest.mark.parametrize("said", named(BROKEN))
async def test_chunks_that_are_none_break_the_answer_off(
    store: RawStore, client: UpstreamClient, said: bytes
) -> None:
    await test_what_is_no_answer_is_refused_and_the_connection_ends(store, client, said)


CUTS: list[tuple[str, bytes, Callable[[Connected], None], Reason]] = [
    ("before-the-head", b"", Connected.end, Reason.UPSTREAM_UNAVAILABLE),
    ("reset-before-the-head", b"", Connected.reset, Reason.UPSTREAM_UNAVAILABLE),
    ("in-the-head", OK[:30], Connected.end, Reason.UPSTREAM_INVALID),
    ("behind-an-interim-answer", head(status="HTTP/1.1 100 Continue"), Connected.end, Reason.UPSTREAM_INVALID),
    ("in-the-length", OK[:-1], Connected.end, Reason.UPSTREAM_INVALID),
    ("in-a-chunk", head(CHUNKED, body=b"2\r\n{"), Connected.end, Reason.UPSTREAM_INVALID),
    ("before-the-last-chunk", head(CHUNKED, body=b"2\r\n{}\r\n"), Connected.end, Reason.UPSTREAM_INVALID),
    ("in-the-trailer", head(CHUNKED, body=b"2\r\n{}\r\n0\r\n"), Connected.end, Reason.UPSTREAM_INVALID),
    ("reset-until-close", head(body=b"{}"), Connected.reset, Reason.UPSTREAM_INVALID),
]  # fmt: skip


@pytest.mark.parametrize(("said", "end", "reason"), named(CUTS))
async def test_an_answer_that_breaks_off_is_none(
    store: RawStore, client: UpstreamClient, said: bytes, end: Callable[[Connected], None], reason: Reason
) -> None:
    async def answer(here: Connected) -> None:
        if said:
            await here.send(said)
            await asyncio.sleep(0.02)  # so that it is read before a reset takes it back
        end(here)

    store.answers = [answer]
    with pytest.raises(FhirError) as broken:
        await asked(client)
    assert broken.value.reason is reason
    assert client.in_use == 0


async def test_HEAD_has_no_body_whatever_its_length_says(store: RawStore, client: UpstreamClient) -> None:
    store.answers = [head("Content-Length: 700")]
    found, body = await asked(client, "HEAD")
    assert (found.status, found.headers["content-length"], body) == (200, "700", b"")
    store.answers = [OK]
    with pytest.raises(FhirError):
        await asked(client, "HEAD")


async def test_names_are_lower_case_and_lists_are_joined(store: RawStore, client: UpstreamClient) -> None:
    store.answers = [
        head("VARY: a", "Content-Length: 2", "vary:b ", "Content-Type: x/y", "content-type: x/y", body=b"{}")
    ]
    found, _ = await asked(client)
    assert dict(found.headers) == {"vary": "a, b", "content-length": "2", "content-type": "x/y"}
