"""`then` of a rule: what follows from a permit, with every mistake at its place."""

import re

from gateway.fhir.interaction import Interaction
from gateway.policy.obligations import NOTHING_MORE, Rate, Then
from gateway.policy.reading.reader import Reader
from gateway.policy.rules import Effect
from gateway.yaml_source import Entry, Mapping, did_you_mean

AUDIT_LEVELS = ("basic", "standard", "full")
_HEADERS = ("headers", "answer_headers", "header_to_client")  # three words for one thing
_PERMIT_ONLY = ("rate", "notify", "answer", *_HEADERS)
_WRITES = frozenset({Interaction.CREATE, Interaction.UPDATE, Interaction.PATCH, Interaction.DELETE})
_RATE = re.compile(r"([1-9][0-9]{0,5})/(s|min|h|d)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_RECEIVER = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
# RFC 9110 5.5, without the bytes that are read in several ways
_VALUE = re.compile(r"[!-~](?:[ -~]{0,198}[!-~])?")
# Headers that say what an answer is, where it is, who may keep or read it, or how a token is proven.
_OURS = frozenset(
    {
        "age", "allow", "alt-svc", "cache-control", "clear-site-data", "connection", "content-digest",
        "content-encoding", "content-length", "content-location", "content-range", "content-type", "date",
        "dpop-nonce", "etag", "expires", "feature-policy", "keep-alive", "last-modified", "link", "location", "nel",
        "permissions-policy", "pragma", "preference-applied", "public-key-pins", "referrer-policy", "refresh",
        "report-to", "reporting-endpoints", "retry-after", "server", "set-cookie", "set-cookie2", "signature",
        "signature-input", "sourcemap", "strict-transport-security", "te", "timing-allow-origin", "trailer",
        "transfer-encoding", "upgrade", "vary", "via", "www-authenticate", "x-content-type-options",
        "x-fapi-interaction-id", "x-frame-options", "x-request-id", "x-xss-protection", "repr-digest", "digest",
        "accept-ranges", "authorization", "cookie", "dpop", "host", "x-download-options", "x-dns-prefetch-control",
    }
)  # fmt: skip
_OURS_BEGIN = (
    "access-control-", "accept", "content-security-policy", "cross-origin-", "origin-agent", "proxy-", "sec-",
    "x-permitted-", "forwarded", "x-forwarded-", "if-", "authentication-",
)  # fmt: skip


def read_then(reader: Reader, body: Mapping, effect: Effect, may: frozenset[Interaction]) -> tuple[str, Then]:
    """The audit level of a rule, and what else follows from it."""
    then = reader.mapping(body.node("then"), "then")
    if then is None:
        return "standard", NOTHING_MORE
    reader.keys(then, "then", ("audit", *_PERMIT_ONLY))
    audit = reader.word(then.node("audit"), "audit level", AUDIT_LEVELS) or "standard"
    if effect is not Effect.PERMIT:
        for entry in then:
            if entry.key in _PERMIT_ONLY:
                reader.problem(
                    entry, f"'{entry.key}' follows from a permit: a {effect} answers with a refusal"
                )
        return audit, NOTHING_MORE
    return audit, Then(
        rate=_rate(reader, then),
        notify=_notify(reader, then),
        minimal=_minimal(reader, then, may),
        headers=_headers(reader, then),
    )


def _rate(reader: Reader, then: Mapping) -> Rate | None:
    node = then.node("rate")
    text = reader.text(node, "rate")
    match = _RATE.fullmatch(text)
    if match is not None:
        return Rate(int(match[1]), _SECONDS[match[2]])
    if node is not None and text:
        reader.problem(
            node, f"rate is '{text}', expected a number in a time, such as 5/s, 30/min, 1000/h or 500/d"
        )
    return None


def _notify(reader: Reader, then: Mapping) -> tuple[str, ...]:
    node = then.node("notify")
    found: dict[str, None] = {}
    for item in reader.items(node, "notify"):
        text = reader.text(item, "receiver")
        if text and not _RECEIVER.fullmatch(text):
            reader.problem(item, f"'{text}' is no name of a receiver: letters, digits, '.', '_' and '-'")
        elif text in found:
            reader.problem(item, f"receiver '{text}' is named twice")
        elif text:
            found[text] = None
    if node is not None and not reader.items(node, "notify"):
        reader.problem(node, "'notify' names nobody")
    return tuple(found)


def _minimal(reader: Reader, then: Mapping, may: frozenset[Interaction]) -> bool:
    node = then.node("answer")
    minimal = reader.word(node, "answer", ("minimal",)) == "minimal"
    if minimal and node is not None and not may & _WRITES:
        reader.problem(
            node, "'answer: minimal' is about writes: add create, update or patch to may, or take it away"
        )
    return minimal


def _headers(reader: Reader, then: Mapping) -> tuple[tuple[str, str], ...]:
    found: dict[str, tuple[str, str]] = {}
    for key in _HEADERS:
        for entry in reader.mapping(then.node(key), key) or ():
            header = _header(reader, entry)
            if header is None:
                continue
            if header[0].lower() in found:
                reader.problem(entry, f"header '{entry.key}' is given twice")
            found[header[0].lower()] = header
    return tuple(found.values())


def _header(reader: Reader, entry: Entry) -> tuple[str, str] | None:
    name, value = entry.key, reader.text(entry.value, f"header {entry.key}")
    if not _NAME.fullmatch(name):
        reader.problem(entry, f"'{name}' is no name of a header: letters, digits and '-'")
        return None
    if name.lower() in _OURS or name.lower().startswith(_OURS_BEGIN):
        reader.problem(
            entry, f"header '{name}' is set by the gateway: a rule does not change it{_other(name)}"
        )
        return None
    if value and not _VALUE.fullmatch(value):
        reader.problem(entry, f"header {name} must be one line of 1 to 200 printable ASCII characters")
        return None
    return (name, value) if value else None


def _other(name: str) -> str:
    found = did_you_mean(name, ("Content-Disposition", "Content-Language"))
    return f".{found}" if found else ""
