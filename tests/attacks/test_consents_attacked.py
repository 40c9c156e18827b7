"""Consents that are written to mislead, to silence others, or to make everybody wait."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from authz.storage.consents import ConsentVersion
from authz.storage.store import Store
from gateway.account.consent_document import wish_of
from gateway.consent_service.receipts import in_words
from gateway.consent_service.versions import next_version
from gateway.consents.codes import PARTICIPATIONS, PURPOSES
from gateway.consents.consent import ConsentQuestion, ConsentReading, ConsentSource, Said
from gateway.consents.consents import answer
from gateway.proxy.lookups.stored_consents import StoredConsents
from tests.support.consent_desk import SCOPES, at_desk, consent, start_desk
from tests.support.gateway import RunningGateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
ISSUER = "https://as.hospital.example"
PLAIN = {"Content-Type": "application/json"}
NOW = 1_790_000_000  # in September 2026
STUDY = ConsentQuestion((SCOPES, "research"), frozenset({"urn:study:dm2"}), frozenset(), "Condition")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    running = await start_desk(tmp_path_factory.mktemp("desk"))
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


@pytest.mark.parametrize(
    "reference",
    [
        "Patient/A?_elements=id",
        "Patient/A#x",
        "Patient/A%2F..%2FB",
        "Patient/A ",
        "Patient/A\u00e9",
        "Patient/..",
        "#p",
    ],
)
async def test_a_consent_whose_patient_is_more_than_an_id_is_not_kept_and_nobody_is_asked(
    gateway: RunningGateway, reference: str
) -> None:
    value = consent() | {
        "contained": [{"resourceType": "Patient", "id": "p"}],
        "patient": {"reference": reference},
    }
    reply = await at_desk(gateway, "POST", "/Consent", value)
    assert reply.status == 422, reply.raw
    assert reply.json["issue"][0]["expression"] == ["Consent.patient"]
    assert gateway.upstream.requests == []


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "a\x00b", "\x1b[2J"])
async def test_what_no_page_and_no_file_can_hold_is_not_kept(gateway: RunningGateway, text: str) -> None:
    """One consent with half a character in it, and the pages of the patient could not be shown any more."""
    for more in (
        {"extension": [{"url": "urn:x", "valueString": text}]},
        {"organization": [{"reference": "Organization/o", "display": text}]},
        {"contained": [{"resourceType": "Basic", "id": "b", "code": {"text": text}}]},
    ):
        reply = await at_desk(gateway, "POST", "/Consent", consent() | more)
        assert reply.status == 422, reply.raw
    plain = {"patient": "A", "decision": "permit", "policy": ["urn:p"], "actors": [text]}
    reply = await at_desk(gateway, "POST", "/consents", plain, headers=PLAIN)
    assert reply.status in (400, 422), reply.raw
    whole = {"organization": [{"reference": "Organization/o", "display": "\U0001f600\n\t"}]}
    assert (await at_desk(gateway, "POST", "/Consent", consent() | whole)).status == 201


async def test_plain_json_has_one_reading(gateway: RunningGateway) -> None:
    twice = b'{"patient":"A","decision":"deny","decision":"permit","policy":["urn:p"]}'
    deep = b'{"patient":"A","exceptions":' + b"[" * 90_000 + b"]" * 90_000 + b"}"
    for body in (twice, deep, b'{"patient":NaN}', b"\xef\xbb\xbf{}", b"[]"):
        reply = await at_desk(gateway, "POST", "/consents", body, headers=PLAIN)
        assert (reply.status, reply.json["error"]) == (400, "invalid_request")


def dated(day: str, type_: str, id_: str) -> dict[str, Any]:
    return consent(dateTime=day, id=id_, performer=[{"reference": "Patient/A"}]) | {
        "provision": {"type": type_, "actor": consent()["provision"]["actor"]}
    }


async def test_a_permit_of_a_day_to_come_does_not_silence_the_denial_of_today() -> None:
    denial = dated("2026-08-01", "deny", "denial")
    assert answer([dated("2026-09-01", "permit", "later"), denial], STUDY, NOW).said is Said.PERMIT
    assert answer([dated("2099-01-01", "permit", "to-come"), denial], STUDY, NOW).said is Said.DENY
    assert answer([dated("2027", "permit", "to-come"), denial], STUDY, NOW).said is Said.DENY


async def test_a_patient_has_so_many_consents_in_force_and_no_more(gateway: RunningGateway) -> None:
    store, clock = gateway.gateway.store, gateway.gateway.clock
    base = gateway.gateway.settings.upstreams[0].identifier
    gateway.upstream.resources["Patient/M"] = {"resourceType": "Patient", "id": "M"}
    for number in range(199):
        value = consent("M", status="inactive" if number % 4 == 0 else "active")
        made = next_version(value, None, base=base, id=f"m{number}", now=clock(), by="somebody")
        assert await store.add_consent(made)
    for _ in range(51):  # those that were withdrawn do not count
        assert (await at_desk(gateway, "POST", "/Consent", consent("M"))).status == 201
    refused = await at_desk(gateway, "POST", "/Consent", consent("M"))
    assert (refused.status, refused.json["issue"][0]["expression"]) == (422, ["Consent.patient"])
    assert (await at_desk(gateway, "POST", "/Consent", consent("A"))).status == 201
    assert (await at_desk(gateway, "GET", "/Patient/M", role="researcher")).status == 200


async def test_the_consents_in_force_of_a_patient_have_so_many_provisions_together(
    gateway: RunningGateway,
) -> None:
    gateway.upstream.resources["Patient/L"] = {"resourceType": "Patient", "id": "L"}
    many = [{"type": "deny", "provision": [{"type": "permit"}] * 49}] * 4  # 201 with the one around them
    made = [
        await at_desk(
            gateway, "POST", "/Consent", consent("L", provision={"type": "permit", "provision": many})
        )
        for _ in range(5)
    ]
    assert [each.status for each in made] == [201] * 4 + [422]
    assert made[4].json["issue"][0]["expression"] == ["Consent.provision"]
    small = await at_desk(gateway, "POST", "/Consent", consent("L"))
    assert small.status == 201
    grown = small.json | {"provision": {"type": "permit", "provision": many}}
    place = f"/Consent/{small.json['id']}"
    assert (await at_desk(gateway, "PUT", place, grown)).status == 422
    for reply in made[:4]:  # what is large is withdrawn as it is
        place = f"/Consent/{reply.json['id']}"
        assert (await at_desk(gateway, "PUT", place, reply.json | {"status": "inactive"})).status == 200
    place = f"/Consent/{small.json['id']}"
    assert (await at_desk(gateway, "PUT", place, grown)).status == 200


async def settled(store: Store, versions: Sequence[ConsentVersion], now: int) -> Sequence[ConsentVersion]:
    return versions


async def test_what_a_version_says_is_read_once_and_others_have_their_turn_meanwhile(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, clock = gateway.gateway.store, gateway.gateway.clock
    many = [{"type": "deny", "class": [{"system": "urn:x", "code": f"T{number}"}]} for number in range(99)]
    for number in range(30):
        value = consent(provision={"type": "permit", "provision": many})
        made = next_version(value, None, base="urn:big", id=f"b{number}", now=clock(), by="somebody")
        assert await store.add_consent(made)
    reads = []

    class Source(ConsentSource):
        def takes(self, consent: Any, patient: str) -> bool:
            reads.append(consent["id"])
            return super().takes(consent, patient)

    kept = StoredConsents(
        store,
        "urn:big",
        Source(verified=False),
        clock,
        reading=ConsentReading(),
        settle=settled,
        count=lambda _: None,
    )
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    assert (await kept.of(["A"]))["A"](STUDY).said is Said.DENY
    task.cancel()
    assert turns > 10
    assert (await kept.of(["A"]))["A"](STUDY).said is Said.DENY
    assert len(reads) == 30
    withdrawn = next_version(
        consent(status="inactive"),
        await store.consent("urn:big", "b0"),
        base="urn:big",
        id="b0",
        now=clock(),
        by="x",
    )
    assert await store.add_consent(withdrawn)
    await kept.of(["A"])
    assert reads[30:] == []  # it says nothing any more


def of_privacy(**more: Any) -> dict[str, Any]:
    """A consent whose words the pages have."""
    return consent(
        scope={"coding": [{"system": SCOPES, "code": "patient-privacy"}]},
        meta={"versionId": "1", "lastUpdated": "2026-08-01T10:00:00Z"},
        provision={"type": "deny", "actor": [RECIPIENT]} | more,
    )


RECIPIENT = {
    "role": {"coding": [{"system": PARTICIPATIONS, "code": "IRCP"}]},
    "reference": {"reference": "Organization/lab"},
}


async def test_the_pages_have_no_words_for_a_consent_that_says_something_else() -> None:
    known = [
        of_privacy(),
        of_privacy(period={"start": "2026-08-01"}),
        of_privacy(period={"start": "2026-08-01T10:00:00Z", "end": "2027-12-31"}),
        of_privacy(purpose=[{"system": PURPOSES, "code": "TREAT"}]),
    ]
    assert all(wish_of(each, ISSUER) is not None for each in known)
    others = [
        of_privacy() | {"scope": {"coding": [{"system": SCOPES, "code": "research"}]}},
        of_privacy() | {"scope": {"text": "privacy"}},
        of_privacy(period={"start": "2026-09-01"}),
        of_privacy(period={"end": "2027-12-31T10:00:00Z"}),
        of_privacy(purpose=[{"system": "urn:ours", "code": "TREAT"}]),
        of_privacy(actor=[RECIPIENT | {"role": {"coding": [{"system": PARTICIPATIONS, "code": "CST"}]}}]),
        of_privacy(actor=[RECIPIENT | {"extension": [{"url": "urn:x", "valueBoolean": True}]}]),
    ]
    assert [wish_of(each, ISSUER) for each in others] == [None] * len(others)


@pytest.mark.parametrize(
    "more",
    [
        {"data": [{"meaning": "instance", "reference": {"reference": "Observation/o1"}}]},
        {"code": [{"coding": [{"system": "http://loinc.org", "code": "1-8"}]}]},
        {"action": [{"coding": [{"code": "correct"}]}]},
        {"actor": [RECIPIENT | {"role": {"coding": [{"system": PARTICIPATIONS, "code": "CST"}]}}]},
        {"provision": [{"type": "deny", "provision": [{"type": "permit", "code": [{"text": "x"}]}]}]},
        {"extension": [{"url": "urn:x", "valueBoolean": True}]},
    ],
)
async def test_a_receipt_that_leaves_something_out_says_so(more: dict[str, Any]) -> None:
    said = "It says more than these lines can: what holds is the document."
    value = of_privacy() | {"id": "c1"}
    assert said not in in_words(value)
    assert said in in_words(of_privacy(**more) | {"id": "c1"})
    assert said in in_words(value | {"modifierExtension": [{"url": "urn:x", "valueBoolean": True}]})


async def test_a_receipt_tells_exceptions_of_exceptions() -> None:
    inner = {"type": "permit", "purpose": [{"system": PURPOSES, "code": "ETREAT"}]}
    lines = in_words(of_privacy(provision=[{"type": "deny", "provision": [inner]}]) | {"id": "c1"})
    assert any(line.startswith("Except (1.1): It permits") and "ETREAT" in line for line in lines)
