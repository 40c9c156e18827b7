"""Writes in policies: both versions are judged by one permit; readonly, must_hold, changes and conditional."""

from pathlib import Path
from typing import Any

import pytest

from gateway.fhir.outcome import Reason
from gateway.policy.decision import Deny, Permit, Verdict
from gateway.policy.language import PolicyErrors
from gateway.policy.selftests import selftest
from gateway.policy.view import paths_of
from gateway.policy.write_rules import differs
from tests.support.policies import HERE, ask, caller, category, decide, engine, load, policy, resource

Resource = dict[str, Any]
OPEN = "rule: open, effect: permit, may: [create, update, patch, delete], resources: [any], shared: true"
OWN = 'where: {compartment: {patient: "{token.patient}"}}'
DOCTOR = caller("user", fhirUser="Practitioner/dr1", roles=["physician"])


def change(
    rules: list[str], before: Resource | None, after: Resource | None, request: str, who: Any = DOCTOR
) -> Verdict:
    decision = decide(rules, who, request)
    assert isinstance(decision, Permit), decision
    assert decision.judge_change is not None
    return decision.judge_change(before, after)


def update(rule: str, before: Resource, after: Resource) -> bool:
    type_, id_ = before["resourceType"], before["id"]
    return change([rule], before, after, f"PUT /{type_}/{id_}").shown


def test_both_versions_must_be_the_own_ones() -> None:
    rule = f"rule: r, effect: permit, may: [update, delete], resources: [Observation], {OWN}"
    mine, theirs = resource("Observation", subject="A"), resource("Observation", subject="B")
    who = caller("patient", patient="A")
    assert change([rule], mine, mine, "PUT /Observation/x", who).shown
    assert not change([rule], mine, theirs, "PUT /Observation/x", who).shown
    assert not change([rule], theirs, mine, "PUT /Observation/x", who).shown
    assert change([rule], mine, None, "DELETE /Observation/x", who).shown
    assert not change([rule], theirs, None, "DELETE /Observation/x", who).shown


def test_one_permit_holds_for_both_versions() -> None:
    rules = [
        f"rule: {code}, effect: permit, may: [update], resources: [Observation], "
        f"where: {{match: {{Observation: 'Observation?category={code}'}}}}"
        for code in ("laboratory", "survey")
    ]
    lab, survey = (resource("Observation", category=category(code)) for code in ("laboratory", "survey"))
    assert change(rules, lab, lab, "PUT /Observation/x").rules == ("p/laboratory",)
    assert change(rules, lab, survey, "PUT /Observation/x").reason is Reason.NO_PERMIT


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_deny_or_require_closes_by_either_version(side: str) -> None:
    final, other = resource("Observation", status="final"), resource("Observation", status="preliminary")
    before, after = (final, other) if side == "before" else (other, final)
    deny = (
        "rule: d, effect: deny, may: [update], resources: [Observation], "
        "where: {match: {Observation: 'Observation?status=final'}}"
    )
    require = (
        "rule: q, effect: require, may: [update], resources: [Observation], "
        "where: {match: {Observation: 'Observation?status=preliminary'}}"
    )
    for rule in (deny, require):
        verdict = change([OPEN, rule], before, after, "PUT /Observation/x")
        assert (verdict.shown, verdict.reason) == (False, Reason.POLICY_DENIED)
        assert change([OPEN, rule], other, other, "PUT /Observation/x").shown


def test_scopes_with_a_filter_hold_for_both_versions() -> None:
    who = caller(scope="user/Observation.u?status=preliminary")
    final, other = resource("Observation", status="final"), resource("Observation", status="preliminary")
    assert change([OPEN], other, other, "PUT /Observation/x", who).shown
    for before, after in ((final, other), (other, final)):
        verdict = change([OPEN], before, after, "PUT /Observation/x", who)
        assert verdict.reason is Reason.SCOPE_INSUFFICIENT


@pytest.mark.parametrize(
    ("after", "passes"),
    [
        ({"status": "amended"}, True),
        ({"subject": {"reference": "Patient/B"}}, False),
        ({"subject": {"reference": "Patient/A", "display": "x"}}, False),
        ({"subject": ...}, False),
        ({"valueString": "x"}, False),
        ({"valueInteger": 1}, False),
        ({"_valueQuantity": {"extension": []}}, False),
        ({"note": [{"text": "new", "time": "2026"}]}, True),
        ({"note": [{"text": "old"}, {"text": "more"}]}, True),
        ({"note": [{"text": "old", "authorString": "x"}]}, False),
    ],
)
def test_what_is_readonly_stays(after: Resource, passes: bool) -> None:
    rule = f"{OPEN}, write: {{readonly: [subject, Observation.value, note.author]}}"
    before = resource("Observation", subject="A", valueQuantity={"value": 1}, note=[{"text": "old"}])
    new = {name: value for name, value in (before | after).items() if value is not ...}
    assert update(rule, before, new) is passes


def test_readonly_says_nothing_of_creates_and_deletes() -> None:
    rule = f"{OPEN}, write: {{readonly: [subject]}}"
    one = resource("Observation", subject="A")
    assert change([rule], None, one, "POST /Observation").shown
    assert change([rule], one, None, "DELETE /Observation/x").shown


def test_a_number_with_another_precision_is_another() -> None:
    paths = paths_of("Observation", ["Observation.value"])
    one, true = {"valueInteger": 1}, {"valueInteger": True}
    assert differs(one, true, paths)
    assert not differs(one, {"valueInteger": 1, "status": "final"}, paths)
    assert differs(None, one, paths)
    assert not differs(None, {}, paths)


@pytest.mark.parametrize(
    ("statement", "before", "after", "passes"),
    [
        ("MedicationRequest.requester.reference = %token.user", {}, {"requester": "dr1"}, True),
        ("MedicationRequest.requester.reference = %token.user", {}, {"requester": "dr2"}, False),
        ("MedicationRequest.requester.reference = %token.user", {}, {}, False),
        ("MedicationRequest.requester.reference = %token.team", {}, {"requester": "dr1"}, False),
        ("%before.status = 'draft' and status = 'active'", {"status": "draft"}, {"status": "active"}, True),
        ("%before.status = 'draft' and status = 'active'", {"status": "active"}, {"status": "active"}, False),
        ("Observation.status = 'final'", {}, {"status": "draft"}, True),
    ],
)
def test_a_statement_must_hold(statement: str, before: Resource, after: Resource, passes: bool) -> None:
    rule = f'{OPEN.replace("[any]", "[MedicationRequest, Observation]")}, write: {{must_hold: "{statement}"}}'
    old, new = (
        resource("MedicationRequest", **version)
        | (
            {"requester": {"reference": f"Practitioner/{version['requester']}"}}
            if "requester" in version
            else {}
        )
        for version in (before, after)
    )
    assert update(rule, old, new) is passes


def test_a_statement_about_the_version_before_refuses_a_create() -> None:
    rule = f"{OPEN}, write: {{must_hold: \"%before.meta.source = 'x'\"}}"
    assert not change([rule], None, resource("Observation"), "POST /Observation").shown


def test_a_create_with_a_statement_is_judged_where_creates_are_judged() -> None:
    rule = f"{OPEN}, write: {{must_hold: \"meta.source = 'urn:lis'\"}}"
    decision = decide([rule], DOCTOR, "POST /Observation")
    assert isinstance(decision, Permit)
    assert decision.judge is not None
    assert not decision.unconditional
    assert decision.judge(resource("Observation", meta={"source": "urn:lis"})).shown
    assert not decision.judge(resource("Observation", meta={"source": "urn:other"})).shown


LABEL: Resource = {"security": [{"code": "R"}]}


@pytest.mark.parametrize(
    ("before", "after", "passes"),
    [
        (LABEL, LABEL, True),
        ({"versionId": "1", **LABEL}, {"versionId": "2", **LABEL}, True),
        (LABEL, {}, False),
        ({}, LABEL, False),
        (LABEL, {"security": [{"code": "N"}]}, False),
        (LABEL, {"security": []}, False),
        ({}, {"tag": [{"code": "x"}]}, True),
        (None, {}, True),
        (None, LABEL, False),
    ],
)
@pytest.mark.parametrize("type_", ["Observation", "Organization"])
def test_H149_a_deny_closes_the_change_of_labels(
    type_: str, before: Resource | None, after: Resource, passes: bool
) -> None:
    deny = (
        "rule: labels, effect: deny, who: {role: {not: privacy-officer}}, may: [create, update, patch], "
        "resources: [any], changes: [meta.security]"
    )
    old = None if before is None else resource(type_, meta=before)
    request = f"POST /{type_}" if before is None else f"PATCH /{type_}/x"
    verdict = change([OPEN, deny], old, resource(type_, meta=after), request)
    assert verdict.shown is passes
    if not passes:
        assert (verdict.rules, verdict.reason) == (("p/labels",), Reason.POLICY_DENIED)
    officer = caller("user", roles=["privacy-officer"])
    assert change([OPEN, deny], old, resource(type_, meta=after), request, officer).shown


INLINE = {
    "extension": [
        {
            "url": "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label",
            "valueCoding": {"code": "PSY"},
        }
    ]
}
WITHIN = {"resourceType": "Observation", "id": "i", "meta": LABEL}


@pytest.mark.parametrize(
    ("before", "after", "passes"),
    [
        ({"code": INLINE}, {"code": INLINE, "status": "final"}, True),
        ({"code": INLINE}, {"code": {"text": "x"}}, False),
        ({"_status": INLINE}, {}, False),
        ({}, {"note": [{"text": "x"} | INLINE]}, False),
        ({"contained": [WITHIN]}, {"contained": [{"resourceType": "Observation", "id": "i"}]}, False),
        ({"contained": [WITHIN]}, {"contained": [WITHIN], "status": "final"}, True),
        (None, {"code": INLINE}, False),
        (None, {"code": {"text": "x"}}, True),
        ({}, {"code": {"extension": [INLINE["extension"][0] | {"valueCoding": "PSY"}]}}, False),
    ],
)
@pytest.mark.parametrize("kind", ["deny", "readonly"])
def test_H149_labels_within_a_resource_are_labels(
    before: Resource | None, after: Resource, passes: bool, kind: str
) -> None:
    deny = (
        "rule: labels, effect: deny, may: [create, update, patch], resources: [any], changes: [meta.security]"
    )
    rules = [OPEN, deny]
    if kind == "readonly":
        if before is None:
            return  # what is made has nothing that stays
        rules = [OPEN + ", write: {readonly: [meta.security]}"]
    old = None if before is None else resource("Observation", **before)
    request = "POST /Observation" if before is None else "PATCH /Observation/x"
    assert change(rules, old, resource("Observation", **after), request).shown is passes


def test_a_deny_of_changes_closes_no_other_write_and_no_read() -> None:
    deny = "rule: d, effect: deny, may: [update], resources: [Observation], changes: [status]"
    assert isinstance(decide([OPEN, deny], DOCTOR, "DELETE /Observation/x"), Permit)
    assert isinstance(decide([OPEN, deny], DOCTOR, "PATCH /Observation/x"), Permit)


@pytest.mark.parametrize(
    ("query", "taken"),
    [
        ("identifier=urn:o|1", True),
        ("identifier=urn:o|1&identifier=urn:o|2", True),
        ("identifier=urn:other|1", False),
        ("identifier=urn:o|1,urn:other|2", False),
        ("identifier=1", False),
        ("identifier=urn:o|", False),
        ("identifier:not=urn:o|1", False),
        ("status=final", False),
        ("identifier=urn:o|1&subject=Patient/A", False),
    ],
)
def test_a_conditional_write_is_permitted_by_its_keys(query: str, taken: bool) -> None:
    rule = f"{OPEN}, conditional: {{keys: [identifier], system: 'urn:o'}}"
    asked = ask(f"PUT /Observation?{query}")
    decision = engine(rule).decide(asked, DOCTOR, HERE, criteria=asked.terms)
    assert isinstance(decision, Permit) is taken
    plain = engine(OPEN).decide(asked, DOCTOR, HERE, criteria=asked.terms)
    assert isinstance(plain, Deny)
    assert plain.reason is Reason.NO_PERMIT


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (f"{OPEN}, changes: [status]", "'changes' is for a deny"),
        ("rule: d, effect: deny, may: [any], resources: [Patient], changes: [name]", "name them in 'may'"),
        ("rule: d, effect: deny, may: [delete], resources: [Patient], changes: [name]", "name them in 'may'"),
        ("rule: d, effect: deny, may: [update], resources: [Patient], changes: [nmae]", "no type of the rule has"),
        ("rule: d, effect: deny, may: [update], resources: [Patient], changes: [Task.for]", "is not of a type"),
        ("rule: d, effect: deny, may: [update], resources: [Patient], write: {readonly: [name]}", "is for a permit"),
        (f"{OPEN}, write: {{readonli: [name]}}", "Did you mean 'readonly'?"),
        (f"{OPEN}, write: {{old_version: any}}", "unknown old_version 'any'"),
        (f"{OPEN}, write: {{must_hold: 'nothing.at.all = 1'}}", "must_hold of"),
        (f"{OPEN}, write: {{must_hold: \"meta.source = %token.nobody\"}}", "no claim named 'nobody'"),
        ("rule: r, effect: permit, may: [read], resources: [Patient], shared: true, write: {readonly: [name]}",
         "for a rule about writes alone"),
        ("rule: r, effect: permit, may: [read], resources: [Patient], shared: true, conditional: {keys: [name]}",
         "'may' names none"),
        (f"{OPEN}, conditional: {{}}", "by what a resource is found"),
        (f"{OPEN}, conditional: {{keys: [identifer]}}", "Did you mean 'identifier'?"),
        ("rule: d, effect: deny, may: [update], resources: [Patient], conditional: {keys: [name]}", "is for a permit"),
    ],
)  # fmt: skip
def test_a_rule_about_writes_that_is_not_right_is_refused(rule: str, message: str) -> None:
    with pytest.raises(PolicyErrors) as refused:
        load(policy(rule))
    assert message in str(refused.value)


def test_the_example_of_the_docs_is_in_the_language() -> None:
    text = (Path(__file__).parents[2] / "docs" / "policies.md").read_text().partition("## Writes\n")[2]
    rules = text.partition("```text\n")[2].partition("```")[0].replace("\n", "\n  ").rstrip()
    head = "policy: p\nversion: 1\nowner: o\nstatus: enforce\ntext: t\nrules:\n  "
    found = load(f"{head}{rules}\n").rules
    assert [rule.write.is_empty for rule in found] == [False, False]
    assert found[0].conditional is not None


GIVEN = "given: {Observation/x: {resourceType: Observation, id: x, status: final}}"
AS = "as: {context: user, role: [physician]}"
AMENDED = "{resourceType: Observation, id: x, status: amended}"


@pytest.mark.parametrize(
    ("test", "passes"),
    [
        (f"request: PUT /Observation/x, {GIVEN}, body: {AMENDED}, expect: {{upstream: PUT /Observation/x}}", True),
        (f"request: PUT /Observation/x, body: {AMENDED}, expect: {{status: 404, upstream: none}}", True),
        (f"request: PATCH /Observation/x, {GIVEN}, body: [{{op: replace, path: /status, value: amended}}], "
         "expect: {decision: permit, upstream: PUT /Observation/x}", True),
        (f"request: PATCH /Observation/x, {GIVEN}, body: [{{op: add, path: /subject, value: {{display: x}}}}], "
         "expect: {decision: deny, status: 403, reason: no-permit}", True),
        (f"request: DELETE /Observation/x, {GIVEN}, expect: {{upstream: DELETE /Observation/x}}", True),
        (f"request: DELETE /Observation/x, {GIVEN}, expect: {{decision: deny}}", False),
        (f"request: PUT /Observation/x, {GIVEN}, expect: {{decision: permit}}", False),
        (f"request: PATCH /Observation/x, {GIVEN}, body: [{{op: replace, path: /no, value: 1}}], "
         "expect: {decision: permit}", False),
    ],
)  # fmt: skip
def test_a_test_in_a_policy_file_speaks_of_both_versions(test: str, passes: bool) -> None:
    rule = f"{OPEN}, write: {{readonly: [subject]}}"
    report = selftest.run(load(policy(rule, tests=f"  - {{test: t, {AS}, {test}}}\n")))
    assert (report.passed, len(report.failures)) == ((1, 0) if passes else (0, 1)), report.failures
