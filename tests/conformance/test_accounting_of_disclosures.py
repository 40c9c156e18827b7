"""45 CFR 164.528, accounting of disclosures of protected health information: what is in it, and what is left out."""

import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from authz.storage.audit_index import AccessEntry
from authz.storage.sqlite.store import SqliteStore, open_store
from gateway.audit.events.mapping import audit_events
from gateway.audit.events.record import Recorder
from gateway.audit.index.follower import IndexFollower
from gateway.audit.log import AuditLog
from gateway.officer.accounting_forms import as_csv, as_json
from gateway.officer.disclosure_bundle import as_fhir
from gateway.officer.disclosures import Accounting, accounting, in_words
from gateway.officer_settings import DisclosureSettings, Recipient, Suspension
from tests.support.audit_index_contract import BASE, entry
from tests.support.balp import faults, r4_faults

DAY = 86_400_000
NOW = 1_800_000_000_000
INSTITUTE = Recipient("Institute of Epidemiology", "1 Science Road, Example Town")
SETTINGS = DisclosureSettings(
    recipients={"research-app": INSTITUTE}, purposes={"ehr": "TREAT", "agency-app": "HLEGAL"}
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "securus.db")
    yield opened
    await opened.close()


def disclosed(sequence: int, *, days_ago: float = 1, **changes: Any) -> AccessEntry:
    usual = {"client": "research-app", "purpose": "HRESCH", "at": NOW - int(days_ago * DAY)}
    return entry(sequence, **{**usual, **changes})


async def account(store: SqliteStore, *entries: AccessEntry, **changes: Any) -> Accounting:
    await store.index_audit(entries, chain="", read_to=max((each.sequence for each in entries), default=0))
    asked: dict[str, Any] = {"base": BASE, "patient": "A", "since": None, "until": NOW, "settings": SETTINGS}
    return await accounting(store, names={"other-app": "The other app"}, **{**asked, **changes})


def numbers(found: Accounting) -> list[int]:
    return [each.sequence for each in found.disclosures]


async def test_b_2_each_disclosure_has_its_date_recipient_address_what_and_purpose(
    store: SqliteStore,
) -> None:
    found = await account(store, disclosed(1, types="Observation Condition", kind="search"))
    (each,) = as_json(found, for_officer=False)["disclosures"]  # type: ignore[misc,attr-defined]
    assert each == {
        "date": "2027-01-14 08:00:00 UTC",  # (b)(2)(i)
        "recipient": "Institute of Epidemiology",  # (b)(2)(ii)
        "address": "1 Science Road, Example Town",
        "disclosed": "Observation, Condition (found by a search)",  # (b)(2)(iii)
        "purpose": "research",  # (b)(2)(iv)
        "record": {"chain": "", "sequence": 1},
    }


async def test_b_2_ii_an_address_that_is_not_known_is_left_out_and_the_name_is_that_of_the_app(
    store: SqliteStore,
) -> None:
    found = await account(store, disclosed(1, client="other-app"), disclosed(2, client="gone-app"))
    assert [(each.recipient, each.address) for each in found.disclosures] == [
        ("The other app", ""),
        ("gone-app", ""),
    ]


async def test_b_1_it_goes_back_six_years_and_no_further_or_shorter_where_that_is_asked(
    store: SqliteStore,
) -> None:
    entries = (
        disclosed(1, days_ago=6 * 365),
        disclosed(2, days_ago=6 * 366 + 1),
        disclosed(3),
        disclosed(4, at=NOW),
    )
    assert numbers(await account(store, *entries)) == [1, 3]
    assert numbers(await account(store, since=NOW - 2 * DAY)) == [3]
    assert numbers(await account(store, since=0)) == [1, 3]


async def test_b_3_several_to_one_recipient_for_one_purpose_have_the_first_the_count_and_the_last(
    store: SqliteStore,
) -> None:
    found = await account(
        store,
        disclosed(1, days_ago=30),
        disclosed(2, days_ago=20),
        disclosed(3, days_ago=10),
        disclosed(4, days_ago=5, purpose="PUBHLTH"),
    )
    assert [(each.first.sequence, each.first.purpose, each.count, each.last_at) for each in found.series] == [
        (1, "research", 3, NOW - 10 * DAY),
        (4, "public health", 1, NOW - 5 * DAY),
    ]
    assert "3 times\tfirst 2026-12-16 08:00:00 UTC\tlast 2027-01-05 08:00:00 UTC" in "\n".join(
        in_words(found)
    )


@pytest.mark.parametrize(
    ("changes", "is_told"),
    [
        ({"purpose": "TREAT"}, False),  # (a)(1)(i)
        ({"purpose": "HPAYMT"}, False),
        ({"purpose": "HOPERAT"}, False),
        ({"purpose": "PATRQT"}, False),  # (a)(1)(ii)
        ({"purpose": "HRESCH"}, True),
        ({"purpose": "TREAT HRESCH"}, True),  # one purpose that counts brings it in
        ({"purpose": "", "client": "ehr"}, False),  # its client's purpose stands for it
        ({"purpose": "", "client": "agency-app"}, True),
        ({"purpose": "", "client": "other-app"}, True),  # nobody said why: it is told
        ({"purpose": "HRESCH", "client": "ehr"}, True),  # what the record says goes before
    ],
)
async def test_a_1_treatment_payment_operations_and_the_patients_own_requests_are_left_out(
    store: SqliteStore, changes: dict[str, Any], is_told: bool
) -> None:
    found = await account(store, disclosed(1, **changes))
    assert (len(found.disclosures), found.left_out) == ((1, 0) if is_told else (0, 1))


async def test_a_2_disclosures_to_an_agency_are_held_back_while_it_asked_for_that_and_told_after(
    store: SqliteStore,
) -> None:
    suspension = Suspension("agency-app", NOW - 3 * DAY, NOW + 27 * DAY, "letter of the agency")
    settings = DisclosureSettings(suspensions=(suspension,))
    entries = (disclosed(1, client="agency-app", days_ago=100), disclosed(2))
    found = await account(store, *entries, settings=settings)
    assert (numbers(found), found.suspended) == ([2], 1)
    told = as_json(found, for_officer=False)
    assert "suspended" not in told  # that something is held back is not told either
    assert "agency" not in str(told) + as_csv(found) + "\n".join(in_words(found))
    assert numbers(await account(store, settings=settings, until=NOW + 27 * DAY)) == [1, 2]


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": "deny"},
        {"outcome": "nothing"},
        {"outcome": "begun"},
        {"kind": "create"},
        {"kind": "consent"},
        {"kind": "audit-read"},
        {"patient": "B"},
        {"base": "https://other.example/fhir"},
    ],
)
async def test_what_did_not_go_out_of_this_patients_record_is_no_disclosure(
    store: SqliteStore, changes: dict[str, Any]
) -> None:
    assert numbers(await account(store, disclosed(1, **changes))) == []


async def test_an_accounting_without_disclosures_says_so(store: SqliteStore) -> None:
    assert in_words(await account(store))[-1] == "No disclosure is to be accounted for."


async def test_more_accesses_than_a_page_of_the_index_are_all_accounted_for_in_their_order(
    store: SqliteStore,
) -> None:
    entries = [disclosed(number, at=NOW - 10_000 + number) for number in range(1, 2502)]
    assert numbers(await account(store, *entries)) == list(range(1, 2502))


async def test_the_csv_has_a_line_for_each_and_no_cell_that_a_spreadsheet_takes_for_a_formula(
    store: SqliteStore,
) -> None:
    hostile = Recipient('=HYPERLINK("https://evil.example","x")', "+1, Road\r\n@Town")
    settings = DisclosureSettings(recipients={"research-app": hostile})
    found = await account(store, disclosed(1), disclosed(2, client="-2+3"), settings=settings)
    rows = list(csv.reader(io.StringIO(as_csv(found))))
    assert rows[0] == ["date", "recipient", "address", "disclosed", "purpose", "record"]
    assert rows[1][1:3] == ['\'=HYPERLINK("https://evil.example","x")', "'+1, Road\r\n@Town"]
    assert rows[2][1] == "'-2+3"
    assert len(rows) == 3
    assert not [cell for row in rows for cell in row if cell[:1] in "=+-@\t\r" and cell]


RECORDER = Recorder("https://fhir.example", "Example Hospital", {"fhir": BASE})
ACCESS = {
    "event": "access",
    "route": "fhir",
    "base": BASE,
    "interaction": "search",
    "interaction_id": "i1",
    "method": "GET",
    "peer": "192.0.2.9",
    "decision": "permit",
    "status": 200,
    "caller": {
        "issuer": "https://fhir.example",
        "subject": "ida",
        "client": "research-app",
        "grant": "g",
        "token": "t",
    },
    "request": {"type": "Observation", "id": None, "canonical": "GET /Observation?code=x"},
    "received": "GET https://fhir.example/fhir/r4/Observation?code=x",
    "patients": ["A", "B"],
}


async def test_as_fhir_each_is_the_audit_event_of_its_record_and_holds_to_the_profile_of_balp(
    store: SqliteStore,
) -> None:
    log = await AuditLog.open(store, lambda: NOW / 1000 - 3600)
    await log.record({**ACCESS, "purpose": ["HRESCH"]})
    await IndexFollower(store, {"fhir": BASE}).follow()
    found = await account(store)
    bundle = await as_fhir(store, found, RECORDER)
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "collection")
    (event,) = (each["resource"] for each in bundle["entry"])
    assert faults(event) == []
    assert event["meta"]["profile"][0].endswith("PrivacyDisclosure.Source")
    whose = [
        each["what"]["reference"]
        for each in event["entity"]
        if "what" in each and "Patient" in str(each["what"])
    ]
    assert whose == [f"{BASE}/Patient/A"]  # and not of B, whom the same answer showed
    (told,) = [each["detail"] for each in event["entity"] if each["type"]["code"] == "4"]
    assert {"type": "recipient", "valueString": "Institute of Epidemiology"} in told
    assert {"type": "recipient-address", "valueString": INSTITUTE.address} in told
    assert {"type": "record", "valueString": "- 1"} in told
    assert event["purposeOfEvent"][0]["coding"][0]["code"] == "HRESCH"
    assert await as_fhir(store, found, RECORDER) == bundle  # ids too


async def test_as_fhir_a_disclosure_whose_record_is_retired_is_told_from_the_index(
    store: SqliteStore,
) -> None:
    found = await account(store, disclosed(1), disclosed(2, client="other-app", purpose=""))
    first, second = (each["resource"] for each in (await as_fhir(store, found, RECORDER))["entry"])
    assert r4_faults(first) == r4_faults(second) == []
    assert "meta" not in first  # it says too little to claim a profile
    assert first["recorded"] == "2027-01-14T08:00:00.000+00:00"
    assert first["purposeOfEvent"][0]["coding"][0]["code"] == "HRESCH"
    assert "purposeOfEvent" not in second  # what nobody said is not made up
    assert first["id"] != second["id"]


@pytest.mark.parametrize(
    "record",
    [
        {"event": "audit-read", "by": "olga", "what": "search", "query": {"patients": ["A"]}, "shown": 3},
        {"event": "audit-refused", "by": "nora", "what": "/officer", "outcome": "refused"},
        {"event": "signal", "signal": "s", "rule": "vip", "kind": "vip", "subject": "anna", "client": "ehr",
         "accesses": [{"chain": "", "sequence": 1}], "patient": "A", "base": BASE, "words": "w"},
        {"event": "signal-review", "signal": "s", "by": "olga", "review": "r", "patient": "A", "base": BASE},
    ],
    ids=lambda record: record["event"],
)  # fmt: skip
def test_what_the_officer_does_is_told_as_an_audit_event_too(record: dict[str, Any]) -> None:
    line = json.dumps({"seq": 1, "at": "2027-01-15T08:00:00.000Z", **record}).encode()
    (event,) = audit_events(line, RECORDER)
    assert faults(event) == []
    assert event["type"]["code"] in ("110101", "110113")
    assert (event["outcome"] == "0") is (record["event"] != "audit-refused")
