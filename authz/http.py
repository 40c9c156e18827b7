"""One strict reading of an HTTP request, and the ways an answer of the authorization server is rendered.

read() is the only place that looks at a raw request line and raw headers. What two programs could read in two
ways is refused here, before any door sees it: repeated headers that have one value, targets that are not a plain
path, both framings at once, bytes outside ASCII.
"""

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from authz.protocol.certificates import from_header
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.request import Answer, Body, EmptyBody, HttpRequest, RequestError

_TARGET = re.compile(r"/[!-~]*")
_NAME = re.compile(rb"[!#$%&'*+\-.^`|~0-9A-Za-z]+")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LISTS = frozenset(
    {
        "accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "connection", "cookie",
        "forwarded", "if-match", "if-none-match", "pragma", "prefer", "te", "trailer", "upgrade", "via", "warning",
        "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port",
    }
)  # fmt: skip
_MAX_FIELDS = 100
NO_STORE: tuple[tuple[str, str], ...] = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))
_JSON = ("Content-Type", "application/json")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class ListenerFace:
    """What a listener is to the outside. origin is configuration; nothing a caller sends changes it."""

    origin: str
    trusted: tuple[Network, ...] = ()
    certificate_header: str | None = None
    certificate_form: str | None = None
    chain_header: str = "client-cert-chain"
    names: frozenset[str] = field(default=frozenset())


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
    path, separator, query = target.partition("?")
    if not _TARGET.fullmatch(target) or "#" in target:
        raise RequestError(400, "the request target must be a path in ASCII, with percent-encoding")
    headers = _headers(raw_headers, max_header)
    if "transfer-encoding" in headers and "content-length" in headers:
        raise RequestError(400, "a request has either Content-Length or Transfer-Encoding")
    peer = peer_address
    address = _address(peer_address)
    is_proxy = address is not None and any(address in network for network in face.trusted)
    if is_proxy:
        peer = _client_behind(headers.get("x-forwarded-for", ""), face, peer_address)
        if face.certificate_header is not None and face.certificate_form is not None:
            certificate, chain = _forwarded_certificate(headers, face)
    return HttpRequest(
        method=method,
        path=path,
        query=query if separator else "",
        url=face.origin + path,
        origin=face.origin,
        headers=headers,
        peer=peer,
        certificate=certificate,
        chain=chain,
        body=EmptyBody() if body is None else body,
    )


def _headers(raw: Sequence[tuple[bytes, bytes]], max_header: int) -> dict[str, str]:
    if len(raw) > _MAX_FIELDS:
        raise RequestError(431, f"more than {_MAX_FIELDS} header fields")
    if sum(len(name) + len(value) for name, value in raw) > max_header:
        raise RequestError(431, f"the header fields are longer than {max_header} bytes together")
    found: dict[str, str] = {}
    for raw_name, raw_value in raw:
        if b"_" in raw_name:
            continue  # servers behind us read X_Y and X-Y as one name (attack case 46)
        if not _NAME.fullmatch(raw_name) or _BAD_VALUE.search(raw_value):
            raise RequestError(400, "a header field holds characters that are not allowed")
        name = raw_name.decode("ascii").lower()
        value = raw_value.decode("latin-1").strip(" \t")
        if name not in found:
            found[name] = value
        elif name in _LISTS:
            found[name] = f"{found[name]}, {value}"
        else:
            raise RequestError(400, f"the header {name} is sent more than once")
    return found


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _client_behind(forwarded_for: str, face: ListenerFace, peer: str) -> str:
    """The right-most address that is not one of our own proxies."""
    for text in reversed([part.strip() for part in forwarded_for.split(",") if part.strip()]):
        address = _address(text)
        if address is None:
            return peer
        if not any(address in network for network in face.trusted):
            return str(address)
    return peer


def _forwarded_certificate(
    headers: Mapping[str, str], face: ListenerFace
) -> tuple[bytes | None, tuple[bytes, ...]]:
    value = headers.get(face.certificate_header or "")
    if not value or face.certificate_form is None:
        return None, ()
    try:
        if face.certificate_form == "rfc9440" and face.chain_header in headers:
            return from_header(face.certificate_form, value, headers[face.chain_header])
        return from_header(face.certificate_form, value)
    except OAuthError as error:
        raise RequestError(400, "the certificate header of the proxy cannot be read") from error


def json_answer(status: int, value: object, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """An answer of JSON that nobody stores."""
    content = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Answer(status, (_JSON, *NO_STORE, *headers), content)


def error_answer(error: OAuthError, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """The error as JSON (RFC 6749 5.2), with headers such as DPoP-Nonce."""
    value = {"error": str(error.code), "error_description": error.description, **error.fields}
    if error.status == 401:
        headers = (*headers, ("WWW-Authenticate", f'DPoP error="{error.code}"'))
    if error.status == 503:
        headers = (*headers, ("Retry-After", "2"))
    return json_answer(error.status, value, headers)


def method_not_allowed(allowed: Sequence[str]) -> Answer:
    """405 with Allow."""
    value = {
        "error": str(ErrorCode.INVALID_REQUEST),
        "error_description": "allowed here: " + ", ".join(allowed),
    }
    return json_answer(405, value, (("Allow", ", ".join(allowed)),))


async def read_form(request: HttpRequest, *, limit_bytes: int = 64 * 1024) -> bytes:
    """The body of a form. Raises OAuthError(INVALID_REQUEST) for another media type (T5), RequestError(413)."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise OAuthError(
            ErrorCode.INVALID_REQUEST, "the body must be application/x-www-form-urlencoded", status=400
        )
    return await request.body.read(limit_bytes)
