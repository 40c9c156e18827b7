"""Which web pages may read what this server answers: cross-origin resource sharing (Fetch 3.2, SMART App Launch 2.2).

Documents that say where everything is are for every page (SMART @16). What needs a token or a client is for the pages
of apps that are registered here (@17), unless the operator lets every page read. No answer ever allows credentials:
neither a cookie nor a certificate of the browser speaks for a page.
"""

from collections.abc import Collection
from typing import Protocol

from authz.protocol.request import Answer, HttpRequest
from gateway.settings import Readers

_EXPOSED = (
    "DPoP-Nonce, WWW-Authenticate, ETag, Location, Content-Location, Last-Modified, x-fapi-interaction-id,"
    " Retry-After, X-Progress, Content-Digest, Signature-Input, Signature"
)
_SENT = (
    "authorization, dpop, content-type, accept, if-match, if-none-match, if-none-exist, if-modified-since, prefer,"
    " x-fapi-interaction-id, x-fapi-auth-date, x-provenance, accept-signature, cache-control, x-requested-with,"
    " traceparent, tracestate"
)
_PREFLIGHT_SECONDS = 7200  # browsers keep it no longer
_EVERY_PAGE = "*"
_VARY: tuple[tuple[str, str], ...] = (("Vary", "Origin"),)


class Directory(Protocol):
    """The clients that may act now."""

    def has_page(self, origin: str) -> bool:
        """Whether this is the origin of the pages of one of them."""
        ...


class CrossOrigin:
    """Says of each answer which page may read it. Pages for people are never read by another site.

    pages   paths of our own pages, which are those below them too
    public  paths of documents that every page may read
    """

    def __init__(
        self, readers: Readers, clients: Directory, *, pages: tuple[str, ...], public: Collection[str]
    ) -> None:
        self._readers = readers
        self._clients = clients
        self._pages = pages
        self._below = tuple(page.rstrip("/") + "/" for page in pages)  # '/patient' is not '/patient-api'
        self._public = frozenset(public)

    def preflight(self, request: HttpRequest, methods: str) -> Answer:
        """The answer to a preflight (Fetch 3.2.2); a page of no registered app is allowed nothing."""
        allowed = self._allowed(request)
        answer = Answer(204, () if allowed is None else preflight_headers(methods, allowed))
        return self._varied(request, answer)

    def on(self, request: HttpRequest, answer: Answer) -> Answer:
        """The answer with what lets the page that asked read it, an error too (Fetch 3.2.3)."""
        if "origin" not in request.headers or self._is_page(request.path):
            return answer
        if _has(answer, "access-control-allow-origin"):
            return answer
        allowed = self._allowed(request)
        if allowed is not None:
            answer = answer.with_headers(
                (("Access-Control-Allow-Origin", allowed), ("Access-Control-Expose-Headers", _EXPOSED))
            )
        return self._varied(request, answer)

    def _allowed(self, request: HttpRequest) -> str | None:
        if self._is_for_all(request):
            return _EVERY_PAGE
        origin = request.headers.get("origin", "")
        return origin if self._clients.has_page(origin) else None

    def _is_page(self, path: str) -> bool:
        return path in self._pages or path.startswith(self._below)

    def _is_for_all(self, request: HttpRequest) -> bool:
        return self._readers is Readers.ANY or request.path in self._public

    def _varied(self, request: HttpRequest, answer: Answer) -> Answer:
        """The answer, kept apart in caches for each origin where it differs (Fetch 3.2.5)."""
        return answer if self._is_for_all(request) else answer.with_headers(_VARY)


def preflight_headers(methods: str, allowed: str) -> tuple[tuple[str, str], ...]:
    """What a preflight is told: who may ask, by which methods, with which headers, and for how long that holds."""
    return (
        ("Access-Control-Allow-Origin", allowed),
        ("Access-Control-Allow-Methods", methods),
        ("Access-Control-Allow-Headers", _SENT),
        ("Access-Control-Max-Age", str(_PREFLIGHT_SECONDS)),
    )


def _has(answer: Answer, name: str) -> bool:
    return any(given.lower() == name for given, _ in answer.headers)
