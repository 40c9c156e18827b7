"""The listening side: aiohttp's request in, one HttpRequest; one Answer, aiohttp's response out.

Only this file and gateway.proxy.upstream know aiohttp's wire side. aiohttp must run on its C parser (llhttp): the
pure Python one reads some malformed framing leniently.
"""

import asyncio
import ipaddress
import logging
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress

from aiohttp import http_parser, web
from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_writer import StreamWriter
from aiohttp.web_protocol import RequestHandler

from authz.http import ListenerFace, read
from authz.protocol.request import Answer, Body, EmptyBody, HttpRequest, RequestError
from gateway.settings import Limits, Listener

Handler = Callable[[HttpRequest], Awaitable[Answer]]
_CHUNK = 64 * 1024
_DER = 2  # _ssl.ENCODING_DER
_SENDABLE = re.compile(r"[ -~]*")
_log = logging.getLogger("securus.listener")


class ParserMissing(Exception):
    """aiohttp's C parser is not there: the gateway does not start."""


def require_c_parser() -> None:
    """Raise ParserMissing unless aiohttp parses with llhttp (attack case 28)."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ParserMissing(
            "aiohttp runs on its pure Python parser, which reads malformed framing leniently:"
            " install a build of aiohttp with its C extensions and unset AIOHTTP_NO_EXTENSIONS"
        )


class StreamedBody:
    """The body of an aiohttp request, read only as fast as it is taken."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body. Raises RequestError(413) as soon as it is known to be longer."""
        length = self._request.content_length
        if length is not None and length > limit_bytes:
            raise RequestError(413, f"the body is longer than {limit_bytes} bytes")
        parts: list[bytes] = []
        size = 0
        async for chunk in self.stream():
            size += len(chunk)
            if size > limit_bytes:
                raise RequestError(413, f"the body is longer than {limit_bytes} bytes")
            parts.append(chunk)
        return b"".join(parts)

    async def stream(self) -> AsyncIterator[bytes]:
        """The body in pieces."""
        await _send_continue(self._request)
        async for chunk in self._request.content.iter_chunked(_CHUNK):
            yield chunk


async def _send_continue(request: web.BaseRequest) -> None:
    """100 Continue, only now that somebody wants the body (attack case 30)."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


class Face:
    """One listener: turns its requests into HttpRequests and hands them to the handler."""

    def __init__(self, listener: Listener, limits: Limits, handler: Handler) -> None:
        proxies = listener.proxies
        self.listener = listener
        self._limits = limits
        self._handler = handler
        self._face = ListenerFace(
            origin=listener.origin,
            trusted=tuple(ipaddress.ip_network(n) for n in proxies.networks) if proxies else (),
            certificate_header=proxies.certificate_header.lower()
            if proxies and proxies.certificate_header
            else None,
            certificate_form=proxies.certificate_form if proxies else None,
        )
        self.server = _Server(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            max_line_size=limits.max_url + 64,
            max_field_size=limits.max_header,
            max_headers=128,
            keepalive_timeout=75.0,
            lingering_time=2.0,
            tcp_keepalive=True,
            auto_decompress=False,
        )

    async def _handle(self, raw: web.BaseRequest) -> web.StreamResponse:
        try:
            request = self._read(raw)
            answer = await self._handler(request)
        except RequestError as error:
            answer = _plain(error.status, error.description)
        except asyncio.CancelledError:
            raise
        except Exception:
            _log.exception("a request failed")
            answer = _plain(500, "the gateway failed")
        return await _respond(raw, answer)

    def _read(self, raw: web.BaseRequest) -> HttpRequest:
        certificate, chain = _certificate(raw)
        body: Body = StreamedBody(raw) if raw.can_read_body else EmptyBody()
        return read(
            raw.method,
            raw.raw_path if hasattr(raw, "raw_path") else raw.path_qs,
            raw.raw_headers,
            peer_address=raw.remote or "",
            face=self._face,
            certificate=certificate,
            chain=chain,
            body=body,
            max_header=self._limits.max_header,
            max_url=self._limits.max_url,
        )


class _Connection(RequestHandler):
    """A connection that answers what is no HTTP request in our words: aiohttp repeats it, and names itself."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to bytes that llhttp refuses. The connection ends with it."""
        _log.info("a request cannot be read", extra={"peer": request.remote, "cause": type(exc).__name__})
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        answer = _plain(
            status, "the request is not HTTP/1.1 in one reading" if status < 500 else "the gateway failed"
        )
        response = web.Response(status=status, body=answer.body if isinstance(answer.body, bytes) else b"")
        _set_headers(response, answer)
        response.force_close()
        return response


class _Server(web.Server):
    """Makes such connections."""

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


def _certificate(raw: web.BaseRequest) -> tuple[bytes | None, tuple[bytes, ...]]:
    transport = raw.transport
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    if not isinstance(tls, ssl.SSLObject | ssl.SSLSocket):
        return None, ()
    leaf = tls.getpeercert(binary_form=True)
    if leaf is None:
        return None, ()
    inner = getattr(tls, "_sslobj", None)  # public from Python 3.13 on
    chain: Sequence[object] = ()
    with suppress(AttributeError, ssl.SSLError):
        chain = (
            inner.get_unverified_chain() if inner is not None else None
        ) or ()  # None on a resumed session
    encoded = tuple(c.public_bytes(_DER) for c in chain[1:] if hasattr(c, "public_bytes"))
    return leaf, encoded


async def _respond(raw: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    head = raw.method == "HEAD"
    if isinstance(answer.body, bytes):
        whole = web.Response(status=answer.status, body=answer.body)
        _set_headers(whole, answer)
        if not raw.content.is_eof() and answer.status >= 400:
            whole.force_close()  # a body that nobody reads ends the connection, not the next request
        return whole
    response = web.StreamResponse(status=answer.status)
    _set_headers(response, answer)
    body = answer.body
    # HTTP/1.0 has no chunks, and so no trailer section: its callers go without.
    trailer = answer.trailer if raw.version >= HttpVersion11 and not head else None
    if trailer is not None:
        response.headers["Trailer"] = ", ".join(trailer.names)
    try:
        await response.prepare(raw)
        if not head:
            async for chunk in body:
                await response.write(chunk)
        if trailer is not None:
            await _write_trailer(raw, await trailer.fields())
        await response.write_eof()
    except (ConnectionError, HttpProcessingError):
        pass  # the caller went away
    except Exception:
        # The status line is out: the only honest end is a connection that breaks off.
        _log.exception("an answer broke off")
        if raw.transport is not None:
            raw.transport.abort()
    finally:
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()
    return response


async def _write_trailer(raw: web.BaseRequest, fields: Sequence[tuple[str, str]]) -> None:
    """End a chunked body with a trailer section (RFC 9112 7.1.2), which aiohttp cannot write."""
    writer = raw.writer
    if not isinstance(writer, StreamWriter):
        raise TypeError("aiohttp writes answers in another way than this file knows")
    if not all(_SENDABLE.fullmatch(name + value) for name, value in fields):
        raise ValueError("a trailer field is printable ASCII in one line")
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    writer.chunked = False  # the last chunk is written here: aiohttp has nothing left to end
    await writer.write(f"0\r\n{lines}\r\n".encode("ascii"))


def _set_headers(response: web.StreamResponse, answer: Answer) -> None:
    if "Content-Type" in response.headers:
        del response.headers["Content-Type"]
    response.headers["Server"] = "securus"
    for name, value in answer.headers:
        response.headers.add(name, value)


def _plain(status: int, description: str) -> Answer:
    body = f"{description}\n".encode()
    return Answer(
        status, (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")), body
    )
