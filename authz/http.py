"""One strict reading of an HTTP request, and the ways an answer of the authorization server is rendered.

read() is the only place that looks at a raw request line and raw headers. What two programs could read in two
ways is refused here, before any door sees it: repeated headers that have one value, targets that are not a plain
path, both framings at once, bytes outside ASCII in anything but free text.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain

from authz.protocol.certificate_headers import from_header
from authz.protocol.encoding import compact_json
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.request import Answer, Body, EmptyBody, HttpRequest, Likeness, RequestError

_METHOD = re.compile(r"[A-Z][A-Z-]{0,31}")
_SEGMENTS = r"[A-Za-z0-9\-._~!$&'()*+,;=:@/]*+"
_PATH = re.compile(rf"/{_SEGMENTS}(?:%[0-9A-Fa-f]{{2}}{_SEGMENTS})*+")  # RFC 3986 3.3
# Wider than RFC 3986 3.4: FHIR searches come with a bare '|', and whoever reads a query decodes it strictly anyway.
_QUERY = re.compile(r"[!\"$-~]*+")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++")  # RFC 9110 5.1
_VALUE = re.compile(rb"[\t -~]*+")
_PLAIN_BYTES = b"\t" + bytes(range(0x20, 0x7F))  # those of _VALUE
_FREE_TEXT = re.compile(rb"[\t -~\x80-\xff]*+")
_LISTS = frozenset(
    {
        "accept", "accept-charset", "accept-encoding", "accept-language", "accept-signature", "baggage", "cache-control",
        "cdn-loop", "client-cert-chain", "connection", "content-digest", "forwarded", "if-match", "if-none-match",
        "keep-alive", "pragma", "prefer", "priority", "signature", "signature-input", "te", "tracestate", "trailer",
        "upgrade", "via", "warning", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port",
    }
)  # fmt: skip
"""Headers that may come in several lines (RFC 9110 5.3). Cookie is another: its lines are joined by '; '."""
_TEXTS = frozenset({"user-agent", "referer", "cookie", "from"})
"""Headers that nothing is decided by, in which old software writes bytes outside ASCII."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,19}")
_MAX_FIELDS = 100
_KNOWN_PEERS = 4096
_LONGEST_ADDRESS = 64  # characters, with a zone
_KEPT_NAME = 64  # bytes of a name of a header field that is kept as it was read
NO_STORE: tuple[tuple[str, str], ...] = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))
_JSON = ("Content-Type", "application/json")
_FORM = "application/x-www-form-urlencoded"
_NO_BODY = EmptyBody()

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class ListenerFace:
    """What a listener is to the outside. origin is configuration; nothing a caller sends changes it.

    trusted            addresses of the proxies in front, which alone may speak for a client
    certificate_header in lower case, with its form, one of certificate_headers.HEADER_FORMS
    """

    origin: str
    trusted: tuple[Network, ...] = ()
    certificate_header: str | None = None
    certificate_form: str | None = None
    _known: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    def is_proxy(self, peer: str) -> bool:
        """Whether the other end of a connection is a trusted proxy; what was found of the last peers is kept."""
        known = self._known.get(peer)
        if known is None:
            if len(self._known) >= _KNOWN_PEERS:
                self._known.clear()
            known = self._known[peer] = _is_trusted(_address(peer), self)
        return known

    def client_of(self, peer: str, forwarded_for: str) -> str:
        """The address of the caller as text: the peer, or whom a trusted proxy vouches for with this x-forwarded-for."""
        if not self.trusted or not self.is_proxy(peer):
            return peer
        return _client_behind(forwarded_for, self, peer)


def read(
    method: str,
    target: str,
    raw_headers: Sequence[tuple[bytes, bytes]],
    *,
    peer_address: str,
    face: ListenerFace,
    certificate: bytes | None = None,
    chain: tuple[bytes, ...] = (),
    body: Body | None = None,
    max_header: int = 16 * 1024,
    max_url: int = 8 * 1024,
) -> HttpRequest:
    """The request that these bytes are, or RequestError (400, 414, 431) when they have no single reading."""
    if len(target) > max_url:
        raise RequestError(414, f"the request target is longer than {max_url} bytes")
    if not _METHOD.fullmatch(method):
        raise RequestError(400, "the method must be in capital letters")
    path, _, query = target.partition("?")
    if not _PATH.fullmatch(path) or not _QUERY.fullmatch(query):
        raise RequestError(400, "the request target must be a path in ASCII, with percent-encoding")
    headers = _headers(raw_headers, max_header)
    if "transfer-encoding" in headers and "content-length" in headers:
        raise RequestError(400, "a request has either Content-Length or Transfer-Encoding")
    peer = face.client_of(peer_address, headers.get("x-forwarded-for", ""))
    if face.trusted and face.is_proxy(peer_address):
        # The certificate of this connection is the proxy's own: it never stands for a client.
        certificate, chain = _forwarded_certificate(headers, face)
    return HttpRequest(
        method=method,
        path=path,
        query=query,
        url=face.origin + path,
        origin=face.origin,
        headers=headers,
        peer=peer,
        certificate=certificate,
        chain=chain,
        body=_NO_BODY if body is None else body,
    )


def following(like: HttpRequest, segment: str, changed: Mapping[str, str], likeness: Likeness) -> HttpRequest:
    """What read() would give for the head of like with another last segment of its path, and other values of headers.

    segment is of letters, digits and '-'. changed are headers that like has, each once, with values of visible ASCII and
    blanks between it; by x-forwarded-for both have the same peer. like has neither query nor body. likeness is what the two
    share.
    """
    headers = {**like.headers, **changed}
    path = like.path[: like.path.rindex("/") + 1] + segment
    return HttpRequest(
        "GET", path, "", like.origin + path, like.origin, headers, like.peer, like.certificate, like.chain,
        _NO_BODY, likeness,
    )  # fmt: skip


def _headers(raw: Sequence[tuple[bytes, bytes]], max_header: int) -> dict[str, str]:
    if len(raw) > _MAX_FIELDS:
        raise RequestError(431, f"more than {_MAX_FIELDS} header fields")
    together = b"".join(chain.from_iterable(raw))
    if len(together) > max_header:
        raise RequestError(431, f"the header fields are longer than {max_header} bytes together")
    is_plain = not together.translate(None, _PLAIN_BYTES)  # one look at all values: hardly one is odd
    found: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name = _name(raw_name) if len(raw_name) <= _KEPT_NAME else _read_name(raw_name)
        if name is None:
            continue  # servers behind us read X_Y and X-Y as one name (attack case 46)
        if (
            not is_plain
            and not _VALUE.fullmatch(raw_value)
            and not (name in _TEXTS and _FREE_TEXT.fullmatch(raw_value))
        ):
            raise RequestError(400, f"the header {name[:60]} holds characters that are not allowed")
        value = raw_value.decode("latin-1").strip(" \t")
        if name not in found:
            found[name] = value
        elif name in _LISTS:
            found[name] = ", ".join(filter(None, (found[name], value)))  # an empty line adds nothing
        elif name == "cookie":
            found[name] = "; ".join(filter(None, (found[name], value)))
        else:
            raise RequestError(400, f"the header {name[:60]} is sent more than once")
    return found


def _read_name(raw_name: bytes) -> str | None:
    """The name of a header field in lower case; None for one with an underscore."""
    if not _NAME.fullmatch(raw_name):
        raise RequestError(400, "the name of a header field holds characters that are not allowed")
    return None if b"_" in raw_name else raw_name.decode("ascii").lower()


_name = lru_cache(1024)(_read_name)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    return _read_address(text) if len(text) <= _LONGEST_ADDRESS else None


@lru_cache(4096)
def _read_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_trusted(address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, face: ListenerFace) -> bool:
    return address is not None and any(address in network for network in face.trusted)


def _client_behind(forwarded_for: str, face: ListenerFace, peer: str) -> str:
    """The right-most address that is not one of our own proxies; peer when there is none or it cannot be read."""
    for text in reversed([part.strip() for part in forwarded_for.split(",") if part.strip()]):
        client = _without_port(text)
        address = _address(client)
        if address is None:
            return peer
        if not face.is_proxy(client):
            return str(address)
    return peer


def _without_port(text: str) -> str:
    """'192.0.2.1:4711' and '[2001:db8::1]:4711', as some proxies write, without the port."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _forwarded_certificate(
    headers: Mapping[str, str], face: ListenerFace
) -> tuple[bytes | None, tuple[bytes, ...]]:
    if face.certificate_header is None or face.certificate_form is None:
        return None, ()
    value = headers.get(face.certificate_header, "")
    chain = headers.get("client-cert-chain") if face.certificate_form == "rfc9440" else None
    try:
        return from_header(face.certificate_form, value, chain)
    except OAuthError as error:
        raise RequestError(400, "the certificate header of the proxy cannot be read") from error


def json_answer(status: int, value: object, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """An answer of JSON that nobody stores."""
    return Answer(status, (_JSON, *NO_STORE, *headers), compact_json(value))


def error_answer(error: OAuthError, headers: tuple[tuple[str, str], ...] = (), *, scheme: str = "") -> Answer:
    """The error as JSON (RFC 6749 5.2), with headers such as DPoP-Nonce.

    scheme is that of the request's Authorization header. invalid_client is 401 with a challenge where one was used
    and 400 elsewhere: no HTTP scheme belongs to assertions and certificates, and 401 must name one (RFC 9110 15.5.2).
    """
    status = error.status
    if error.code is ErrorCode.INVALID_CLIENT:
        status = 401 if scheme else 400
    if status == 401:
        headers = (*headers, ("WWW-Authenticate", _challenge(error, scheme)))
    if status in (429, 503):
        seconds = error.retry_after_seconds or (2 if status == 503 else 600)
        headers = (*headers, ("Retry-After", str(seconds)))
    value = {"error": str(error.code), "error_description": error.description, **error.fields}
    return json_answer(status, value, headers)


def _challenge(error: OAuthError, scheme: str) -> str:
    """WWW-Authenticate: no error for who showed nothing (RFC 6750 3.1), a realm with Basic (RFC 7617 2)."""
    if not scheme:
        return "Bearer"
    said = scheme if _SCHEME.fullmatch(scheme) else "Bearer"
    realm = 'realm="clients", ' if said.lower() == "basic" else ""
    return f'{said} {realm}error="{error.code}"'


def method_not_allowed(allowed: Sequence[str]) -> Answer:
    """405 with Allow."""
    value = {
        "error": str(ErrorCode.INVALID_REQUEST),
        "error_description": "allowed here: " + ", ".join(allowed),
    }
    return json_answer(405, value, (("Allow", ", ".join(allowed)),))


async def read_form(request: HttpRequest, *, limit_bytes: int = 64 * 1024) -> bytes:
    """The body of a form. Raises OAuthError(INVALID_REQUEST) for another media type (T5), RequestError(413)."""
    said = request.headers.get("content-type", "")
    if said != _FORM and said.partition(";")[0].strip().lower() != _FORM:
        raise OAuthError(ErrorCode.INVALID_REQUEST, "the body must be application/x-www-form-urlencoded")
    return await request.body.read(limit_bytes)


async def read_json(
    request: HttpRequest, otherwise: ErrorCode = ErrorCode.INVALID_REQUEST, *, limit_bytes: int
) -> bytes:
    """The body of a JSON document. Raises OAuthError(otherwise) for another media type, RequestError(413)."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise OAuthError(otherwise, "the body must be application/json")
    return await request.body.read(limit_bytes)
