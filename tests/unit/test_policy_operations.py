"""Operations: opened by name only, and never showing what read and search would not."""

import pytest

from gateway.fhir.outcome import Reason
from gateway.fhir.request_target import upstream_target
from gateway.policy.decision import Decision, Deny, LookingJudge, Permit
from tests.support.policies import HERE, ask, caller, category, decide, engine, load, policy, resource
from tests.unit.test_policy_language import of_rule

READ = "rule: read, effect: permit, may: [read, search], resources: [Patient, $chart], shared: true"
OWN = (
    "rule: own, effect: permit, may: [read, search], resources: [Patient, $chart], "
    'where: {compartment: {patient: "{token.patient}"}}'
)
ALL = 'rule: all, effect: permit, may: ["operation:Patient/$everything"], resources: [Patient], shared: true'
LASTN = 'rule: lastn, effect: permit, may: ["operation:$lastn"], resources: [Observation], shared: true'
A = caller("patient", patient="A")
EVERYTHING = "GET /Patient/A/$everything"


def sent(decision: Decision) -> str:
    assert isinstance(decision, Permit), decision
    return upstream_target(decision.request)


def denied(decision: Decision) -> Reason:
    assert isinstance(decision, Deny), decision
    return decision.reason


def passes(decision: Decision, **members: object) -> bool:
    assert isinstance(decision, Permit), decision
    value = resource(str(members.pop("type")), **members)  # type: ignore[arg-type]
    judge = decision.judges.get(value["resourceType"])
    return judge is not None and judge(value).shown


# The words


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("may: ['operation:$evrything'], resources: [Patient]",
         "unknown operation '$evrything'. Did you mean '$everything'?"),
        ("may: ['operation:Patint/$everything'], resources: [Patient]", "unknown resource type 'Patint'. Did you mean"),
        ("may: ['operation:Observation/$everything'], resources: [Observation]",
         "'$everything' is not an operation of Observation that is decided here"),
        ("may: ['operation:Patient/$everything'], resources: [Observation]", "could never match"),
        ("may: ['operation:export-status'], resources: [Group]", "'export-status' belongs to an export"),
        ("may: ['operation:Group/$export', 'operation:Group/export-file'], resources: [Group]",
         "unknown operation 'export-file'"),
        ("may: ['operation:Group/$export', 'operation:export-fil'], resources: [Group]",
         "unknown operation 'export-fil'. Did you mean 'export-file'?"),
        ("may: ['operation:$everything'], resources: [Observation]", "could never match"),
        ("may: [operation], resources: [Patient]", "a permit names each operation"),
        ("may: ['operation:export-files'], resources: [Group]", "Did you mean 'export-file'?"),
        ("may: [read], resources: [Patient], operation: {types: [Patient]}", "is for a permit whose 'may' names operations"),
        ("may: ['operation:$everything'], resources: [Patient], operation: {jobs_at_once: 2}",
         "is for a permit of '$export'"),
        ("may: ['operation:$export'], resources: [Group], operation: {jobs: 2}", "operation has no key 'jobs'."),
        ("may: ['operation:$export'], resources: [Group], operation: {jobs_at_once: 0}", "must be a number of 1 to 100"),
        ("may: ['operation:$export'], resources: [Group], operation: {jobs_at_once: yes}", "must be a number of 1 to 100"),
        ("may: ['operation:$export'], resources: [Group], operation: {files_through_gateway: false}",
         "files never go round the gateway"),
        ("may: ['operation:$export'], resources: [Group], operation: {types: [Patint]}", "unknown resource type 'Patint'"),
        ("may: ['operation:$export'], resources: [Group], operation: {type_filter: {Condition: 'Condition?code=x'}}",
         "which do not name 'Condition'"),
        ("may: ['operation:$export'], resources: [Group], operation: "
         "{types: [Condition], type_filter: {Condition: 'code=x'}}",
         "type_filter cannot be read"),
        ("may: ['operation:$export'], resources: [Group], operation: "
         "{types: [Condition], type_filter: {Condition: 'Condition?codez=x'}}", "type_filter cannot be read"),
    ],
)  # fmt: skip
def test_an_operation_that_is_not_written_right_is_refused_at_load(rule: str, message: str) -> None:
    found = of_rule(f"rule: r, effect: permit, {rule}, shared: true")
    assert [text for text in found if message in text], found


def test_a_deny_speaks_of_every_operation_by_any() -> None:
    (rule,) = load(policy("rule: r, effect: deny, may: [any], resources: [any]")).rules
    assert rule.operation.speaks_of("Patient", "everything")
    assert rule.operation.speaks_of(None, "made-up")
    (rule,) = load(policy(READ.replace("[read, search]", "[any]"))).rules
    assert not rule.operation.speaks_of("Patient", "everything")


# Opened by name


@pytest.mark.parametrize(
    "request_",
    ["GET /Patient/A/$graphql?query=x", "POST /$graphql", "POST /Patient/A/$everything", "GET /Patient/$everything",
     "GET /Encounter/e/$everything", "GET /$everything", "POST /Patient/$match", "POST /Patient/A/$merge",
     "GET /Observation/$stats", "GET /Observation/o/$validate", "GET /ValueSet/$expand", "GET /Patient/A/$export",
     "POST /$export", "GET /Patient/A/$meta", "GET /DocumentReference/$lastn"],
)  # fmt: skip
def test_an_operation_that_is_not_in_the_table_is_closed_to_everybody(request_: str) -> None:
    rules = ["rule: r, effect: permit, may: [any], resources: [any], shared: true", READ, ALL, LASTN]
    assert denied(decide(rules, caller(), request_)) is Reason.INTERACTION_CLOSED


def test_an_operation_that_no_permit_names_is_closed() -> None:
    assert denied(decide([READ], caller(), EVERYTHING)) is Reason.INTERACTION_CLOSED
    assert denied(decide([READ, ALL], caller(), "GET /Observation/$lastn")) is Reason.INTERACTION_CLOSED
    other = ALL.replace("effect: permit,", "effect: permit, who: {client: other},")
    assert denied(decide([READ, other], caller(), EVERYTHING)) is Reason.INTERACTION_CLOSED


@pytest.mark.parametrize(
    "may", ["any", "operation", '"operation:$everything"', '"operation:Patient/$everything"']
)
def test_a_deny_of_an_operation_closes_it(may: str) -> None:
    deny = f"rule: no, effect: deny, may: [{may}], resources: [Patient]"
    assert denied(decide([READ, ALL, deny], caller(), EVERYTHING)) is Reason.POLICY_DENIED


# $everything


def test_everything_is_cut_to_the_types_that_may_be_read_and_searched() -> None:
    decision = decide([READ, ALL], caller(), EVERYTHING)
    assert sent(decision) == "Patient/A/$everything?_type=Condition%2CEncounter%2CObservation%2CPatient"
    reading = READ.replace("[read, search]", "[read]")
    assert denied(decide([reading, ALL], caller(), EVERYTHING)) is Reason.NO_PERMIT


@pytest.mark.parametrize(
    ("scope", "types"),
    [
        ("user/*.rs", "Condition%2CEncounter%2CObservation%2CPatient"),
        ("user/Patient.rs user/Observation.rs", "Observation%2CPatient"),
        ("user/Patient.rs user/Observation.r user/Condition.s", "Patient"),
    ],
)
def test_everything_needs_the_letters_r_and_s_of_what_it_returns(scope: str, types: str) -> None:
    decision = decide([READ, ALL], caller(scope=scope), EVERYTHING)
    assert sent(decision) == f"Patient/A/$everything?_type={types}"


def test_everything_passes_its_own_parameters_and_no_others() -> None:
    decision = decide(
        [READ, ALL], caller(), EVERYTHING + "?_type=Observation,Organization&_since=2024-01-01&_count=5"
    )
    assert sent(decision) == "Patient/A/$everything?_since=2024-01-01&_count=5&_type=Observation"
    for query in (
        "_type=Organization",
        "_elements=id",
        "_type=Nothing",
        "x=1",
    ):
        assert isinstance(decide([READ, ALL], caller(), f"{EVERYTHING}?{query}"), Deny)


def test_everything_returns_no_more_types_than_its_rule_says() -> None:
    rule = ALL + ", operation: {types: [Patient, Condition, Organization]}"
    decision = decide([READ, rule], caller(), EVERYTHING)
    assert sent(decision) == "Patient/A/$everything?_type=Condition%2CPatient"
    assert not passes(decision, type="Observation")
    wider = rule.replace("rule: all", "rule: wide").replace("Condition, Organization", "Observation")
    assert sent(decide([READ, rule, wider], caller(), EVERYTHING)) == "Patient/A/$everything?_type=Patient"


def test_every_entry_of_everything_is_judged_by_the_rules_of_its_type() -> None:
    deny = "rule: no, effect: deny, may: [search], resources: [Observation], where: {match: {Observation: category=x}}"
    decision = decide([OWN, ALL, deny], A, EVERYTHING)
    assert passes(decision, type="Observation", subject="A")
    assert not passes(decision, type="Observation", subject="B")
    assert not passes(decision, type="Observation", subject="A", category=category("x"))
    assert passes(decision, type="Patient", id="A")
    assert not passes(decision, type="Patient", id="B")
    assert not passes(decision, type="Group")


def test_Q281_the_filter_of_a_scope_holds_within_everything() -> None:
    who = caller(
        "patient", patient="A", scope="patient/Patient.rs patient/Observation.rs?category=laboratory"
    )
    decision = decide([OWN, ALL], who, EVERYTHING)
    assert passes(decision, type="Observation", subject="A", category=category("laboratory"))
    assert not passes(decision, type="Observation", subject="A", category=category("vital-signs"))


def test_K189_everything_of_a_stranger_is_not_found() -> None:
    decision = decide([OWN, ALL], A, "GET /Patient/B/$everything")
    assert denied(decision) is Reason.NOT_FOUND
    own = ALL.replace("shared: true", 'where: {compartment: {patient: "{token.patient}"}}')
    assert denied(decide([READ, own], caller(patient="A"), "GET /Patient/B/$everything")) is Reason.NOT_FOUND
    assert isinstance(decide([READ, own], caller(patient="A"), EVERYTHING), Permit)


# Searches by another name, and $validate


def test_K196_lastn_is_narrowed_as_a_search_and_judged_as_one() -> None:
    decision = decide([OWN, LASTN], A, "GET /Observation/$lastn?code=x&max=3")
    assert sent(decision) == "Observation/$lastn?code=x&subject=Patient%2FA&max=3"
    assert passes(decision, type="Observation", subject="A")
    assert not passes(decision, type="Observation", subject="B")
    assert isinstance(decision, Permit)
    assert not decision.exact
    stranger = decide([OWN, LASTN], A, "GET /Observation/$lastn?subject=Patient/B")
    assert not isinstance(stranger, Permit | Deny)  # found nothing, and nobody was asked


@pytest.mark.parametrize(
    "shown",
    [
        "return: {hide: [Observation.effective]}",
        "return: {round_dates: {Observation.effective: year}}",
        "return: {hide: [Observation.code]}",
        "return: {only: [Observation.status]}",
        "query: {closed: [date]}",
    ],
)
def test_lastn_is_closed_where_a_sort_by_what_it_goes_by_would_be(shown: str) -> None:
    part = f"rule: part, effect: permit, may: [read, search], resources: [Observation], shared: true, {shown}"
    refusal = denied(decide([part, LASTN], caller(), "GET /Observation/$lastn"))
    assert refusal is denied(decide([part], caller(), "GET /Observation?_sort=code,-date"))
    assert isinstance(decide([part], caller(), "GET /Observation"), Permit)
    both = decide([part, OWN, LASTN], A, "GET /Observation/$lastn?max=1")
    assert sent(both) == "Observation/$lastn?subject=Patient%2FA&max=1"
    assert not passes(both, type="Observation", subject="B"), "what is shown in part is none of the last"


def test_of_an_operation_no_self_link_is_asked_for_what_a_permit_needs() -> None:
    part = (
        "rule: part, effect: permit, may: [read, search], resources: [Observation], shared: true, "
        "query: {needs_one_of: [patient]}"
    )
    found = decide([part, LASTN], caller(), "GET /Observation/$lastn?patient=A")
    assert isinstance(found, Permit)
    assert (found.added, found.needed) == ((), frozenset())
    searched = decide([part], caller(), "GET /Observation?patient=A")
    assert isinstance(searched, Permit)
    assert searched.needed == {"patient"}
    assert denied(decide([part, LASTN], caller(), "GET /Observation/$lastn?code=x")) is Reason.QUERY_CLOSED


def test_lastn_takes_a_deny_of_what_it_goes_by_for_a_refusal() -> None:
    deny = "rule: no, effect: deny, may: [any], resources: [Observation], fields: [Observation.effective]"
    assert (
        denied(decide([READ, deny, LASTN], caller(), "GET /Observation/$lastn"))
        is Reason.UNSUPPORTED_PARAMETER
    )


def test_lastn_is_judged_by_the_condition_of_its_own_rule_too() -> None:
    lab = LASTN.replace("shared: true", "where: {match: {Observation: category=lab}}")
    decision = decide([READ, lab], caller(), "GET /Observation/$lastn?code=x")
    assert passes(decision, type="Observation", category=category("lab"))
    assert not passes(decision, type="Observation", category=category("other"))


def test_docref_is_for_one_patient_whom_the_caller_may_see() -> None:
    documents = OWN.replace("$chart", "DocumentReference")
    docref = (
        'rule: d, effect: permit, may: ["operation:$docref"], resources: [DocumentReference], shared: true'
    )
    rules = [documents, docref]
    decision = decide(rules, A, "GET /DocumentReference/$docref?patient=A&start=2024-01-01")
    assert sent(decision) == "DocumentReference/$docref?patient=A&start=2024-01-01"
    assert passes(decision, type="DocumentReference", subject="A")
    assert not passes(decision, type="DocumentReference", subject="B")
    assert not isinstance(decide(rules, A, "GET /DocumentReference/$docref?patient=B"), Permit)
    for query in ("", "?start=2024", "?patient=A,B", "?patient=A&patient=B", "?patient=A&on-demand=true"):
        assert isinstance(decide(rules, A, f"GET /DocumentReference/$docref{query}"), Deny), query


def test_K193_validate_needs_what_a_create_would_need() -> None:
    validate = 'rule: v, effect: permit, may: ["operation:$validate"], resources: [Observation], shared: true'
    create = "rule: c, effect: permit, may: [create], resources: [Observation], where: {match: {Observation: category=lab}}"
    decision = decide([create, validate], caller(), "POST /Observation/$validate")
    assert sent(decision) == "Observation/$validate"
    assert passes(decision, type="Observation", category=category("lab"))
    assert not passes(decision, type="Observation", category=category("other"))
    assert denied(decide([READ, validate], caller(), "POST /Observation/$validate")) is Reason.NO_PERMIT
    reading = caller(scope="user/*.rs")
    assert (
        denied(decide([create, validate], reading, "POST /Observation/$validate"))
        is Reason.SCOPE_INSUFFICIENT
    )
    profile = "POST /Observation/$validate?profile=http://evil.example"
    assert denied(decide([create, validate], caller(), profile)) is Reason.UNSUPPORTED_PARAMETER


# What is seen within operations


SYSTEM = caller("system")


def seen(decision: Decision, **members: object) -> dict[str, object]:
    assert isinstance(decision, Permit), decision
    value = resource("Observation", **members)  # type: ignore[arg-type]
    verdict = decision.judges["Observation"](value)
    assert verdict.shown
    return dict(value if verdict.seen is None else verdict.seen)


def test_everything_shows_of_a_resource_what_both_read_and_search_show() -> None:
    shown = "effect: permit, resources: [Observation], shared: true"
    read = f"rule: one, {shown}, may: [read], return: {{only: [Observation.status, Observation.subject]}}"
    search = f"rule: two, {shown}, may: [search], return: {{hide: [Observation.subject]}}"
    found = seen(
        decide([read, search, ALL], caller(), EVERYTHING), status="final", subject="A", issued="2024"
    )
    assert (found["status"], found["id"]) == ("final", "x")
    assert not {"subject", "issued"} & found.keys()


def test_an_export_cannot_be_asked_by_a_filter_for_what_is_hidden() -> None:
    rule = (
        'rule: e, effect: permit, may: ["operation:Patient/$export"], resources: [Patient], shared: true, '
        "operation: {types: [Observation]}"
    )
    deny = "rule: d, effect: deny, may: [search], resources: [Observation], fields: [Observation.code]"
    query = "GET /Patient/$export?_typeFilter=Observation%3F"
    assert isinstance(decide([rule, deny], SYSTEM, f"{query}status%3Dfinal"), Permit)
    assert isinstance(decide([rule, deny], SYSTEM, f"{query}code%3Dx"), Deny)
    assert isinstance(decide([rule], SYSTEM, f"{query}code%3Dx"), Permit)


def test_a_deny_of_fields_holds_within_an_export() -> None:
    rule = (
        'rule: e, effect: permit, may: ["operation:Patient/$export"], resources: [Patient], shared: true, '
        "operation: {types: [Observation]}"
    )
    deny = "rule: d, effect: deny, may: [read], resources: [Observation], fields: [Observation.issued]"
    shown = seen(decide([rule, deny], SYSTEM, "GET /Patient/$export"), status="final", issued="2024")
    assert shown["status"] == "final"
    assert "issued" not in shown


def test_a_permit_of_a_search_opens_no_export_of_the_whole_system() -> None:
    rule = 'rule: e, effect: permit, may: ["operation:$export"], resources: [any], shared: true'
    assert sent(decide([READ, rule], SYSTEM, "GET /$export?_type=Condition")) == "$export?_type=Condition"
    limited = rule.replace("shared: true", "where: {ids: [a]}")
    assert denied(decide([READ, limited], SYSTEM, "GET /$export")) is Reason.INTERACTION_CLOSED


def test_an_export_shows_of_its_types_what_its_rule_says() -> None:
    rule = (
        'rule: e, effect: permit, may: ["operation:Patient/$export"], resources: [Patient], shared: true, '
        "operation: {types: [Observation]}, return: {only: [Observation.status, Observation.subject]}"
    )
    members = {"status": "final", "subject": "A", "issued": "2024"}
    shown = seen(decide([rule], SYSTEM, "GET /Patient/$export"), **members)
    assert {"status", "subject", "id"} <= shown.keys()
    assert "issued" not in shown
    query = "GET /Patient/$export?_typeFilter=Observation%3F"
    assert isinstance(decide([rule], SYSTEM, f"{query}status%3Dfinal"), Permit)
    assert isinstance(decide([rule], SYSTEM, f"{query}code%3Dx"), Deny)
    wide = rule.replace("rule: e", "rule: w").replace(", Observation.subject]", "]")
    shown = seen(decide([rule, wide], SYSTEM, "GET /Patient/$export"), **members)
    assert shown["status"] == "final"
    assert "subject" not in shown


def test_a_job_that_is_not_known_is_not_found() -> None:
    decision = engine("rule: r, effect: permit, may: [read], resources: [Group], shared: true").decide(
        ask("GET /_job/of-somebody-else"), caller("system"), HERE
    )
    assert denied(decision) is Reason.NOT_FOUND


def test_a_judge_of_an_operation_says_what_it_looks_at_where_all_its_parts_do() -> None:
    """One of reading may look at less than one of searching: both count."""
    final = "where: {match: {Observation: 'status=final'}}"
    searched = f"rule: searched, effect: deny, may: [search], resources: [Observation], {final}"
    said = engine(OWN, ALL, searched).decide(ask(EVERYTHING), A, HERE)
    assert isinstance(said, Permit)
    judge = said.judges["Observation"]
    assert isinstance(judge, LookingJudge)
    assert {"resourceType", "subject", "status"} <= judge.looks_at
    final = "where: {fhirpath: {Observation: \"status = 'final'\"}}"
    for may in ("read", "search"):
        closing = f"rule: closing, effect: deny, may: [{may}], resources: [Observation], {final}"
        said = engine(OWN, ALL, closing).decide(ask(EVERYTHING), A, HERE)
        assert isinstance(said, Permit)
        assert not isinstance(said.judges["Observation"], LookingJudge)
