"""Answers leave as gzip for callers that take it, piece by piece, and once only."""

import gzip
import zlib
from collections.abc import AsyncIterator

import pytest

from authz.protocol.request import Answer, HttpRequest
from gateway.proxy import headers
from gateway.proxy.answers.coded_answers import accepts_gzip, coded

LONG = b'{"resourceType":"Patient","id":"' + b"x" * 100_000 + b'"}'


def asked(accept_encoding: str | None = "gzip") -> HttpRequest:
    sent = {} if accept_encoding is None else {"accept-encoding": accept_encoding}
    return HttpRequest("GET", "/", "", "https://x/", "https://x", sent, "127.0.0.1")


def answer(body: bytes | AsyncIterator[bytes] = LONG, *more: tuple[str, str], status: int = 200) -> Answer:
    return Answer(status, (headers.JSON_BODY, *headers.PRIVATE, *more), body)


@pytest.mark.parametrize(
    ("said", "takes"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("br, gzip;q=0.5", True),
        ("*", True),
        ("gzip;q=1.0, identity;q=0.5", True),
        ("gzip;q=0.001", True),
        ("br, zstd, identity;q=0", False),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("gzip;q=0.5, identity", False),
        ("gzip;q=9", False),
        ("gzipx", False),
    ],
)
def test_gzip_is_what_was_accepted(said: str, takes: bool) -> None:
    assert accepts_gzip(said) is takes


async def test_a_long_answer_is_compressed_whole() -> None:
    found = await coded(asked(), answer())
    assert isinstance(found.body, bytes)
    assert gzip.decompress(found.body) == LONG
    assert ("Content-Encoding", "gzip") in found.headers
    assert dict(found.headers)["Vary"] == "Authorization, DPoP, Accept, Accept-Encoding"


async def test_the_lines_of_an_export_are_compressed_too() -> None:
    lines = Answer(200, (("Content-Type", "application/fhir+ndjson"), *headers.PRIVATE), LONG)
    assert ("Content-Encoding", "gzip") in (await coded(asked(), lines)).headers


async def test_caches_are_told_of_the_coding_whether_it_was_used_or_not() -> None:
    found = await coded(asked(None), answer())
    assert found.body == LONG
    assert "Content-Encoding" not in dict(found.headers)
    assert dict(found.headers)["Vary"].endswith("Accept-Encoding")


@pytest.mark.parametrize(
    "plain",
    [
        answer(b"{}"),
        answer(LONG, ("Content-Encoding", "gzip")),
        answer(LONG, ("Content-Range", "bytes 0-1/2"), status=206),
        Answer(200, (("Content-Type", "image/png"), *headers.PRIVATE), LONG),
        Answer(202, headers.PRIVATE, b""),
    ],
    ids=["short", "coded already", "a part", "of another type", "empty"],
)
async def test_what_gains_nothing_is_left_as_it_is(plain: Answer) -> None:
    found = await coded(asked(), plain)
    assert found.body == plain.body
    assert [each for each in found.headers if each[0] == "Content-Encoding"] == [
        each for each in plain.headers if each[0] == "Content-Encoding"
    ]


async def test_a_strong_tag_becomes_weak_since_the_bytes_are_others() -> None:
    assert ("ETag", 'W/"1"') in (await coded(asked(), answer(LONG, ("ETag", '"1"')))).headers
    assert ("ETag", 'W/"1"') in (await coded(asked(), answer(LONG, ("ETag", 'W/"1"')))).headers
    assert ("ETag", '"1"') in (await coded(asked(None), answer(LONG, ("ETag", '"1"')))).headers
    unchanged = Answer(304, (*headers.PRIVATE, ("ETag", '"1"')))
    assert ("ETag", 'W/"1"') in (await coded(asked(), unchanged)).headers


async def test_each_piece_can_be_read_before_the_next_is_there() -> None:
    given: list[bytes] = []
    pieces = [b"a" * 10, b"b" * 200_000, b"c"]

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            given.append(piece)
            yield piece

    found = await coded(asked(), answer(body()))
    assert not isinstance(found.body, bytes)
    decoder, read = zlib.decompressobj(wbits=31), b""
    async for chunk in found.body:
        read += decoder.decompress(chunk)
        assert read == b"".join(given)
    assert decoder.eof
    assert read == b"".join(pieces)


async def test_letting_go_of_the_answer_lets_go_of_what_is_behind_it() -> None:
    ended = []

    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            yield b"y"
        finally:
            ended.append(True)

    found = await coded(asked(), answer(body()))
    assert not isinstance(found.body, bytes)
    await anext(found.body)
    await found.body.aclose()  # type: ignore[attr-defined]
    assert ended == [True]
