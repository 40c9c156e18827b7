"""Facts and consents in policies: how they are written, what the engine looks for, and what unknown ones come to."""

from dataclasses import replace
from typing import Any

import pytest

from authz.protocol.tokens import Caller
from gateway.consents.consent import ConsentAnswer, ConsentQuestion, Said
from gateway.fhir.labels import Label
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy import language
from gateway.policy.decision import Decision, Deny, Environment, Nothing, Permit
from gateway.policy.engine import Engine
from gateway.policy.facts import FactQuestion, FactValues, taken
from gateway.policy.inherited_labels import Labelled
from gateway.policy.known import ConsentsOf, Known
from gateway.policy.selftests import selftest
from gateway.proxy.lookups.knowledge import Knowledge, Lookups
from tests.support.policies import BASES, NOW, ask, caller, load, policy, resource, shows

FACTS = """\
definitions: facts
version: 1
facts:
  mine: {ask: "CareTeam?participant={token.user}", take: CareTeam.subject, keep: 60s, at_most: 3}
  units: {ask: "List?code={token.org}", take: List.id, keep: 60s, at_most: 3}
"""
DOCTOR = caller(fhirUser="Practitioner/dr1", roles=["physician"], organization="H1")
MINE = (
    "rule: mine, effect: permit, may: [read, search, create, update], resources: [Patient, Observation], "
    "where: {compartment: {patient: {in: $facts.mine}}}"
)


def engine(*rules: str, definitions: str = FACTS) -> Engine:
    return Engine(load(definitions, policy(*rules)), bases=BASES)


def known(**facts: Any) -> Known:
    found = Known()
    for name, values in facts.items():
        found.facts[name] = values if isinstance(values, Reason) else FactValues(frozenset(values))
    return found


def decide(judge: Engine, text: str, told: Known, who: Caller = DOCTOR) -> Decision:
    return judge.decide(ask(text), who, Environment(NOW, "192.0.2.1", known=told))


def problems(text: str) -> list[str]:
    try:
        return [str(problem) for problem in load(text).warnings]
    except language.PolicyErrors as error:
        return [str(problem) for problem in error.problems]


@pytest.mark.parametrize(
    ("fact", "message"),
    [
        ("{take: CareTeam.subject, keep: 60s, at_most: 3}", "fact 'f' has no 'ask'"),
        ("{ask: 'CareTeam?status=active', take: CareTeam.subject, keep: 60s}", "fact 'f' has no 'at_most'"),
        ("{ask: CareTeam, take: CareTeam.subject, keep: 60s, at_most: 3}", "'ask' must be a search such as"),
        ("{ask: 'CareTeam?participant={token.usr}', take: CareTeam.subject, keep: 60s, at_most: 3}",
         "no claim named 'usr'. Did you mean 'user'?"),
        ("{ask: 'CareTeam?participant={token.team}', take: CareTeam.subject, keep: 60s, at_most: 3}",
         "claim 'team' has several values"),
        ("{ask: 'CareTeam?participant=Practitioner/{token.org}', take: CareTeam.subject, keep: 60s, at_most: 3}",
         "is not a whole claim"),
        ("{ask: 'CareTeam?subject:Patient.name=x', take: CareTeam.subject, keep: 60s, at_most: 3}",
         "the answer could not be held to the criteria"),
        ("{ask: 'CareTeam?statsu=active', take: CareTeam.subject, keep: 60s, at_most: 3}",
         "the answer could not be held to the criteria"),
        ("{ask: 'CareTeam?status=active', take: CareTeam.subjct, keep: 60s, at_most: 3}", "'take' cannot be read"),
        ("{ask: 'CareTeam?status=active', take: Group.id, keep: 60s, at_most: 3}", "'take' begins with the type"),
        ("{ask: 'CareTeam?status=active', take: CareTeam.note, keep: 60s, at_most: 3}", "a reference or a text"),
        ("{ask: 'CareTeam?status=active', take: CareTeam.subject, keep: 60, at_most: 3}", "keep is '60', expected"),
        ("{ask: 'CareTeam?status=active', take: CareTeam.subject, keep: 2d, at_most: 3}", "at most 24h"),
        ("{ask: 'CareTeam?status=active', take: CareTeam.subject, keep: 60s, at_most: 5001}", "from 1 to 5000"),
        ("{ask: 'CareTeam?status=active', take: CareTeam.subject, keep: 60s, at_most: 3, max_stale: 30s}",
         "'max_stale' is shorter than 'keep'"),
        ("{ask: 'CareTeam?status=active', take: CareTeam.subject, keep: 60s, at_most: 3, if_unavailable: permit}",
         "unknown answer without the fact 'permit'"),
        ("{ask: 'CareTeam?status=active', take: CareTeam.subject, kepp: 60s, at_most: 3}", "Did you mean 'keep'?"),
    ],
)  # fmt: skip
def test_a_fact_that_is_not_right_is_refused(fact: str, message: str) -> None:
    assert any(message in text for text in problems(f"definitions: d\nversion: 1\nfacts:\n  f: {fact}\n"))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("{compartment: {patient: {in: $facts.mne}}}", "no fact named 'mne'"),
        ("{compartment: {patient: {in: [$facts.mine, Patient/A]}}}", "a fact stands alone"),
        ("{compartment: {patient: {in: $facts.units}}}", "'List.id' gives no patients"),
        ("{match: {Observation: 'subject={facts.mne}'}}", "no fact named 'mne'"),
        ("{match: {Observation: 'subject=Patient/{facts.mine}'}}", "is not a whole fact"),
        ("{match: {Observation: 'subject={facts.mine},Patient/A'}}", "stands alone"),
        ("{match: {Observation: 'code:not={facts.mine}'}}", "cannot be asked of a fact"),
        ("{consent: {decision: permit}}", "consent must say its 'scope'"),
        ("{consent: {scope: research}}", "consent must say its 'decision'"),
        ("{consent: {scope: research, decision: yes}}", "unknown decision of a consent"),
        ("{consent: {scope: re search, decision: permit}}", "is no scope"),
        ("{consent: {scope: research, decision: permit, for: '{token.orgg}'}}", "Did you mean 'org'?"),
        ("{consent: {scope: research, decision: permit, for: 'x {token.org}'}}", "not a whole claim"),
        ("{consent: {scope: research, decision: permit, for: '{token.team}'}}", "several values"),
        ("{consent: {scope: research, decision: permit, if_unavailable: permit}}", "unknown answer without"),
        ("{consent: {scope: research, decision: permit, for: []}}", "'for' is empty"),
        ("{consent: {scope: research, decision: permit, for: [x, '{token.team}']}}", "several values"),
        ("{consent: {scope: research, decision: permit, inherit_labels: [basedOn]}}", "inherit_labels"),
        ("{consent: {scope: research, decision: permit, form: x}}", "Did you mean 'for'?"),
    ],
)
def test_a_condition_that_is_not_right_is_refused(where: str, message: str) -> None:
    text = policy(f"rule: r, effect: permit, may: [read], resources: [Observation], where: {where}")
    with pytest.raises(language.PolicyErrors) as refused:
        load(FACTS, text)
    assert any(message in str(problem) for problem in refused.value.problems), refused.value.problems


def test_only_the_facts_of_rules_about_the_caller_are_looked_for() -> None:
    judge = engine(
        f"{MINE}, who: {{role: physician}}",
        "rule: units, effect: permit, who: {role: nurse}, may: [read], resources: [Observation], "
        "where: {match: {Observation: 'identifier={facts.units}'}}",
    )
    told = known()
    assert isinstance(decide(judge, "GET /Observation/x", told), Deny)
    assert [question.fact.name for question in told.wanted().facts] == ["mine"]
    assert not told.wanted()


def test_a_list_of_patients_narrows_and_judges() -> None:
    decision = decide(engine(MINE), "GET /Observation", known(mine=["Patient/A", "Patient/C", "Group/g"]))
    assert isinstance(decision, Permit)
    assert decision.added == ("subject=Patient/A,Patient/C",)
    assert shows(decision, resource("Observation", subject="C"))
    assert not shows(decision, resource("Observation", subject="B"))


def test_an_empty_list_is_an_empty_set() -> None:
    assert isinstance(decide(engine(MINE), "GET /Observation", known(mine=[])), Nothing)
    match = (
        "rule: m, effect: permit, may: [read, search], resources: [Observation], "
        "where: {match: {Observation: 'subject={facts.mine}'}}"
    )
    assert isinstance(decide(engine(match), "GET /Observation", known(mine=[])), Nothing)
    one = decide(engine(match), "GET /Observation/x", known(mine=[]))
    assert not shows(one, resource("Observation", subject="A"))


def test_a_fact_in_criteria_is_its_values_as_alternatives() -> None:
    match = (
        "rule: m, effect: permit, may: [search], resources: [Observation], "
        "where: {match: {Observation: 'subject={facts.mine}'}}"
    )
    decision = decide(engine(match), "GET /Observation", known(mine=["Patient/A", "Patient/C"]))
    assert isinstance(decision, Permit)
    assert decision.added == ("subject=Patient/A,Patient/C",)
    broken = decide(engine(match), "GET /Observation", known(mine=["Patient/A&x=y"]))
    assert isinstance(broken, Deny)


def test_a_deny_by_a_fact_that_is_not_known_closes() -> None:
    shut = (
        "rule: shut, effect: deny, may: [any], resources: [Observation], "
        "where: {compartment: {patient: {in: $facts.mine}}}"
    )
    opened = "rule: open, effect: permit, may: [read], resources: [Observation], shared: true"
    for told in (known(), known(mine=Reason.FACTS_UNAVAILABLE), known(mine=["Patient/B", "Group/g"])):
        decision = decide(engine(opened, shut), "GET /Observation/x", told)
        assert not shows(decision, resource("Observation", subject="A"))
    assert shows(
        decide(engine(opened, shut), "GET /Observation/x", known(mine=["Patient/B"])),
        resource("Observation", subject="A"),
    )


@pytest.mark.parametrize("reason", [Reason.FACTS_UNAVAILABLE, Reason.FACTS_TOO_MANY])
def test_where_only_a_missing_fact_refuses_that_is_the_reason(reason: Reason) -> None:
    told = known(mine=reason)
    assert (
        told.refused_for(lambda: isinstance(decide(engine(MINE), "GET /Patient/A", told), Permit)) is reason
    )
    shut = "rule: shut, effect: deny, may: [any], resources: [Patient]"
    closed = engine(MINE, shut)
    assert told.refused_for(lambda: isinstance(decide(closed, "GET /Patient/A", told), Permit)) is None
    other = engine(MINE, "rule: other, effect: permit, may: [read], resources: [Patient], shared: true")
    assert told.refused_for(lambda: isinstance(decide(other, "GET /Patient/A", told), Permit)) is None


def test_an_answer_is_held_to_the_question() -> None:
    fact = load(FACTS).facts["mine"]
    question = FactQuestion(fact, "participant=Practitioner/dr1")

    def team(member: str, subject: dict[str, Any]) -> dict[str, Any]:
        return {
            "resourceType": "CareTeam",
            "participant": [{"member": {"reference": member}}],
            "subject": subject,
        }

    mine = team("Practitioner/dr1", {"reference": "http://upstream:8080/fhir/Patient/A/_history/2"})
    theirs = team("Practitioner/dr2", {"reference": "Patient/B"})
    assert taken(question, [mine, theirs, {"resourceType": "Patient"}], BASES) == FactValues(
        frozenset({"Patient/A"})
    )
    by_id = replace(question.fact, type="Patient", take="Patient.id")
    own = {"resourceType": "Patient", "id": "A", "generalPractitioner": [{"reference": "Practitioner/dr1"}]}
    asked = FactQuestion(by_id, "general-practitioner=Practitioner/dr1")
    assert taken(asked, [own], BASES).patients == {"A"}
    odd = team("Practitioner/dr1", {"identifier": {"value": "C"}})
    assert taken(question, [mine, odd], BASES) == FactValues(frozenset({"Patient/A"}), is_whole=False)


# Consents

STUDY = (
    "rule: study, effect: permit, may: [read, search, create], resources: [Observation, Organization], "
    "where: {consent: {scope: research, decision: permit}}"
)


class Agreed:
    """A source of consents that counts its searches."""

    def __init__(self, *patients: str) -> None:
        self.patients = patients
        self.asked: list[list[str]] = []

    async def answer(self, *args: object) -> FactValues | Reason:
        return Reason.FACTS_UNAVAILABLE

    async def of(self, patients: Any, questions: Any = ()) -> dict[str, Any]:
        self.asked.append(list(patients))
        told = selftest_words(*self.patients)
        return {patient: told[patient] for patient in patients if patient in told}

    async def close(self) -> None:
        return None


def selftest_words(*patients: str) -> dict[str, ConsentsOf | None]:
    def said(word: Said) -> ConsentsOf:
        return lambda question: ConsentAnswer(word)

    return {name.lstrip("-"): said(Said.DENY if name[0] == "-" else Said.PERMIT) for name in patients}


def test_a_resource_needs_the_consent_of_everybody_whom_it_is_about() -> None:
    told = known()
    told.consents |= selftest_words("A", "-B")
    decision = decide(engine(STUDY), "GET /Observation/x", told)
    assert shows(decision, resource("Observation", subject="A"))
    for other in (
        {"subject": "B"},
        {"subject": "C"},
        {},
        {"subject": {"display": "A"}},
        {"subject": {"reference": "#a"}},
    ):
        assert not shows(decision, resource("Observation", **other))
    assert not shows(decide(engine(STUDY), "GET /Organization/x", told), resource("Organization"))
    assert told.wanted().patients == {"C"}


def test_a_deny_closes_what_nobody_is_known_to_have_opened() -> None:
    opened = "rule: open, effect: permit, may: [read], resources: [Observation], shared: true"
    shut = (
        "rule: shut, effect: deny, may: [read], resources: [Observation], "
        "unless: {any_of: [{consent: {scope: research, decision: permit}}]}"
    )
    told = known()
    told.consents |= selftest_words("A", "-B")
    decision = decide(engine(opened, shut), "GET /Observation/x", told)
    assert shows(decision, resource("Observation", subject="A"))
    assert not shows(decision, resource("Observation", subject="B"))
    assert not shows(decision, resource("Observation", subject="C"))
    refused = (
        "rule: no, effect: deny, may: [read], resources: [Observation], "
        "where: {consent: {scope: research, decision: deny}}"
    )
    decision = decide(engine(opened, refused), "GET /Observation/x", told)
    assert shows(decision, resource("Observation", subject="A"))
    assert not shows(decision, resource("Observation", subject="B"))
    assert not shows(decision, resource("Observation", subject="C"))


def test_the_consent_of_the_whole_hospital_is_asked_whatever_opens() -> None:
    hospital = (
        FACTS
        + "consent: {scope: patient-privacy, decision: permit, unless: {context: patient}, because: Law.}\n"
    )
    opened = "rule: open, effect: permit, may: [read], resources: [Observation, Organization], shared: true"
    judge = engine(opened, definitions=hospital)
    told = known()
    told.consents |= selftest_words("A", "-B")
    decision = decide(judge, "GET /Observation/x", told)
    assert shows(decision, resource("Observation", subject="A"))
    assert not shows(decision, resource("Observation", subject="B"))
    assert shows(decide(judge, "GET /Organization/x", told), resource("Organization"))
    own = caller("patient", patient="B")
    assert shows(decide(judge, "GET /Observation/x", told, own), resource("Observation", subject="B"))


@pytest.mark.asyncio
async def test_consents_of_many_are_found_out_at_once_and_once() -> None:
    agreed = Agreed("A", "-B")
    told = Knowledge(Lookups(agreed, agreed, agreed, agreed.close), DOCTOR)
    decision = decide(engine(STUDY), "GET /Observation", told)
    assert isinstance(decision, Permit)
    judge = decision.judge
    assert judge is not None
    found = [resource("Observation", subject=patient) for patient in ("A", "B", "A")]
    await told.settle([lambda each=each: judge(each).shown for each in found])  # type: ignore[misc]
    assert agreed.asked == [["A", "B"]]
    assert [judge(each).shown for each in found] == [True, False, True]
    with pytest.raises(FhirError) as refused:
        await told.settle([lambda: judge(resource("Observation", subject="C")).shown])
    assert refused.value.reason is Reason.CONSENT_UNAVAILABLE


@pytest.mark.asyncio
async def test_the_budget_is_what_the_configuration_says_and_what_it_refused_is_counted() -> None:
    agreed, spent = Agreed("A", "B"), list[str]()
    lookups = Lookups(agreed, agreed, agreed, agreed.close, 1, lambda: spent.append("one"))
    told = Knowledge(lookups, DOCTOR)
    decision = decide(engine(STUDY), "GET /Observation", told)
    assert isinstance(decision, Permit)
    judge = decision.judge
    assert judge is not None
    await told.settle([lambda: judge(resource("Observation", subject="A")).shown])
    assert spent == []
    with pytest.raises(FhirError) as refused:
        await told.settle([lambda: judge(resource("Observation", subject="B")).shown])
    assert refused.value.reason is Reason.CONSENT_UNAVAILABLE
    assert spent == ["one"]


@pytest.mark.asyncio
async def test_a_request_does_not_cost_more_searches_than_its_budget() -> None:
    agreed = Agreed(*(f"p{n}" for n in range(20_000)))
    told = Knowledge(Lookups(agreed, agreed, agreed, agreed.close), DOCTOR)
    decision = decide(engine(STUDY), "GET /Observation", told)
    assert isinstance(decision, Permit)
    judge = decision.judge
    assert judge is not None
    await told.settle(
        [lambda n=n: judge(resource("Observation", subject=f"p{n}")).shown for n in range(12_800)]
    )  # type: ignore[misc]
    with pytest.raises(FhirError):
        await told.settle([lambda: judge(resource("Observation", subject="p15000")).shown])


# Tests in the file


def outcome(test: str, *rules: str, given: str = "") -> list[str]:
    text = policy(*rules, tests=f"  - {{test: t, as: {{context: user, user: Practitioner/d}}, {test}}}\n")
    return [str(problem) for problem in selftest.run(load(FACTS, text)).failures]


@pytest.mark.parametrize(
    "test",
    [
        "request: GET /Observation, facts: {mine: [Patient/A]}, expect: {upstream: 'GET /Observation?subject=Patient/A'}",
        "request: GET /Observation, facts: {mine: []}, expect: {decision: permit, upstream: none, entries: 0}",
        "request: GET /Patient/A, facts: {mine: unavailable}, expect: {status: 503, reason: facts-unavailable}",
        "request: GET /Patient/A, expect: {decision: deny, status: 503, reason: facts-unavailable}",
        "request: GET /Patient/A, facts: {mine: [a, b, c, d]}, expect: {status: 403, reason: facts-too-many}",
    ],
)
def test_a_test_gives_facts(test: str) -> None:
    assert outcome(test, MINE) == []


@pytest.mark.parametrize(
    ("consent", "expect"),
    [
        ("Patient/A: permit", "decision: permit, shows: [Observation/x]"),
        ("Patient/A: none", "decision: deny, status: 403, hides: [Observation/x]"),
        ("Patient/A: deny", "decision: deny, reason: no-permit"),
        ("Patient/A: unavailable", "decision: deny, status: 503, reason: consent-unavailable"),
        ("Patient/B: permit", "decision: deny, status: 403"),
    ],
)
def test_a_test_gives_consents(consent: str, expect: str) -> None:
    found = "Observation/x: {resourceType: Observation, id: x, subject: {reference: Patient/A}}"
    test = f"request: GET /Observation/x, given: {{{found}, consent: {{{consent}}}}}, expect: {{{expect}}}"
    assert outcome(test, STUDY) == []


CONSENT = (
    "{{resourceType: Consent, id: c, status: active, scope: {{coding: [{{system: "
    "'http://terminology.hl7.org/CodeSystem/consentscope', code: research}}]}}, provision: {{type: permit, {0}}}}}"
)


@pytest.mark.parametrize(
    ("provision", "expect"),
    [
        ("id: p", "decision: permit, shows: [Observation/x]"),
        ("dataPeriod: {start: '2026'}", "decision: permit, shows: [Observation/x]"),
        ("dataPeriod: {start: '2027'}", "decision: deny, reason: no-permit"),
        ("period: {end: '2026'}", "decision: deny, reason: no-permit"),
    ],
)
def test_a_test_gives_consents_as_they_stand(provision: str, expect: str) -> None:
    found = (
        "{resourceType: Observation, id: x, subject: {reference: Patient/A}, effectiveDateTime: '2026-03-01'}"
    )
    given = f"Observation/x: {found}, consent: {{Patient/A: [{CONSENT.format(provision)}]}}"
    test = f"request: GET /Observation/x, given: {{{given}}}, expect: {{{expect}}}"
    assert outcome(test, STUDY) == []


def by(names: str) -> str:
    condition = f"{{scope: research, decision: permit, for: {names}}}"
    return (
        f"rule: study, effect: permit, may: [read], resources: [Observation], where: {{consent: {condition}}}"
    )


@pytest.mark.parametrize(
    ("names", "who", "actors", "is_partial"),
    [
        ("'{token.user}'", DOCTOR, {"Practitioner/dr1"}, False),
        (
            "['{token.user}', '{token.org}', '{client}', desk]",
            DOCTOR,
            {"Practitioner/dr1", "H1", "app", "desk"},
            False,
        ),
        ("['{token.user}', '{client}']", caller(), {"app"}, True),
        ("['https://gw.example/fhir/r4/Device/d/_history/2']", DOCTOR, {"Device/d"}, False),
    ],
)
def test_a_consent_is_for_the_names_of_one_caller(
    names: str, who: Caller, actors: set[str], is_partial: bool
) -> None:
    asked: list[ConsentQuestion] = []

    def noting(question: ConsentQuestion) -> ConsentAnswer:
        asked.append(question)
        return ConsentAnswer(Said.PERMIT)

    told = known()
    told.consents["A"] = noting
    assert shows(
        decide(engine(by(names)), "GET /Observation/x", told, who), resource("Observation", subject="A")
    )
    (question,) = asked
    assert (question.actors, question.is_partial, question.type) == (actors, is_partial, "Observation")
    assert question.resource is not None
    assert question.resource.place == "Observation/x"


def test_a_consent_for_a_caller_of_no_name_is_not_asked_for() -> None:
    decision = decide(engine(by("'{token.user}'")), "GET /Observation/x", known(), caller())
    assert isinstance(decision, Deny)


def test_labels_that_a_resource_inherits_count_for_consents() -> None:
    rule = (
        "rule: study, effect: permit, may: [read], resources: [Observation], "
        "where: {consent: {scope: research, decision: permit, inherit_labels: [encounter]}}"
    )
    restricted = Label("http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "R")
    asked: list[ConsentQuestion] = []

    def noting(question: ConsentQuestion) -> ConsentAnswer:
        asked.append(question)
        return ConsentAnswer(Said.PERMIT)

    told = known()
    told.consents["A"] = noting
    within = resource("Observation", subject="A") | {"encounter": {"reference": "Encounter/e"}}
    judge = engine(rule)
    shows(decide(judge, "GET /Observation/x", told), within)
    assert told.wanted().places == {"Encounter/e"}
    assert asked[-1].resource is not None
    assert asked[-1].resource.labels is None  # not known yet: doubt
    told.labels["Encounter/e"] = Labelled(frozenset({restricted}), {})
    shows(decide(judge, "GET /Observation/x", told), within)
    assert asked[-1].resource is not None
    assert asked[-1].resource.labels == {restricted}


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("facts: {mne: []}", "no fact named 'mne'. Did you mean 'mine'?"),
        ("facts: {mine: A}", "must be a list of values"),
        ("given: {consent: {A: permit}}", "'A' is no patient"),
        ("given: {consent: {Patient/A: perhaps}}", "consent is 'perhaps'"),
    ],
)
def test_what_a_test_gives_is_written_right(test: str, message: str) -> None:
    found = outcome(f"request: GET /Patient/A, {test}, expect: {{decision: permit}}", MINE)
    assert len(found) == 1
    assert message in found[0]


def test_what_a_search_found_meets_what_it_was_sent_where_a_test_says_nothing_of_it() -> None:
    rule = (
        "rule: lab, effect: permit, may: [search, read], resources: [Observation], "
        "where: {match: {Observation: 'status=final&category=laboratory'}}"
    )
    brief = "{resourceType: Observation, id: x}"
    other = "{resourceType: Observation, id: y, status: amended}"
    listed = f"request: GET /Observation, given: {{search: [{brief}, {other}]}}"
    assert outcome(f"{listed}, expect: {{shows: [Observation/x], hides: [Observation/y]}}", rule) == []
    read = f"request: GET /Observation/x, given: {{Observation/x: {brief}}}, expect: {{decision: deny}}"
    assert outcome(read, rule) == []
    deny = (
        "rule: no, effect: deny, may: [search], resources: [Observation], "
        "where: {match: {Observation: 'code=x'}}"
    )
    assert outcome(f"{listed}, expect: {{shows: [Observation/x]}}", rule, deny) == []


# Writing of sources


def test_rules_that_write_what_decisions_are_made_of_are_warned_about() -> None:
    loose = "rule: loose, effect: permit, may: [update], resources: any, shared: true"
    named = "rule: named, effect: permit, may: [update], resources: [CareTeam], shared: true"
    warnings = [str(problem) for problem in load(FACTS, policy(MINE, loose, named)).warnings]
    assert any("rule 'p/loose' does not open writes of CareTeam" in text for text in warnings)
    assert any("rule 'p/named' lets those whom 'p/mine' governs write CareTeam" in text for text in warnings)


def test_a_source_is_open_to_those_whom_it_does_not_govern() -> None:
    loose = "rule: loose, effect: permit, may: [update, create], resources: any, shared: true"
    judge = engine(f"{MINE}, who: {{role: physician}}", loose)
    nurse = caller(roles=["nurse"])
    assert isinstance(decide(judge, "PUT /CareTeam/t", known(mine=[]), nurse), Permit)
    for who in (DOCTOR, caller(), caller(roles="physician")):
        assert isinstance(decide(judge, "PUT /CareTeam/t", known(mine=[]), who), Deny)
        assert isinstance(decide(judge, "POST /CareTeam", known(mine=[]), who), Deny)
