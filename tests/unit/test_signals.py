"""Signals of unusual access: each rule by the smallest difference, and a watch that raises each signal once."""

import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from authz.settings import Account
from authz.storage.audit_index import AccessEntry, AuditQuery
from authz.storage.effects import Notification
from authz.storage.sqlite.store import SqliteStore, open_store
from gateway.audit.index.follower import IndexFollower
from gateway.audit.log import AuditLog
from gateway.audit.signals.findings import PatientFacts, Staff, applies, by_entry, by_repetition, by_volume
from gateway.audit.signals.watch import PatientsUnavailable, Watch
from gateway.notifications import message
from gateway.officer.patients import StorePatients
from gateway.officer_settings import OfficerSettings, SignalKind, SignalRule
from gateway.policy.hours import Hours
from gateway.proxy.lookups.preflight import Unavailable
from tests.support.audit_index_contract import BASE, HOUR, START, entry

NOW = START // 1000


def account(subject: str, *, patient: str | None = None, **claims: Any) -> Account:
    return Account(subject, subject, "", subject, {"roles": ["clinician"], **claims}, patient)


STAFF = Staff.of(
    [
        account("anna", patient="P-anna", family_name="Müller-Lüdenscheidt"),
        account("ben", fhirUser="https://fhir.example/fhir/r4/Patient/P-ben"),
        account("carl", patient="P-carl", roles=["patient"]),
    ]
)
VIP = SignalRule("vip-list", SignalKind.VIP, patients=frozenset({"A"}), labels=frozenset({"urn:h|VIP"}))
NAME = SignalRule("same-name", SignalKind.SAME_FAMILY_NAME, claim="family_name")
NIGHT = SignalRule(
    "night",
    SignalKind.OUT_OF_HOURS,
    hours=(Hours(7 * 60, 19 * 60, frozenset(range(5)), ZoneInfo("Europe/Berlin")),),
)
STRANGER = SignalRule("stranger", SignalKind.NO_RELATIONSHIP, rules=frozenset({"ward/treating"}))
OWN = SignalRule("own", SignalKind.OWN_RECORD, roles=frozenset({"clinician"}))
COLLEAGUE = SignalRule("colleague", SignalKind.COLLEAGUE, roles=frozenset({"clinician"}))
MANY = SignalRule("many", SignalKind.VOLUME, at_most=2, within=3600, times_median=3, over=30 * 86400)
GLASS = SignalRule("glass", SignalKind.BREAK_GLASS, at_most=1, within=86400)


NOBODY = PatientFacts()


def words(rule: SignalRule, of: AccessEntry, patient: PatientFacts = NOBODY) -> str:
    found = by_entry(rule, of, staff=STAFF, patient=patient)
    return "" if found is None else found.words


# The rules


def test_a_patient_on_the_list_or_with_the_label_is_a_signal_and_another_is_none() -> None:
    assert words(VIP, entry(1)) == "Patient/A is on the list of this rule"
    labelled = PatientFacts(labels=frozenset({"urn:h|VIP"}))
    assert words(VIP, entry(1, patient="B"), labelled) == "the record of Patient/B has the label urn:h|VIP"
    assert words(VIP, entry(1, patient="B"), PatientFacts(labels=frozenset({"urn:h|N"}))) == ""


@pytest.mark.parametrize(
    ("family", "user", "patient", "is_found"),
    [
        ("Müller-Lüdenscheidt", "anna", "A", True),
        (
            "MULLER LUDENSCHEIDT",
            "anna",
            "A",
            True,
        ),  # accents, case and hyphens do not tell two families apart
        ("Müller", "anna", "A", False),
        ("Müller-Lüdenscheidt", "ben", "A", False),  # whose account has no such claim
        ("Müller-Lüdenscheidt", "anna", "P-anna", False),  # that is her own record: another rule
    ],
)
def test_the_same_family_name_is_a_signal(family: str, user: str, patient: str, is_found: bool) -> None:
    said = words(NAME, entry(1, user=user, patient=patient), PatientFacts(frozenset({family})))
    assert bool(said) is is_found
    assert "ller" not in said.casefold()  # the name itself is nowhere


@pytest.mark.parametrize(
    ("at", "is_found"),
    [
        ("2027-01-15T06:59:59+01:00", True),
        ("2027-01-15T07:00:00+01:00", False),
        ("2027-01-15T18:59:59+01:00", False),
        ("2027-01-15T19:00:00+01:00", True),
        ("2027-01-16T12:00:00+01:00", True),  # a Saturday
    ],
)
def test_an_access_outside_the_working_hours_of_the_zone_is_a_signal(at: str, is_found: bool) -> None:
    milliseconds = int(datetime.fromisoformat(at).timestamp() * 1000)
    assert bool(words(NIGHT, entry(1, at=milliseconds))) is is_found


def test_an_access_by_no_rule_that_looks_for_a_relationship_is_a_signal() -> None:
    assert words(STRANGER, entry(1, rule="ward/on-duty")) == (
        "permitted by ward/on-duty, and by none of the 1 rules that look for a relationship"
    )
    assert words(STRANGER, entry(1, rule="ward/on-duty ward/treating")) == ""


def test_the_own_record_and_that_of_a_colleague_are_signals_for_staff_alone() -> None:
    assert words(OWN, entry(1, user="anna", patient="P-anna")) == "Patient/P-anna is the user's own record"
    assert words(OWN, entry(1, user="ben", patient="P-ben")) == "Patient/P-ben is the user's own record"
    assert words(OWN, entry(1, user="carl", patient="P-carl")) == ""  # a patient, as patients do
    assert words(OWN, entry(1, user="anna", patient="P-ben")) == ""
    assert (
        words(COLLEAGUE, entry(1, user="anna", patient="P-ben"))
        == "Patient/P-ben is the record of a colleague"
    )
    assert words(COLLEAGUE, entry(1, user="anna", patient="P-anna")) == ""
    assert words(COLLEAGUE, entry(1, user="anna", patient="P-carl")) == ""
    assert words(COLLEAGUE, entry(1, user="stranger", patient="P-ben")) == ""


@pytest.mark.parametrize(
    ("windows", "is_found"),
    [
        ({0: 3}, True),
        ({0: 2}, False),  # not more than what is usual
        ({0: 4, 5: 1, 9: 1}, True),
        ({0: 3, 5: 1, 9: 1}, False),  # three times the own median, and not more
        ({0: 30, 1: 10, 2: 10, 3: 2}, False),
        ({0: 31, 1: 10, 2: 10, 3: 2}, True),
    ],
)
def test_many_patients_are_a_signal_by_the_persons_own_median(
    windows: Mapping[int, int], is_found: bool
) -> None:
    assert (by_volume(MANY, entry(1), windows) is not None) is is_found


def test_the_words_of_a_volume_name_every_number_that_it_was_judged_by() -> None:
    found = by_volume(MANY, entry(1), {0: 31, 1: 10, 2: 10, 3: 2})
    assert found is not None
    assert found.words == (
        "31 patients within 1 h; 2 are taken for usual, and the user's own median is 10,"
        " of 3 such times with accesses in the 30 d before"
    )


def test_repeated_emergency_access_is_a_signal_from_one_more_than_usual() -> None:
    glass = entry(1, kind="break-glass-start", outcome="ok")
    assert by_repetition(GLASS, glass, 1) is None
    found = by_repetition(GLASS, glass, 2)
    assert found is not None
    assert found.words == "emergency access began 2 times within 1 d; 1 are taken for usual"


@pytest.mark.parametrize(
    ("changes", "rule", "looks"),
    [
        ({}, {}, True),
        ({"outcome": "deny"}, {}, False),
        ({"outcome": "nothing"}, {}, False),
        ({"patient": ""}, {}, False),
        ({"user": ""}, {}, False),
        ({}, {"clients": frozenset({"portal"})}, False),
        ({}, {"clients": frozenset({"ehr"})}, True),
        ({}, {"except_clients": frozenset({"ehr"})}, False),
        ({}, {"except_users": frozenset({"anna"})}, False),
    ],
)
def test_which_accesses_a_rule_looks_at(changes: dict[str, Any], rule: dict[str, Any], looks: bool) -> None:
    assert applies(SignalRule("r", SignalKind.VIP, **rule), entry(1, **changes)) is looks


# The watch


class Stores:
    """Patients of a store; away while is_away."""

    def __init__(self, **families: str) -> None:
        self.families = families
        self.is_away = False
        self.asked: list[str] = []

    async def search(self, target: str, *, at_most: int) -> list[dict[str, Any]]:
        self.asked.append(target)
        if self.is_away:
            raise Unavailable
        patient = target.rpartition("=")[2]
        label = {"system": "urn:h", "code": "VIP"}
        resource = {"resourceType": "Patient", "id": patient, "meta": {"security": [label, 5, {}]}}
        return [resource | {"name": [{"family": self.families.get(patient, "Other")}, "no object"]}]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "securus.db")
    yield opened
    await opened.close()


async def watch_of(store: SqliteStore, *rules: SignalRule, stores: Stores | None = None) -> Watch:
    def sent(receiver: str, said: Mapping[str, object]) -> Notification:
        return message(receiver, said, now=NOW)

    return Watch(
        store=store,
        audit=await AuditLog.open(store, lambda: float(NOW)),
        settings=OfficerSettings(signals=rules),
        staff=STAFF,
        patients=StorePatients({BASE: stores or Stores()}, lambda: NOW),
        message=sent,
        clock=lambda: NOW,
    )


async def raised(store: SqliteStore) -> list[tuple[str, str, int]]:
    found = await store.signals(only_open=True, limit=100, now=NOW)
    return [(each.rule, each.user, each.count) for each in found]


async def test_accesses_of_a_day_by_one_user_to_one_patient_are_one_signal_that_counts_on(
    store: SqliteStore,
) -> None:
    watch = await watch_of(store, VIP)
    await store.index_audit([entry(1), entry(2), entry(3, patient="B", user="ben")], chain="", read_to=3)
    await watch.look()
    await watch.look()
    assert await store.signalled_to("") == 3
    found = await store.signals(only_open=True, limit=10, now=NOW)
    assert [(each.user, each.patient, each.count, each.records) for each in found if each.patient == "A"] == [
        ("anna", "A", 2, (("", 1), ("", 2)))
    ]
    await store.index_audit([entry(4), entry(5, at=START + 30 * HOUR)], chain="", read_to=5)
    await watch.look()
    of_anna = [each for each in await raised(store) if each[1] == "anna"]
    assert of_anna == [("vip-list", "anna", 1), ("vip-list", "anna", 3)]  # the next day, and the first


async def test_volume_is_counted_over_patients_in_a_sliding_window(store: SqliteStore) -> None:
    watch = await watch_of(store, MANY)
    spread = [entry(n, patient=f"P{n}", at=START + n * HOUR) for n in range(1, 6)]
    await store.index_audit(spread, chain="", read_to=5)
    await watch.look()
    assert await raised(store) == []
    again = [entry(n, patient="P1", at=START + 6 * HOUR + n) for n in range(6, 16)]  # one patient, ten times
    await store.index_audit(again, chain="", read_to=15)
    await watch.look()
    assert await raised(store) == []
    burst = [entry(n, patient=f"Q{n}", at=START + 20 * HOUR + n) for n in range(16, 20)]
    await store.index_audit(burst, chain="", read_to=19)
    await watch.look()
    (signal,) = await store.signals(only_open=True, limit=10, now=NOW)
    assert signal.words.startswith(
        "4 patients within 1 h; 2 are taken for usual, and the user's own median is 1,"
    )
    assert signal.patient == ""


async def test_a_signal_is_recorded_in_the_log_without_names_and_told_to_who_is_configured(
    store: SqliteStore,
) -> None:
    rule = SignalRule("same-name", SignalKind.SAME_FAMILY_NAME, claim="family_name", notify=("office",))
    watch = await watch_of(store, rule, stores=Stores(A="Müller-Lüdenscheidt"))
    await store.index_audit([entry(100)], chain="", read_to=0)
    await watch.look()
    await watch.look()
    (line,) = await store.audit(after=0, limit=10)
    record = json.loads(line.line)
    assert (record["event"], record["rule"], record["subject"], record["patient"]) == (
        "signal", "same-name", "anna", "A",
    )  # fmt: skip
    assert record["accesses"] == [{"chain": "", "sequence": 100}]
    (sent,) = await store.claim_notifications(now=NOW, until=NOW + 60, at_most=10)
    assert json.loads(sent.content)["event"] == "signal"
    for text in (line.line.decode(), sent.content.decode()):
        assert "denscheidt" not in text.casefold()
    await IndexFollower(store, {"fhir": BASE}).follow()
    (found,) = await store.find_audit(AuditQuery(kinds=["signal"]))
    assert (found.patient, found.base) == ("A", BASE)
    assert not applies(rule, found)  # the record of a signal is no access


async def test_while_the_store_is_away_the_watch_waits_and_loses_nothing(store: SqliteStore) -> None:
    stores = Stores(A="Müller-Lüdenscheidt")
    watch = await watch_of(store, NAME, stores=stores)
    await store.index_audit([entry(1)], chain="", read_to=1)
    stores.is_away = True
    for _ in range(3):
        await watch.look()
    assert (await store.signalled_to(""), await raised(store)) == (0, [])
    stores.is_away = False
    await watch.look()
    assert await raised(store) == [("same-name", "anna", 1)]


async def test_what_could_not_be_checked_in_a_minute_is_a_signal_of_its_own(store: SqliteStore) -> None:
    stores = Stores()
    stores.is_away = True
    watch = await watch_of(store, NAME, stores=stores)
    await store.index_audit([entry(1), entry(2, patient="B")], chain="", read_to=2)
    for _ in range(61):
        await watch.look()
    (signal,) = await store.signals(only_open=True, limit=10, now=NOW)
    assert "could not be held against this access" in signal.words
    assert signal.count == 2


async def test_a_patient_is_asked_about_once_in_minutes(store: SqliteStore) -> None:
    stores = Stores()
    watch = await watch_of(store, NAME, VIP, stores=stores)
    await store.index_audit([entry(n) for n in range(1, 9)], chain="", read_to=8)
    await watch.look()
    assert stores.asked == ["Patient?_id=A"]
    stores.is_away = True
    with pytest.raises(PatientsUnavailable):
        await StorePatients({BASE: stores}, lambda: NOW).of(BASE, "A")
    assert await StorePatients({}, lambda: NOW).of(BASE, "A") == PatientFacts()
