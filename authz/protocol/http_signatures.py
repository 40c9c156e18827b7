"""HTTP message signatures on responses: RFC 9421, with Content-Digest (RFC 9530), as FAPI 2.0 HTTP Signatures asks.

A signature covers components: fields by their names, and what RFC 9421 2.2 derives from the message. Each is a line
of the signature base; the last line says which they were, in which order, when it was signed and with which key.
With ;req a component is taken from the request that is answered, so that no signature fits the answer to another
request; with ;tr from the trailer section, where fields stand that are known only when the body is out.
"""

import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256, sha512
from urllib.parse import urlsplit

from authz.protocol.structured_fields import (
    BareItem,
    InnerList,
    Item,
    StructuredFieldError,
    read_dictionary,
    write_dictionary,
    write_inner_list,
    write_item,
)

TAG = "fapi-2-response"
DEFAULT_LABEL = "fapi"
CONTENT_DIGEST, SIGNATURE_INPUT, SIGNATURE = "Content-Digest", "Signature-Input", "Signature"
# RFC 9421 6.2.2. PS256 is not among them: such a signature has no alg, the JWK of its keyid says PS256 (3.3.7).
REGISTERED_ALGORITHMS: Mapping[str, str] = {
    "ES256": "ecdsa-p256-sha256",
    "EdDSA": "ed25519",
    "Ed25519": "ed25519",
}
DIGESTS = {"sha-256": sha256, "sha-512": sha512}  # the active ones of RFC 9530 7.2
_COVERED = ("x-fapi-interaction-id", "etag", "last-modified", "location", "content-location")
_MAX_ASKED = 32  # components that a caller may ask for
_MAX_NONCE = 256
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"@?[!#$%&'*+\-.^_`|~0-9a-z]+")
_FOLD = re.compile(r"[ \t]*\r?\n[ \t]+")
_VALUE = re.compile(r"[\t -~]*")


class MessageSignatureError(ValueError):
    """A message that cannot be signed as asked: a component that it does not have, or that has no one text."""


@dataclass(frozen=True, slots=True)
class Component:
    """A component identifier (RFC 9421 1.1, 2): name in lower case, of_request is ;req, of_trailer is ;tr."""

    name: str
    of_request: bool = False
    of_trailer: bool = False

    def item(self) -> Item:
        """The identifier as a structured field Item."""
        parameters: dict[str, BareItem] = {}
        if self.of_request:
            parameters["req"] = True
        if self.of_trailer:
            parameters["tr"] = True
        return Item(self.name, parameters)


@dataclass(frozen=True, slots=True)
class Message:
    """What components are taken from. A request has method and target_uri, a response has status."""

    fields: Sequence[tuple[str, str]] = ()
    trailers: Sequence[tuple[str, str]] = ()
    status: int | None = None
    method: str | None = None
    target_uri: str | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What a member of Accept-Signature asks for beyond our own profile (RFC 9421 5)."""

    label: str
    components: tuple[Component, ...] = ()
    nonce: str | None = None


def signature_base(
    components: Sequence[Component],
    parameters: Mapping[str, BareItem],
    message: Message,
    request: Message | None,
) -> bytes:
    """The bytes that are signed (RFC 9421 2.5). Raises MessageSignatureError."""
    if len(set(components)) != len(components):
        raise MessageSignatureError("a component is covered twice")
    lines = []
    for component in components:
        value = component_value(component, message, request)
        lines.append(f"{write_item(component.item())}: {value}")
    lines.append(f'"@signature-params": {signature_parameters(components, parameters)}')
    return "\n".join(lines).encode("ascii")


def signature_parameters(components: Sequence[Component], parameters: Mapping[str, BareItem]) -> str:
    """The covered components and the parameters, as the signature base and Signature-Input say them (2.3, 4.1)."""
    return write_inner_list(_inner_list(components, parameters))


def signature_fields(
    label: str, components: Sequence[Component], parameters: Mapping[str, BareItem], signature: bytes
) -> tuple[tuple[str, str], tuple[str, str]]:
    """Signature-Input and Signature with this one signature (RFC 9421 4.1, 4.2)."""
    return (
        (SIGNATURE_INPUT, write_dictionary({label: _inner_list(components, parameters)})),
        (SIGNATURE, write_dictionary({label: Item(signature)})),
    )


def _inner_list(components: Sequence[Component], parameters: Mapping[str, BareItem]) -> InnerList:
    return InnerList(tuple(component.item() for component in components), parameters)


def component_value(component: Component, message: Message, request: Message | None) -> str:
    """The value of a component: printable ASCII in one line. Raises MessageSignatureError."""
    if not _NAME.fullmatch(component.name) or component.name == "@signature-params":
        raise MessageSignatureError("this component cannot be covered")
    source = message
    if component.of_request:
        if request is None:
            raise MessageSignatureError("there is no request to take a component from")
        source = request
    if component.name.startswith("@"):
        value = _derived(component, source)
    else:
        value = field_value(component.name, source.trailers if component.of_trailer else source.fields)
    if not _VALUE.fullmatch(value):
        # RFC 9421 2.5: a line break in a value would begin a line that no component has.
        raise MessageSignatureError("the value of a component is not printable ASCII in one line")
    return value


def field_value(name: str, fields: Iterable[tuple[str, str]]) -> str:
    """The values of a field as one, in their order (RFC 9421 2.1). Raises MessageSignatureError without the field."""
    values = [_FOLD.sub(" ", value.strip(" \t\r\n")) for said, value in fields if said.lower() == name]
    if not values:
        raise MessageSignatureError("the message does not have this field")
    return ", ".join(values)


def _derived(component: Component, source: Message) -> str:
    """RFC 9421 2.2."""
    if component.of_trailer:
        raise MessageSignatureError("a derived component is never in the trailer section")
    if component.name == "@status" and source.status is not None:
        return f"{source.status:03d}"
    if source.method is None or source.target_uri is None:
        raise MessageSignatureError("this component cannot be derived from this message")
    parts = urlsplit(source.target_uri)
    match component.name:
        case "@method":
            return source.method
        case "@target-uri":
            return source.target_uri
        case "@scheme":
            return parts.scheme.lower()
        case "@authority":
            host = parts.netloc.rpartition("@")[2].lower()
            return host.removesuffix(f":{_DEFAULT_PORTS.get(parts.scheme.lower())}")
        case "@path":
            return parts.path or "/"
        case "@query":
            return f"?{parts.query}"
        case _:
            raise MessageSignatureError("this component cannot be derived from this message")


def response_components(
    response: Message, request: Message, *, digest_in_trailer: bool, digest_of_request: bool
) -> tuple[Component, ...]:
    """What a FAPI response signature covers (FAPI 2.0 HTTP Signatures 5.3.2.1).

    The status, the digest of the content, the fields that say what the content is, and of the request its method and
    URI, its digest where it was compared with the body, and its own signature. Neither the token nor the proof:
    whoever keeps a signature as evidence need not keep secrets with it.
    """
    present = {name.lower() for name, _ in response.fields}
    covered = [Component("@status")]
    covered += [Component("content-type")] if "content-type" in present else []
    if digest_in_trailer:
        covered.append(Component("content-digest", of_trailer=True))
    elif "content-digest" in present:
        covered.append(Component("content-digest"))
    covered += [Component(name) for name in _COVERED if name in present]
    covered += [Component("@method", of_request=True), Component("@target-uri", of_request=True)]
    if digest_of_request:
        covered.append(Component("content-digest", of_request=True))
    sent = {name.lower() for name, _ in request.fields}
    if {"signature", "signature-input"} <= sent:
        covered += [Component("signature", of_request=True), Component("signature-input", of_request=True)]
    return tuple(covered)


def with_wish(
    covered: tuple[Component, ...], wish: Wish, response: Message, request: Message
) -> tuple[Component, ...] | None:
    """What is covered with the components that were asked for; None when the message does not have them all.

    Wider than RFC 9421 5.2, where the covered components are those that were asked for: the profile's own are covered
    whatever is asked. A caller cannot know whether the digest will be in the trailer section: either answers both.
    """
    digests = {Component("content-digest"), Component("content-digest", of_trailer=True)}
    held = {*covered, *digests} if digests & set(covered) else set(covered)
    more = tuple(dict.fromkeys(component for component in wish.components if component not in held))
    try:
        for component in more:
            component_value(component, response, request)
    except MessageSignatureError:
        return None
    return covered + more


def response_parameters(
    *, created: int, keyid: str, algorithm: str, nonce: str | None = None
) -> dict[str, BareItem]:
    """The parameters of a response signature by a key of that JWS algorithm (RFC 9421 2.3)."""
    found: dict[str, BareItem] = {"created": created, "keyid": keyid}
    if algorithm in REGISTERED_ALGORITHMS:
        found["alg"] = REGISTERED_ALGORITHMS[algorithm]
    if nonce is not None:
        found["nonce"] = nonce
    return {**found, "tag": TAG}


def read_wish(accept_signature: str, *, keyid: str, algorithm: str) -> Wish | None:
    """The first member of Accept-Signature that a signature by this key can fulfil (RFC 9421 5.1, 5.2); else None.

    A member that asks for another tag, key or algorithm, for an end of validity, or for components in a form that is
    not signed here is passed over, as RFC 9421 5.2 allows; so is a field that cannot be read.
    """
    try:
        members = read_dictionary(accept_signature)
    except StructuredFieldError:
        return None
    for label, member in members.items():
        if isinstance(member, InnerList):
            components = _asked_components(member)
            if components is not None and _is_fulfillable(member.parameters, keyid, algorithm):
                nonce = member.parameters.get("nonce")
                return Wish(label, components, nonce if isinstance(nonce, str) else None)
    return None


def _asked_components(member: InnerList) -> tuple[Component, ...] | None:
    found = []
    for item in member.items:
        flags = dict(item.parameters)
        of_request, of_trailer = flags.pop("req", False), flags.pop("tr", False)
        if flags or not isinstance(item.value, str):
            return None
        if not (isinstance(of_request, bool) and isinstance(of_trailer, bool)):
            return None
        found.append(Component(item.value, of_request, of_trailer))
    return tuple(found) if len(found) <= _MAX_ASKED else None


def _is_fulfillable(asked: Mapping[str, BareItem], keyid: str, algorithm: str) -> bool:
    nonce = asked.get("nonce", "")
    return (
        asked.keys() <= {"created", "keyid", "alg", "nonce", "tag"}
        and asked.get("created", True) is True
        and asked.get("keyid", keyid) == keyid
        and ("alg" not in asked or asked["alg"] == REGISTERED_ALGORITHMS.get(algorithm))
        and asked.get("tag", TAG) == TAG
        and isinstance(nonce, str)
        and len(nonce) <= _MAX_NONCE
    )


def content_digest(digest: bytes) -> str:
    """The value of Content-Digest for a SHA-256 digest (RFC 9530 2)."""
    return f"sha-256=:{binascii.b2a_base64(digest, newline=False).decode('ascii')}:"


def read_content_digest(value: str) -> dict[str, bytes]:
    """The digests of a Content-Digest by algorithms that are known here (RFC 9530 2). Raises StructuredFieldError."""
    found = {}
    for name, member in read_dictionary(value).items():
        if isinstance(member, InnerList) or not isinstance(member.value, bytes):
            raise StructuredFieldError("a digest is a Byte Sequence")
        if name in DIGESTS:
            found[name] = member.value
    return found
