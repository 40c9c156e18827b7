"""/consents: plain JSON over the passage to Consent, and receipts that the published keys prove."""

import json
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import jwt
import pytest
import pytest_asyncio

from authz.protocol.encoding import base64url
from tests.support.consent_desk import at_desk, start_desk
from tests.support.gateway import Reply, RunningGateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
PLAIN = {
    "patient": "A",
    "decision": "permit",
    "scope": "research",
    "actors": ["urn:study:dm2"],
    "purposes": ["HRESCH"],
    "policy": ["urn:h1:policy"],
    "given_at": "2026-05-01",
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    running = await start_desk(tmp_path_factory.mktemp("api"))
    yield running
    await stop_gateway(running)


async def api(gateway: RunningGateway, method: str, path: str = "", body: Any = None, **more: Any) -> Reply:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    headers |= more.pop("headers", {})
    return await at_desk(gateway, method, f"/consents{path}", body, headers=headers, **more)


async def made(gateway: RunningGateway, **more: Any) -> dict[str, Any]:
    reply = await api(gateway, "POST", "", PLAIN | more)
    assert reply.status == 201, reply.raw
    assert reply.header("Location") == f"/consents/{reply.json['id']}"
    value: dict[str, Any] = reply.json
    return value


async def test_a_consent_is_made_read_and_is_the_same_as_fhir(gateway: RunningGateway) -> None:
    exceptions = [{"decision": "deny", "types": ["Condition"], "period": {"start": "2026-01-01"}}]
    value = await made(gateway, exceptions=exceptions)
    assert value["version"] == 1
    assert "source is missing" in value["advice"]
    read = await api(gateway, "GET", f"/{value['id']}")
    assert read.status == 200, read.raw
    assert read.json == {name: inner for name, inner in value.items() if name != "advice"}
    assert PLAIN.items() <= read.json.items()
    assert read.json["exceptions"] == exceptions
    fhir = await at_desk(gateway, "GET", f"/Consent/{value['id']}")
    assert fhir.json["provision"]["actor"][0]["reference"] == {"identifier": {"value": "urn:study:dm2"}}
    assert fhir.json["provision"]["provision"][0]["class"][0]["code"] == "Condition"


async def test_an_amendment_changes_what_it_names_and_keeps_the_rest(gateway: RunningGateway) -> None:
    value = await made(gateway)
    reply = await api(gateway, "PATCH", f"/{value['id']}", {"purposes": ["TREAT"]})
    assert (reply.status, reply.json["version"], reply.json["purposes"]) == (200, 2, ["TREAT"]), reply.raw
    assert reply.json["actors"] == PLAIN["actors"]
    weighed = json.dumps((await at_desk(gateway, "GET", f"/Consent/{value['id']}")).json)
    weighed = weighed[:-1] + ', "extension": [{"url": "urn:weight", "valueDecimal": 1.10}]}'
    assert (await at_desk(gateway, "PUT", f"/Consent/{value['id']}", weighed.encode())).status == 200
    assert (await api(gateway, "PATCH", f"/{value['id']}", {"purposes": ["HRESCH"]})).status == 200
    assert b'"valueDecimal":1.10' in (await at_desk(gateway, "GET", f"/Consent/{value['id']}")).body
    stale = await api(
        gateway, "PATCH", f"/{value['id']}", {"purposes": ["HRESCH"]}, headers={"If-Match": 'W/"1"'}
    )
    assert (stale.status, stale.json["error"]) == (412, "version-conflict")


async def test_a_revocation_says_why_and_is_in_the_history_and_in_force(gateway: RunningGateway) -> None:
    gateway.upstream.resources["Patient/R"] = {"resourceType": "Patient", "id": "R"}
    value = await made(gateway, patient="R", purposes=[])
    assert (await at_desk(gateway, "GET", "/Patient/R", role="researcher")).status == 200
    for body in ({}, {"reason": ""}, {"reason": "x", "more": 1}):
        assert (await api(gateway, "POST", f"/{value['id']}/revoke", body)).status == 400
    revoked = await api(gateway, "POST", f"/{value['id']}/revoke", {"reason": "changed my mind"})
    assert (revoked.status, revoked.json["status"]) == (200, "inactive"), revoked.raw
    assert (await at_desk(gateway, "GET", "/Patient/R", role="researcher")).status == 403
    history = await api(gateway, "GET", f"/{value['id']}/history")
    assert [(each["version"], each["status"]) for each in history.json["versions"]] == [
        (2, "inactive"),
        (1, "active"),
    ]
    assert history.json["versions"][0]["reason"] == "changed my mind"
    again = await api(gateway, "POST", f"/{value['id']}/revoke", {"reason": "again"})
    assert (again.status, again.json["error"]) == (409, "consent-status")


async def test_a_list_is_a_search_with_its_pages(gateway: RunningGateway) -> None:
    gateway.upstream.resources["Patient/L"] = {"resourceType": "Patient", "id": "L"}
    ids = {(await made(gateway, patient="L"))["id"] for _ in range(3)}
    first = await api(gateway, "GET", "?patient=L&count=2&status=active")
    second = await api(gateway, "GET", first.json["next"].removeprefix("/consents"))
    found = [each["id"] for reply in (first, second) for each in reply.json["consents"]]
    assert (len(found), set(found)) == (3, ids)
    assert "next" not in second.json
    for query in ("?patients=L", "?patient=L&patient=A", "?page=x&count=2", "?base=other"):
        assert (await api(gateway, "GET", query)).status == 400


async def test_nothing_is_decided_here(gateway: RunningGateway) -> None:
    value = await made(gateway, patient="B")
    own = await api(gateway, "GET", f"/{value['id']}", who="pA-r")
    assert own.status in (403, 404)
    assert own.json.keys() == {"error", "error_description"}
    assert (await api(gateway, "POST", "", PLAIN, who="pA-rw")).status == 403
    listed = await api(gateway, "GET", who="pA-r")
    assert {each["patient"] for each in listed.json["consents"]} == {"A"}
    before = len(await gateway.audit())
    bare = await gateway.send("GET", "/consents")
    assert bare.status == 401
    assert bare.header("WWW-Authenticate")
    record = (await gateway.audit())[before]
    assert (record["event"], record["status"]) == ("access", 401)


async def test_one_proof_is_good_for_one_request(gateway: RunningGateway) -> None:
    value = await made(gateway)
    token = await gateway.token("dr1", roles=["desk"])
    url = f"{gateway.origin}/consents/{value['id']}/revoke"
    proof = gateway.proof("POST", url, token)
    sent = [("Authorization", f"DPoP {token}"), ("DPoP", proof), ("Content-Type", "application/json")]
    body = json.dumps({"reason": "once"}).encode()
    first = await gateway.send("POST", f"/consents/{value['id']}/revoke", sent, body)
    again = await gateway.send("POST", f"/consents/{value['id']}/revoke", sent, body)
    assert (first.status, again.status) == (200, 401)
    elsewhere = await gateway.send("GET", f"/consents/{value['id']}", sent[:2])
    assert elsewhere.status == 401


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"patient": "A", "decision": "permit"}, "policy is missing"),
        (PLAIN | {"decision": "perhaps"}, "permit or deny"),
        (PLAIN | {"actors": "x"}, "actors must be an array"),
        (PLAIN | {"period": {"from": "2020"}}, "start, end, or both"),
        (PLAIN | {"colour": "red"}, "'colour' is not known"),
        (PLAIN | {"exceptions": [{"patient": "B"}]}, "'patient' is not known here"),
        ([], "must be an object"),
    ],
)  # fmt: skip
async def test_what_cannot_be_translated_is_400(gateway: RunningGateway, body: Any, said: str) -> None:
    reply = await api(gateway, "POST", "", body)
    assert reply.status == 400, reply.raw
    assert said in reply.json["error_description"]


async def test_what_is_no_consent_is_422_with_the_place(gateway: RunningGateway) -> None:
    reply = await api(gateway, "POST", "", PLAIN | {"patient": "nobody"})
    assert (reply.status, reply.json["error"]) == (422, "consent-invalid")
    assert "Consent.patient" in reply.json["error_description"]


async def test_paths_and_methods_that_are_none_are_refused(gateway: RunningGateway) -> None:
    assert (await api(gateway, "GET", "/x/other")).status == 404
    assert (await api(gateway, "GET", "/..%2f")).status == 404
    reply = await api(gateway, "DELETE", "/x")
    assert (reply.status, reply.header("Allow")) == (405, "GET, PATCH")


async def test_27560_a_receipt_is_signed_by_a_published_key_and_names_the_version(
    gateway: RunningGateway,
) -> None:
    value = await made(gateway)
    reply = await api(gateway, "GET", f"/{value['id']}/receipt")
    assert reply.status == 200, reply.raw
    signed = reply.json["receipt"]
    head = json.loads(urlsafe_b64decode(signed.split(".")[0] + "=="))
    assert head["typ"] == "consent-receipt+jwt"
    jwks = (await gateway.send("GET", "/jwks")).json
    key = next(key for key in jwks["keys"] if key["kid"] == head["kid"])
    claims = jwt.decode(signed, jwt.PyJWK(key).key, algorithms=["ES256"], issuer=gateway.origin)
    fhir = await at_desk(gateway, "GET", f"/Consent/{value['id']}")
    assert claims["digest"]["value"] == base64url(sha256(fhir.body).digest())
    place = f"{gateway.origin}/fhir/r4/Consent/{value['id']}/_history/1"
    assert claims["consent_record"]["record_id"] == place
    assert claims["event"]["event_state"] == "given"
    assert claims["pii_processing"]["purposes"][0]["purpose"] == "HRESCH"
    assert claims["pii_processing"]["purposes"][0]["recipient_third_parties"] == PLAIN["actors"]
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(signed[:-6] + "AAAAAA", jwt.PyJWK(key).key, algorithms=["ES256"], issuer=gateway.origin)


async def test_a_receipt_is_read_by_people_too(gateway: RunningGateway) -> None:
    value = await made(gateway, actors=["urn:<script>alert(1)</script>"])
    reply = await api(gateway, "GET", f"/{value['id']}/receipt", headers={"Accept": "text/html"})
    assert reply.status == 200
    assert (reply.header("Content-Type") or "").startswith("text/html")
    assert b"It permits urn:&lt;script&gt;" in reply.body
    assert b"<script" not in reply.body
    assert "default-src 'none'" in (reply.header("Content-Security-Policy") or "")


async def test_a_receipt_is_for_those_who_may_read_the_consent(gateway: RunningGateway) -> None:
    value = await made(gateway, patient="B")
    reply = await api(gateway, "GET", f"/{value['id']}/receipt", who="pA-r")
    assert reply.status in (403, 404)
    assert b"receipt" not in reply.body
