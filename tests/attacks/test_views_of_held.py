"""Views within Bundles and Parameters that are read: each resource as if it came alone, and no copy of it beside it.

A resource that the caller may not see at all still closes the whole of it (case 234).
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.gateway import Reply, RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]

POLICIES = """\
policy: held
version: 1
owner: o
status: enforce
text: Staff sees charts without names and values, whatever holds them.
rules:
  - rule: boxes
    effect: permit
    who: {context: user}
    may: [read, vread, history-instance, search, update, create, delete]
    resources: [Bundle, Parameters]
    shared: true
    because: They say nothing by themselves.
  - rule: charts
    effect: permit
    who: {context: user}
    may: [read, vread, history-instance, search, create, delete]
    resources: [Composition, Condition, Observation, Patient]
    shared: true
    return: {hide: [Patient.name, Patient.identifier, Observation.value, Observation.meta.lastUpdated]}
    because: For planning.
  - rule: no-labels
    effect: deny
    may: [any]
    resources: any
    fields: [meta.security]
    because: The label itself would tell.
  - rule: special
    effect: deny
    may: [any]
    resources: [Condition]
    where: {ids: [closed]}
    because: For its team.
tests:
  - {test: t, as: {context: user}, request: GET /Claim/A, expect: {decision: deny}}
"""
NAME, NUMBER, VALUE = "Vermeer", "hospital-4711", "positive for everything"
PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p",
    "identifier": [{"system": "urn:mrn", "value": NUMBER}],
    "name": [{"family": NAME}],
    "gender": "male",
}
RESULT: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "o",
    "meta": {"lastUpdated": "2026-05-06T07:08:09Z"},
    "status": "final",
    "code": {"text": "test"},
    "subject": {"reference": "Patient/p", "display": NAME},
    "valueString": VALUE,
}
PLAIN: dict[str, Any] = {"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/p"}}
HIDDEN = (NAME, NUMBER, VALUE, "2026-05-06")


def narrative(text: str) -> dict[str, str]:
    """A narrative of this text."""
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{text}</div>'}


def bundle(*held: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A stored Bundle of these."""
    entry = [{"fullUrl": f"http://else.example/{n}", "resource": each} for n, each in enumerate(held)]
    return {
        "resourceType": "Bundle",
        "id": "x",
        "meta": {"versionId": "1"},
        "type": "collection",
        "entry": entry,
    } | more


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("held")
    (folder / "policies").mkdir()
    (folder / "policies" / "held.yaml").write_text(POLICIES)
    running = await start_gateway(folder, policies=folder / "policies")
    yield running
    await stop_gateway(running)


async def read(gateway: RunningGateway, holder: dict[str, Any], path: str = "") -> Reply:
    """The answer to a read of this, which the store has."""
    gateway.upstream.reset()
    gateway.upstream.resources[f"{holder['resourceType']}/x"] = holder
    return await gateway.fhir("GET", path or f"/{holder['resourceType']}/x", who="dr1")


def held(reply: Reply) -> list[dict[str, Any]]:
    """What stands in the entries of a Bundle."""
    assert reply.status == 200, reply.raw
    return [entry["resource"] for entry in reply.json["entry"]]


def hides_all(reply: Reply) -> None:
    """Nothing that is hidden stands anywhere."""
    for text in HIDDEN:
        assert text not in reply.raw.decode(), reply.raw


async def test_each_resource_is_seen_as_if_it_came_alone(gateway: RunningGateway) -> None:
    reply = await read(gateway, bundle(PATIENT, RESULT, PLAIN))
    person, result, plain = held(reply)
    hides_all(reply)
    gateway.upstream.resources |= {"Patient/p": PATIENT, "Observation/o": RESULT}
    assert person == (await gateway.fhir("GET", "/Patient/p", who="dr1")).json
    assert result == (await gateway.fhir("GET", "/Observation/o", who="dr1")).json
    assert plain == PLAIN
    assert b"SUBSETTED" in reply.raw
    assert reply.json["meta"]["tag"][0]["code"] == "SUBSETTED", "nobody writes it back as if it were whole"


async def test_a_bundle_of_which_nothing_is_taken_leaves_as_it_is(gateway: RunningGateway) -> None:
    whole = bundle(
        PLAIN, signature={"type": [{"code": "x"}], "when": "2026-01-01T00:00:00Z", "who": {"display": "x"}}
    )
    reply = await read(gateway, whole)
    assert (reply.status, reply.json) == (200, whole)


@pytest.mark.parametrize("path", ["/Bundle/x", "/Bundle/x/_history/1", "/Bundle/x/_history", "/Bundle?_id=x"])
async def test_by_every_way_that_shows_a_bundle(gateway: RunningGateway, path: str) -> None:
    reply = await read(gateway, bundle(PATIENT, RESULT), path)
    assert reply.status == 200, reply.raw
    assert b'"gender":"male"' in reply.raw.replace(b": ", b":")
    hides_all(reply)


async def test_numbers_stay_as_they_were_written(gateway: RunningGateway) -> None:
    dose = PLAIN | {"onsetAge": {"value": "1.50"}}
    whole = json.dumps(bundle(PATIENT, dose)).replace('"1.50"', "1.50")
    gateway.upstream.reset()

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=whole, content_type="application/fhir+json")

    gateway.upstream.answer = answer
    reply = await gateway.fhir("GET", "/Bundle/x", who="dr1")
    hides_all(reply)
    assert b"1.50" in reply.body


async def test_a_bundle_in_a_bundle(gateway: RunningGateway) -> None:
    reply = await read(gateway, bundle(bundle(PATIENT, RESULT)))
    hides_all(reply)
    assert [each["resource"]["id"] for each in held(reply)[0]["entry"]] == ["p", "o"]


async def test_parameters_and_their_parts(gateway: RunningGateway) -> None:
    holder = {
        "resourceType": "Parameters",
        "id": "x",
        "parameter": [
            {
                "name": "a",
                "part": [{"name": "b", "resource": PATIENT}, {"name": "c", "valueString": f"of {NAME}"}],
            },
            {"name": "d", "valueIdentifier": {"value": NUMBER}},
            {"name": "e", "valueCode": "kept"},
        ],
    }
    reply = await read(gateway, holder)
    assert reply.status == 200, reply.raw
    hides_all(reply)
    assert reply.json["parameter"][0]["part"][0]["resource"]["gender"] == "male"
    assert reply.json["parameter"][2] == {"name": "e", "valueCode": "kept"}


@pytest.mark.parametrize(
    "closed",
    [
        {"resourceType": "Condition", "id": "closed"},
        {"resourceType": "Claim", "id": "z"},
        {"id": "nameless"},
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"resource": {"resourceType": "Claim", "id": "z"}}],
        },
    ],
)
async def test_234_what_may_not_be_seen_at_all_closes_the_whole(
    gateway: RunningGateway, closed: dict[str, Any]
) -> None:
    reply = await read(gateway, bundle(PATIENT, closed))
    assert reply.status == 403
    hides_all(reply)


@pytest.mark.parametrize(
    "copy",
    [
        PLAIN | {"note": [{"text": f"told {NAME}"}]},
        PLAIN | {"text": narrative(f"Mr. {NAME}")},
        PLAIN | {"code": {"text": f"as in {VALUE}"}},
        PLAIN | {"extension": [{"url": "urn:x", "valueIdentifier": {"value": NUMBER}}]},
        PLAIN | {"contained": [PLAIN | {"id": "i", "text": narrative(f"<b>{VALUE}</b>")}]},
        {"resourceType": "Composition", "id": "k", "title": f"About {NAME}"},
        {"resourceType": "Composition", "id": "k", "section": [
            {"title": "Results", "text": narrative("<p>posi<i>tive</i> for &#101;verything</p>"),
             "section": [{"text": narrative(f"Mr. {NAME.upper()}")}]}]},
    ],
)  # fmt: skip
async def test_246_no_copy_stands_in_what_is_held_beside_it(
    gateway: RunningGateway, copy: dict[str, Any]
) -> None:
    reply = await read(gateway, bundle(copy, PATIENT, RESULT))
    assert len(held(reply)) == 3
    hides_all(reply)
    assert NAME.lower() not in reply.raw.decode().lower()
    assert "verything" not in reply.raw.decode()


@pytest.mark.parametrize(
    "more",
    [
        {"signature": {"type": [{"code": "x"}], "data": "UGF0aWVudA=="}},
        {"link": [{"relation": "self", "url": f"http://else.example/Patient?name={NAME}"}]},
        {"identifier": {"value": NUMBER}},
    ],
)
async def test_nothing_around_the_entries_tells_of_what_was_taken(
    gateway: RunningGateway, more: dict[str, Any]
) -> None:
    reply = await read(gateway, bundle(PATIENT, **more))
    assert reply.status == 200, reply.raw
    hides_all(reply)
    assert more.keys().isdisjoint(reply.json.keys())


async def test_an_entry_says_no_criteria_and_no_dates_of_what_was_taken(gateway: RunningGateway) -> None:
    entry = {
        "resource": RESULT,
        "request": {
            "method": "PUT",
            "url": f"Observation?subject.name={NAME}",
            "ifNoneExist": f"identifier={NUMBER}",
        },
        "response": {"status": "200", "lastModified": "2026-05-06T07:08:09Z", "etag": 'W/"1"'},
    }
    reply = await read(gateway, bundle() | {"type": "transaction-response", "entry": [entry]})
    (seen,) = reply.json["entry"]
    hides_all(reply)
    assert seen["request"] == {"method": "PUT", "url": "Observation"}
    assert seen["response"] == {"status": "200"}


async def test_a_label_that_is_hidden_costs_no_narrative_of_others(gateway: RunningGateway) -> None:
    text = narrative("What the house writes of it.")
    labelled = PLAIN | {"id": "l", "meta": {"security": [{"system": "urn:labels", "code": "psychiatry"}]}}
    composition = {"resourceType": "Composition", "id": "k", "text": text, "section": [{"text": text}]}
    reply = await read(gateway, bundle(composition, labelled))
    first, second = held(reply)
    assert first == composition
    assert "psychiatry" not in json.dumps(second)


async def test_who_sees_a_part_of_a_bundle_does_not_write_it(gateway: RunningGateway) -> None:
    for holder in (bundle(PATIENT), bundle(RESULT)):
        gateway.upstream.reset()
        gateway.upstream.resources["Bundle/x"] = holder
        body = json.dumps(bundle(PLAIN)).encode()
        headers = [("Content-Type", "application/fhir+json")]
        reply = await gateway.fhir("PUT", "/Bundle/x", who="dr1", headers=headers, body=body)
        assert (reply.status, reply.reason) == (403, "policy-denied")
        assert [each.method for each in gateway.upstream.requests] == ["GET"]
