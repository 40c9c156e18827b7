"""HttpRequest and Answer: the one strict reading of an HTTP request, and what goes back. No I/O here.

Whoever listens builds an HttpRequest once
through `authz.http`; every door takes it and gives an Answer; nobody else looks at raw bytes again.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


class RequestError(Exception):
    """A request that has no single reading, or is larger than a limit: refused before any door sees it."""

    def __init__(self, status: int, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.description = description


class Body(Protocol):
    """The request's body: read whole up to a limit, or streamed once."""

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body. Raises RequestError(413) when it is longer than limit_bytes."""
        ...

    def stream(self) -> AsyncIterator[bytes]:
        """The body chunk by chunk, with back-pressure to the sender."""
        ...


class Precedent(Protocol):
    """Answers requests that are like one which was answered before."""

    async def answer(self, request: "HttpRequest") -> "Answer":
        """The answer to this one, decided and recorded by itself."""
        ...


class Likeness:
    """What a request shares with those whose heads are the same but for the last segment of the path and a few values.

    precedent  answers them; None while each of them is looked at from its beginning
    varying    the headers, in lower case, of which each of them may have a value of its own
    """

    __slots__ = ("_keep", "precedent", "varying")

    def __init__(self, keep: "Callable[[Likeness], None]", varying: frozenset[str] = frozenset()) -> None:
        self._keep = keep
        self.varying = varying
        self.precedent: Precedent | None = None

    def follow(self, precedent: Precedent) -> None:
        """Let this precedent answer those that come."""
        self.precedent = precedent
        self._keep(self)


class EmptyBody:
    """A body of no bytes."""

    async def read(self, limit_bytes: int) -> bytes:
        """b''."""
        return b""

    async def stream(self) -> AsyncIterator[bytes]:
        """No chunk."""
        return
        yield b""


class BytesBody:
    """A body that is already in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def read(self, limit_bytes: int) -> bytes:
        """The content. Raises RequestError(413) when it is longer than limit_bytes."""
        if len(self._content) > limit_bytes:
            raise RequestError(413, f"the body is longer than {limit_bytes} bytes")
        return self._content

    async def stream(self) -> AsyncIterator[bytes]:
        """The content as one chunk."""
        yield self._content


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, read once. Only `authz.http` makes one outside tests.

    method   as received, upper case
    path     raw path as received: ASCII, begins with '/', percent-encoding untouched
    query    raw query without '?', '' when absent
    url      public URL that was called, without query: configured origin of the listener + path (RFC 9449 4.3 htu)
    origin   configured public origin of the listener, e.g. 'https://fhir.hospital.example'
    headers  names in lower case, each once; a header that was sent twice is refused unless it is a list header
    certificate  DER of the client certificate of this connection, or from a trusted proxy's header; None without
    chain    DER of further certificates that the client sent, leaf excluded
    peer     address of the caller as text, behind trusted proxies the one they vouch for
    likeness what it shares with others of the same listener; None where it may share nothing
    """

    method: str
    path: str
    query: str
    url: str
    origin: str
    headers: Mapping[str, str]
    peer: str
    certificate: bytes | None = None
    chain: tuple[bytes, ...] = ()
    body: Body = field(default_factory=EmptyBody)
    likeness: Likeness | None = field(default=None, repr=False, compare=False)


AnswerBody = bytes | AsyncIterator[bytes]


class Trailer(Protocol):
    """Fields that are known only when the streamed body before them is out (RFC 9110 6.5)."""

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, announced in the Trailer field of the header section."""
        ...

    async def fields(self) -> tuple[tuple[str, str], ...]:
        """The fields, asked for once, after the last piece of the body. What is raised breaks the answer off."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: status, headers in order, body whole or streamed, the second with a trailer section or none."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: AnswerBody = b""
    trailer: Trailer | None = None

    def with_headers(self, more: Iterable[tuple[str, str]]) -> "Answer":
        """The same answer with further headers behind its own."""
        return Answer(self.status, (*self.headers, *more), self.body, self.trailer)
