"""Playing a row: its request, the five assertions that every case makes, and what the row itself says.

1. The marker of other people is nowhere in the answer, raw, unescaped, in base64 or compressed.
2. Of a refusal the store saw nothing, or the reads that the decision needed.
3. There is exactly one record, with who, what, the decision, its rules and reason, the policies and what went out.
4. An error is an OperationOutcome that names neither the store nor ids that the caller did not send.
5. The permitted twin succeeds.
"""

import base64
import json
import re
import zlib
from typing import Any

from tests.attacks.table.rows import LISTENER, Ask, Row
from tests.support.gateway import MOUNT, Reply, RunningGateway
from tests.support.world import SECRET

_FOREIGN = ("Patient/B", "Patient/C", "Observation/b1", "Task/b", "Binary/b", "Encounter/eb")
_STORE = ("upstream-product", "aiohttp", "JSESSIONID", "Traceback", "http://127.0.0.1", "127.0.0.1:")
_READS = ("GET ",)
_VOLATILE = frozenset({"x-fapi-interaction-id", "date", "dpop-nonce"})
_UNAUTHENTICATED = frozenset({"token-missing", "token-invalid", "proof-invalid", "nonce-required"})


async def send(gateway: RunningGateway, asked: Ask) -> Reply:
    """The answer to a request, with the token and the proof of its caller."""
    place = asked.place.replace("{origin}", gateway.origin)
    target = place if place.startswith(("https:", "//", "/fhir", "*")) else MOUNT + place
    headers = [(name, value.replace("{origin}", gateway.origin)) for name, value in asked.headers]
    body = asked.body.replace(b"{origin}", gateway.origin.encode())
    body = body.replace(b"{store}", gateway.upstream.base.encode())
    if asked.who is not None:
        token = await gateway.token(asked.who, **asked.claims)
        htu = gateway.origin + target.partition("?")[0].partition("#")[0]
        proof = gateway.proof(asked.method, htu, token)
        headers = [("Authorization", f"DPoP {token}"), ("DPoP", proof), *headers]
    return await gateway.send(asked.method, target, headers, body)


async def play(gateway: RunningGateway, row: Row) -> None:
    """Play a row and its twin. Raises AssertionError."""
    store = gateway.upstream
    store.reset()
    if row.store is not None:
        row.store(store)
    before = len(await gateway.audit())
    reply = await send(gateway, row.ask)
    assert reply.status in row.status, (reply.status, reply.raw[:900], [str(r) for r in store.requests])
    if not row.sees:
        check_no_marker(reply)
    if reply.status >= 400:
        check_outcome(reply, row)
    check_sent(gateway, row, reply)
    records = [r for r in (await gateway.audit())[before:] if r.get("event") == "access"]
    check_record(records, row, reply)
    for text in row.holds:
        assert text in reply.body.decode(), (text, reply.body[:900])
    for text in row.hides:
        assert text not in reply.raw.decode("latin-1"), (text, reply.raw[:900])
    if row.shows is not None:
        assert shown(reply) == row.shows
    if row.check is not None:
        row.check(gateway, reply)
    if row.same_as is not None:
        await check_same(gateway, row, reply)
    if row.twin is not None:
        await check_twin(gateway, row)


def shown(reply: Reply) -> set[str]:
    """The resources in an answer's Bundle."""
    entries = [entry["resource"] for entry in reply.json.get("entry", []) if "resource" in entry]
    return {f"{resource['resourceType']}/{resource['id']}" for resource in entries}


def check_no_marker(reply: Reply) -> None:
    """Assertion 1."""
    for raw in _readings(reply):
        assert SECRET.encode() not in raw, raw[:900]
        for shift in range(3):  # where in three bytes the marker may begin
            encoded = base64.b64encode(b"\0" * shift + SECRET.encode())
            assert encoded[4 : -4 or None] not in raw, raw[:900]


def _readings(reply: Reply) -> list[bytes]:
    found = [reply.raw, reply.body]
    if reply.body[:2] == b"\x1f\x8b":
        found.append(zlib.decompress(reply.body, wbits=31))
    escaped = re.compile(rb"\\u([0-9A-Fa-f]{4})")
    plain = [escaped.sub(lambda m: chr(int(m[1], 16)).encode("utf-8", "replace"), raw) for raw in found]
    return [*found, *plain]


def check_outcome(reply: Reply, row: Row) -> None:
    """Assertion 4."""
    check_no_store(reply)
    said = f"{row.ask.line} {row.ask.body.decode('latin-1')}"
    for foreign in _FOREIGN:
        id_ = foreign.partition("/")[2]
        assert foreign not in reply.raw.decode("latin-1") or id_ in said, reply.raw[:900]
    if row.reason == LISTENER or row.ask.method == "HEAD":
        return
    if row.reason is not None:
        assert reply_reason(reply) == row.reason, reply.raw[:900]
    assert "OperationOutcome" in reply.body.decode(), reply.raw[:900]


def check_no_store(reply: Reply) -> None:
    """Nothing in the answer tells of the store."""
    for text in _STORE:
        assert text not in reply.raw.decode("latin-1"), reply.raw[:900]


def reply_reason(reply: Reply) -> str | None:
    """The reason code of an outcome in JSON or XML."""
    if reply.body.startswith(b"<"):
        found = re.search(rb'<code value="([a-z-]+)"/></coding>', reply.body)
        return found[1].decode() if found else None
    return reply.reason


def check_sent(gateway: RunningGateway, row: Row, reply: Reply) -> None:
    """Assertion 2, and that nothing of the caller's credentials went upstream."""
    seen = [str(r).replace(" /fhir/", " ", 1).replace(" /fhir", " ", 1) for r in gateway.upstream.requests]
    sent = seen if row.sent is None else row.sent
    assert len(seen) == len(sent), (seen, sent)
    for said, wanted in zip(seen, sent, strict=True):
        matches = said.startswith(wanted[:-1]) if wanted.endswith("*") else said == wanted
        assert matches, (seen, row.sent)
    if reply.status in (401, 403, 404) and row.store is None:
        assert all(text.startswith(_READS) for text in seen), seen
    for request in gateway.upstream.requests:
        assert not set(row.unsent) & request.headers.keys()
        assert not {"authorization", "dpop", "cookie"} & request.headers.keys()


def check_record(records: list[dict[str, Any]], row: Row, reply: Reply) -> None:
    """Assertion 3."""
    if row.reason == LISTENER:
        assert len(records) <= 1, records
        return
    assert len(records) == 1, records
    (record,) = records
    assert record["status"] == reply.status
    assert record["method"] == row.ask.method
    assert record["decision"] in ("permit", "deny", "refused"), record
    if reply.status >= 400:
        if row.ask.method != "HEAD":
            assert record["reason"] == reply_reason(reply), record
    else:
        assert record["decision"] == "permit", record
        if row.ask.place.startswith("/metadata"):  # which is for everybody: nobody looks who asks
            return
        assert record["rules"], record
    if row.ask.who is None or record.get("reason") in _UNAUTHENTICATED:
        return
    if "caller" in record:
        assert record["caller"]["subject"] == row.ask.claims.get("sub", row.ask.who), record
        assert record["policies"], record
        assert record["request"].keys() >= {"type", "id", "parameters"}, record
    else:
        assert record["decision"] == "refused", (
            record
        )  # what was asked had no reading: nobody looked who asks
    if row.shows:
        assert record["entries"]["shown"] == len(row.shows), record


async def check_same(gateway: RunningGateway, row: Row, reply: Reply) -> None:
    """What a stranger's resource and one that nobody has are answered with is one text."""
    assert row.same_as is not None
    told = row.ask
    method, _, place = row.same_as.partition(" ")
    other = await send(gateway, Ask(f"{method} {place}", told.who, told.headers, told.body, told.claims))
    assert (other.status, other.body) == (reply.status, reply.body)
    names = [[h for h in r.headers if h[0].lower() not in _VOLATILE] for r in (reply, other)]
    assert names[0] == names[1]


async def check_twin(gateway: RunningGateway, row: Row) -> None:
    """Assertion 5."""
    assert row.twin is not None
    gateway.upstream.reset()
    if row.twin_store is not None:
        row.twin_store(gateway.upstream)
    reply = await send(gateway, row.twin)
    seen = [str(r).replace(" /fhir/", " ", 1) for r in gateway.upstream.requests]
    assert 200 <= reply.status < 300, (row.twin.line, reply.raw[:900], seen)
    if row.twin_sent is not None:
        assert seen == list(row.twin_sent), seen
    if not row.sees:
        check_no_marker(reply)


def outcome_of(reply: Reply) -> dict[str, Any]:
    """The first issue of an OperationOutcome in JSON."""
    issue: dict[str, Any] = json.loads(reply.body)["issue"][0]
    return issue
