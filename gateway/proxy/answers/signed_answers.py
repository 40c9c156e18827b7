"""Signed answers of one mount: RFC 9421 by our own keys, as FAPI 2.0 HTTP Signatures profiles it.

An answer that is whole gets Content-Digest, Signature-Input and Signature in its header section. One that is streamed
is digested as it passes and gets the three in its trailer section: nothing is held, and what breaks off is not signed.
"""

import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from hashlib import sha256

from authz.clock import Clock
from authz.protocol import http_signatures
from authz.protocol.http_signatures import CONTENT_DIGEST, SIGNATURE, SIGNATURE_INPUT, Message, Wish
from authz.protocol.jose import Signer
from authz.protocol.request import Answer, Body, HttpRequest, RequestError
from authz.protocol.structured_fields import StructuredFieldError
from authz.storage.store import StoreUnavailable
from gateway.fhir.outcome import Reason
from gateway.proxy.answers import formats
from gateway.proxy.whole_answers import let_go
from gateway.settings import ResponseSignatures

Handler = Callable[[HttpRequest], Awaitable[Answer]]
Fields = tuple[tuple[str, str], ...]
_WITHOUT_CONTENT = frozenset({204, 304})  # RFC 9110 15.3.5, 15.4.5
_log = logging.getLogger("securus.gateway")


class SignedAnswers:
    """Signs the answers of one mount. signer gives the key that is active now, and raises StoreUnavailable."""

    def __init__(self, signer: Callable[[], Signer], *, when: ResponseSignatures, clock: Clock) -> None:
        self._signer = signer
        self._when = when
        self._clock = clock

    async def answer(self, request: HttpRequest, handler: Handler) -> Answer:
        """The handler's answer, signed. Where no key is active the handler is not asked: nothing has happened then."""
        try:
            signer = self._signer()
            wish = _wish(request, signer)
            if wish is None and self._when is not ResponseSignatures.ON:
                return await handler(request)
            body = _ComparedBody(request)
            answer = await handler(replace(request, body=body))
            return await self._signed(request, answer, signer, wish, body_compared=body.is_compared)
        except StoreUnavailable as error:
            # Whoever was promised a signature is not given an answer without one.
            _log.error("an answer could not be signed", extra={"cause": str(error)})
            return formats.outcome(request, Reason.STORE_UNAVAILABLE, ("Retry-After", "2"))

    async def _signed(
        self,
        request: HttpRequest,
        answer: Answer,
        signer: Signer,
        wish: Wish | None,
        *,
        body_compared: bool,
    ) -> Answer:
        asked = _message(request)

        async def sign(headers: Fields, trailers: Fields = ()) -> Fields:
            return await self._signature(
                asked,
                Message(fields=headers, trailers=trailers, status=answer.status),
                signer,
                wish,
                body_compared=body_compared,
            )

        if not isinstance(answer.body, bytes) and request.method != "HEAD":
            signed = _SignedStream(answer.body, lambda digest: sign(answer.headers, (digest,)))
            return replace(answer, body=signed, trailer=signed)
        if answer.status in _WITHOUT_CONTENT:
            return answer.with_headers(await sign(answer.headers))
        # RFC 9530 B.2: what answers HEAD has no content, and that is what Content-Digest speaks of.
        content = b"" if request.method == "HEAD" or not isinstance(answer.body, bytes) else answer.body
        digest = (CONTENT_DIGEST, http_signatures.content_digest(sha256(content).digest()))
        return answer.with_headers((digest, *await sign((*answer.headers, digest))))

    async def _signature(
        self, request: Message, response: Message, signer: Signer, wish: Wish | None, *, body_compared: bool
    ) -> Fields:
        """Signature-Input and Signature of a response that is complete but for them."""
        covered = http_signatures.response_components(
            response,
            request,
            digest_in_trailer=bool(response.trailers),
            digest_of_request=body_compared,
        )
        if wish is not None:
            wished = http_signatures.with_wish(covered, wish, response, request)
            if wished is None:
                wish = None  # RFC 9421 5.2: what cannot be fulfilled is passed over
                if self._when is not ResponseSignatures.ON:
                    return ()
            else:
                covered = wished
        parameters = http_signatures.response_parameters(
            created=self._clock(),
            keyid=signer.kid,
            algorithm=signer.algorithm,
            nonce=wish.nonce if wish is not None else None,
        )
        signed = http_signatures.signature_base(covered, parameters, response, request)
        label = wish.label if wish is not None else http_signatures.DEFAULT_LABEL
        return http_signatures.signature_fields(label, covered, parameters, await signer.sign(signed))


def _wish(request: HttpRequest, signer: Signer) -> Wish | None:
    value = request.headers.get("accept-signature")
    if value is None:
        return None
    return http_signatures.read_wish(value, keyid=signer.kid, algorithm=signer.algorithm)


def _message(request: HttpRequest) -> Message:
    query = f"?{request.query}" if request.query else ""
    return Message(
        fields=tuple(request.headers.items()), method=request.method, target_uri=request.url + query
    )


class _SignedStream:
    """A streamed body that is digested as it passes, and the trailer section that follows it."""

    names = (CONTENT_DIGEST, SIGNATURE_INPUT, SIGNATURE)

    def __init__(
        self, body: AsyncIterator[bytes], sign: Callable[[tuple[str, str]], Awaitable[Fields]]
    ) -> None:
        self._body = body
        self._sign = sign
        self._digest = sha256()
        self._is_whole = False

    def __aiter__(self) -> "_SignedStream":
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._body)
        except StopAsyncIteration:
            self._is_whole = True
            raise
        self._digest.update(chunk)
        return chunk

    async def aclose(self) -> None:
        """Let go of what the body holds."""
        await let_go(self._body)

    async def fields(self) -> Fields:
        """The digest and the signature. Raises StoreUnavailable, and RuntimeError before the body has ended."""
        if not self._is_whole:
            raise RuntimeError("a body that has not ended cannot be signed")
        digest = (CONTENT_DIGEST, http_signatures.content_digest(self._digest.digest()))
        return (digest, *await self._sign(digest))


class _ComparedBody:
    """A request's body that is compared with the request's Content-Digest once all of it is in (RFC 9530 2)."""

    def __init__(self, request: HttpRequest) -> None:
        self._body: Body = request.body
        self._value = request.headers.get("content-digest")
        self.is_compared = False

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body. Raises RequestError: 413 when it is longer than limit_bytes, 400 when it is another one."""
        comparison = _Comparison(self._value)
        content = await self._body.read(limit_bytes)
        comparison.update(content)
        self.is_compared = comparison.ends()
        return content

    async def stream(self) -> AsyncIterator[bytes]:
        """The body in pieces. Raises RequestError(400) in place of the last one when it is another one."""
        comparison = _Comparison(self._value)
        held = b""
        async for chunk in self._body.stream():
            comparison.update(chunk)
            if held:
                yield held
            held = chunk
        # Whoever takes the pieces has not got a whole body before it is known to be the right one.
        self.is_compared = comparison.ends()
        if held:
            yield held


class _Comparison:
    """Digests that are computed, beside those that a Content-Digest says. Raises RequestError(400) as ends() does."""

    def __init__(self, value: str | None) -> None:
        try:
            said = {} if value is None else http_signatures.read_content_digest(value)
        except StructuredFieldError as error:
            raise RequestError(400, f"Content-Digest cannot be read: {error}") from error
        self._said = said
        self._computed = {name: http_signatures.DIGESTS[name]() for name in said}

    def update(self, chunk: bytes) -> None:
        for digest in self._computed.values():
            digest.update(chunk)

    def ends(self) -> bool:
        """Whether there was something to compare. Raises RequestError(400) when it differs."""
        for name, digest in self._computed.items():
            if not hmac.compare_digest(digest.digest(), self._said[name]):
                raise RequestError(400, f"the body does not have the {name} that Content-Digest says")
        return bool(self._computed)
