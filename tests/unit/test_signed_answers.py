"""Signed answers without a wire: what happens when no key signs, and that streams stay streams."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from hashlib import sha256

import pytest

from authz.keys import generate_private_key
from authz.protocol import jose
from authz.protocol.http_signatures import content_digest
from authz.protocol.jose import LocalSigner, Signer
from authz.protocol.request import Answer, HttpRequest, RequestError
from authz.storage.store import StoreUnavailable
from gateway.proxy.answers.signed_answers import SignedAnswers
from gateway.settings import ResponseSignatures
from tests.support.http_signatures import Exchange, verify

KEY = generate_private_key("ES256")
JWKS = {"keys": [jose.public_jwk(KEY, kid="k.1")]}
REQUEST = HttpRequest(
    method="GET",
    path="/fhir/r4/Patient/a",
    query="",
    url="https://fhir.example/fhir/r4/Patient/a",
    origin="https://fhir.example",
    headers={},
    peer="192.0.2.1",
)


def signing(signer: Signer | None = None, when: ResponseSignatures = ResponseSignatures.ON) -> SignedAnswers:
    return SignedAnswers(lambda: signer or LocalSigner("k.1", "ES256", KEY), when=when, clock=lambda: 17)


@dataclass
class Lost:
    """A signing key that is out of reach, as one in a key service may be."""

    kid: str = "k.1"
    algorithm: str = "ES256"

    async def sign(self, data: bytes) -> bytes:
        raise StoreUnavailable("the key service does not answer")


@dataclass
class Pieces:
    """A body in pieces that tells whether it was let go."""

    pieces: list[bytes]
    closed: bool = False

    def __aiter__(self) -> "Pieces":
        return self

    async def __anext__(self) -> bytes:
        if not self.pieces:
            raise StopAsyncIteration
        return self.pieces.pop(0)

    async def aclose(self) -> None:
        self.closed = True

    async def read(self, limit_bytes: int) -> bytes:
        return b"".join(self.pieces)

    def stream(self) -> AsyncIterator[bytes]:
        return self


def exchange(answer: Answer, body: bytes, trailers: tuple[tuple[str, str], ...] = ()) -> Exchange:
    return Exchange(
        REQUEST.method, REQUEST.url, answer.status, list(answer.headers), body, trailers=list(trailers)
    )


async def test_without_a_key_nobody_is_asked_and_nothing_happens() -> None:
    def none() -> Signer:
        raise StoreUnavailable("there is no active signing key")

    asked: list[HttpRequest] = []

    async def handler(request: HttpRequest) -> Answer:
        asked.append(request)
        return Answer(200)

    answer = await SignedAnswers(none, when=ResponseSignatures.ON, clock=lambda: 17).answer(REQUEST, handler)
    assert (answer.status, asked) == (503, [])
    assert isinstance(answer.body, bytes)
    assert b"OperationOutcome" in answer.body


async def test_an_answer_that_cannot_be_signed_does_not_go_out() -> None:
    async def handler(request: HttpRequest) -> Answer:
        return Answer(200, (), b"a chart")

    answer = await signing(Lost()).answer(REQUEST, handler)
    assert answer.status == 503
    assert isinstance(answer.body, bytes)
    assert b"a chart" not in answer.body


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_content_are_signed_without_digest(status: int) -> None:
    async def handler(request: HttpRequest) -> Answer:
        return Answer(status, (("ETag", 'W/"1"'),))

    answer = await signing().answer(REQUEST, handler)
    assert "Content-Digest" not in dict(answer.headers)
    found = verify(exchange(answer, b""), JWKS)
    assert found.components == ['"@status"', '"etag"', '"@method";req', '"@target-uri";req']


async def test_a_stream_passes_piece_by_piece_and_is_signed_behind_the_last() -> None:
    pieces = Pieces([b"one", b"two", b"three"])

    async def handler(request: HttpRequest) -> Answer:
        return Answer(200, (("Content-Type", "text/plain"),), pieces)

    answer = await signing().answer(REQUEST, handler)
    assert not isinstance(answer.body, bytes)
    assert answer.trailer is not None
    assert await anext(answer.body) == b"one"
    assert pieces.pieces == [b"two", b"three"]  # nothing is taken ahead
    with pytest.raises(RuntimeError):
        await answer.trailer.fields()
    rest = [piece async for piece in answer.body]
    fields = await answer.trailer.fields()
    assert tuple(name for name, _ in fields) == answer.trailer.names
    verify(exchange(answer, b"one" + b"".join(rest), fields), JWKS)


async def test_a_stream_that_is_left_lets_go_of_what_it_holds() -> None:
    pieces = Pieces([b"one", b"two"])

    async def handler(request: HttpRequest) -> Answer:
        return Answer(200, (), pieces)

    answer = await signing().answer(REQUEST, handler)
    assert not isinstance(answer.body, bytes)
    await answer.body.aclose()  # type: ignore[attr-defined]
    assert pieces.closed


async def test_a_stream_that_answers_head_is_neither_read_nor_promised_a_trailer_section() -> None:
    pieces = Pieces([b"one"])

    async def handler(request: HttpRequest) -> Answer:
        return Answer(200, (), pieces)

    answer = await signing().answer(replace(REQUEST, method="HEAD"), handler)
    assert (answer.trailer, answer.body, pieces.pieces) == (None, pieces, [b"one"])
    verify(replace(exchange(answer, b""), method="HEAD"), JWKS)


async def test_the_last_piece_of_a_body_with_another_digest_is_never_passed_on() -> None:
    """With a Content-Length the store would have a whole body before anybody knew that it is the wrong one."""
    said = content_digest(sha256(b"onetwo").digest())
    request = replace(REQUEST, method="POST", headers={"content-digest": said}, body=Pieces([b"one", b"TWO"]))
    passed: list[bytes] = []

    async def handler(request: HttpRequest) -> Answer:
        try:
            async for piece in request.body.stream():
                passed.append(piece)
        except RequestError as error:
            return Answer(error.status)
        return Answer(201)

    answer = await signing().answer(request, handler)
    assert (answer.status, passed) == (400, [b"one"])
    assert '"content-digest";req' not in dict(answer.headers)["Signature-Input"]


async def test_the_digest_of_a_streamed_request_is_covered_once_it_was_compared() -> None:
    said = content_digest(sha256(b"onetwo").digest())
    request = replace(REQUEST, method="POST", headers={"content-digest": said}, body=Pieces([b"one", b"two"]))

    async def handler(request: HttpRequest) -> Answer:
        assert [piece async for piece in request.body.stream()] == [b"one", b"two"]
        return Answer(201)

    answer = await signing().answer(request, handler)
    sent = {"content-digest": said}
    found = verify(replace(exchange(answer, b""), method="POST", request_headers=sent), JWKS)
    assert '"content-digest";req' in found.components


async def test_one_key_serves_a_request_from_its_wish_to_its_signature() -> None:
    """A rotation while a long answer is under way changes nothing of what the wish was read for."""
    keys = iter(("k.1", "k.2"))

    async def handler(request: HttpRequest) -> Answer:
        return Answer(200, (), b"x")

    signed = SignedAnswers(
        lambda: LocalSigner(next(keys), "ES256", KEY), when=ResponseSignatures.ASKED, clock=lambda: 17
    )
    wish = {"accept-signature": 'sig=("@status");keyid="k.1"'}
    answer = await signed.answer(replace(REQUEST, headers=wish), handler)
    assert 'keyid="k.1"' in dict(answer.headers)["Signature-Input"]
