"""Conditions on Binaries and their content: what is read, what is refused at load, and what they decide."""

from typing import Any

import pytest

from gateway.cda.header import Code, Header, InstanceIdentifier
from gateway.policy.attachments import Content, Needs, SeenBinary
from gateway.policy.decision import Deny, Permit
from gateway.policy.language import PolicyErrors
from tests.support.policies import caller, decide, load, policy, resource

READ = "may: [read], resources: [Binary]"
THROUGH = "binary: {through: [DocumentReference]}"
DOCUMENT = "resources: [Binary, 'cda:ClinicalDocument']"


def errors(rule: str) -> list[str]:
    with pytest.raises(PolicyErrors) as refused:
        load(policy(rule))
    return [str(problem).partition(":")[2] for problem in refused.value.problems]


PERMIT = f"rule: r, effect: permit, {READ}, where:"
OF_DOCUMENTS = f"rule: r, effect: permit, may: [read], {DOCUMENT}, where:"
BOTH = "rule: r, effect: permit, may: [read], resources: [DocumentReference, Binary], where:"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (f"{PERMIT} {{binary: {{}}}}", "binary must say through what"),
        (f"{PERMIT} {{binary: {{thru: [DocumentReference]}}}}", "Did you mean 'through'?"),
        (f"{PERMIT} {{binary: {{through: [DocumentRefrence]}}}}", "Did you mean 'DocumentReference'?"),
        (f"{PERMIT} {{binary: {{through: [DiagnosticReport]}}}}", "R4 has no search parameter"),
        (f"{PERMIT} {{{THROUGH}}}".replace("permit", "deny"), "'binary' is for a permit or a require"),
        (f"{PERMIT} {{{THROUGH}}}".replace("[Binary]", "[Patient]"), "name Binary in 'resources'"),
        (f"{PERMIT} {{{THROUGH}}}".replace("[Binary]", "[any]"), "name Binary in 'resources'"),
        (f"{BOTH} {{{THROUGH}}}", "of DocumentReference this says nothing"),
        (f"{PERMIT} {{{THROUGH}, match: {{Binary: '_id=a'}}}}", "name DocumentReference"),
        (f"{PERMIT} {{any_of: [{{{THROUGH}}}]}}", "not supported"),
        (f"rule: r, effect: require, {READ}, unless: {{{THROUGH}}}", "not supported"),
        (f"{PERMIT} {{{THROUGH}, cda: {{patient_from: recordTarget}}}}", "name 'cda:ClinicalDocument'"),
        (f"{OF_DOCUMENTS} {{{THROUGH}, cda: {{}}}}", "cda must say"),
        (f"{OF_DOCUMENTS} {{{THROUGH}, cda: {{patient_from: author}}}}", "unknown place of the patient"),
        (f"{OF_DOCUMENTS} {{{THROUGH}, cda: {{confidentiality_at_most: X}}}}", "unknown confidentiality"),
        (
            f"{OF_DOCUMENTS} {{{THROUGH}, cda: {{patient_from: recordTarget, unlabelled: N}}}}",
            "needs 'confidentiality_at_most'",
        ),
        (f"{OF_DOCUMENTS} {{cda: {{patient_from: recordTarget}}}}, shared: true", "give 'binary:"),
        (f"{OF_DOCUMENTS} {{cda: {{confidentiality_at_most: N}}}}", "whose documents"),
        ("rule: r, effect: permit, may: [read], resources: ['cda:ClinicalDocument']", "whose documents"),
        (
            f"{OF_DOCUMENTS} {{cda: {{confidentiality_at_most: N}}}}".replace("permit", "deny"),
            "'cda' is for a permit or a require",
        ),
    ],
)
def test_what_a_rule_cannot_say_of_binaries_is_refused_at_its_place(rule: str, message: str) -> None:
    found = errors(rule)
    assert [text for text in found if message in text and text.startswith("7:")], found


NORMAL = Code("N", "2.16.840.1.113883.5.25")


def header(confidentiality: Code | None = NORMAL) -> Header:
    return Header(((InstanceIdentifier("1.2", "A"),),), confidentiality)


def judged(rule: str, binary: dict[str, Any], *, context: str = "user") -> bool:
    decision = decide([f"{rule}"], caller(context, patient="A"), "GET /Binary/x")
    assert isinstance(decision, Permit)
    assert decision.judge is not None
    return decision.judge(binary).shown


def binary(*via: dict[str, Any], content: Content | None = None, **members: Any) -> SeenBinary:
    return SeenBinary(resource("Binary", **members), via, content)


OWN = resource("DocumentReference", "d", subject="A", status="current")
RULE = (
    f"rule: r, effect: permit, {READ}, where: {{match: {{DocumentReference: 'status=current'}}, {THROUGH}}}"
)


def test_what_else_a_rule_asks_is_asked_of_what_leads_to_the_binary() -> None:
    assert judged(RULE, binary(OWN))
    assert not judged(RULE, binary(OWN | {"status": "superseded"}))
    assert judged(RULE, binary(OWN | {"status": "superseded"}, OWN))
    assert not judged(RULE, binary())
    assert not judged(RULE, binary(resource("Patient", "A")))


def test_a_binary_about_which_nobody_found_out_anything_is_closed() -> None:
    assert not judged(RULE, resource("Binary"))
    assert not judged(CDA, binary(OWN))


def test_ids_are_those_of_the_binary() -> None:
    rule = f"rule: r, effect: permit, {READ}, where: {{ids: [x], {THROUGH}}}"
    assert judged(rule, binary(OWN, id="x"))
    assert not judged(rule.replace("[x]", "[d]"), binary(OWN, id="x"))


def test_a_patient_reads_binaries_by_what_leads_to_them_and_no_others() -> None:
    rule = f"rule: r, effect: permit, {READ}, where: {{compartment: {{patient: '{{token.patient}}'}}, {THROUGH}}}"
    assert judged(rule, binary(OWN), context="patient")
    assert not judged(rule, binary(resource("DocumentReference", "d", subject="B")), context="patient")
    closed = decide(
        [f"rule: r, effect: permit, {READ}, where: {{ids: [x]}}"],
        caller("patient", patient="A"),
        "GET /Binary/x",
    )
    assert isinstance(closed, Deny)


CDA = (
    f"rule: r, effect: permit, may: [read], {DOCUMENT}, where: {{{THROUGH}, "
    "cda: {patient_from: recordTarget, confidentiality_at_most: N}}"
)


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (Content(header(), frozenset({"A"})), True),
        (Content(header(), frozenset({"B"})), False),
        (Content(header(), frozenset()), False),
        (Content(None), False),
        (None, False),
        (Content(header(Code("L", "2.16.840.1.113883.5.25")), frozenset({"A"})), True),
        (Content(header(Code("R", "2.16.840.1.113883.5.25")), frozenset({"A"})), False),
        (Content(header(Code("V", "2.16.840.1.113883.5.25")), frozenset({"A"})), False),
        (Content(header(Code("N", "1.2.3")), frozenset({"A"})), False),
        (Content(header(Code("X", "2.16.840.1.113883.5.25")), frozenset({"A"})), False),
        (Content(header(Code("")), frozenset({"A"})), False),
        (Content(header(None), frozenset({"A"})), False),
    ],
)
def test_a_document_is_of_its_patient_and_no_more_confidential_than_said(
    content: Content | None, shown: bool
) -> None:
    assert judged(CDA, binary(OWN, content=content)) is shown


def test_a_document_without_a_label_is_taken_for_what_the_rule_says() -> None:
    content = Content(header(None), frozenset({"A"}))
    assert judged(CDA.replace("most: N", "most: N, unlabelled: L"), binary(OWN, content=content))
    assert not judged(CDA.replace("most: N", "most: N, unlabelled: R"), binary(OWN, content=content))


def test_a_document_is_of_the_patient_of_the_way_that_leads_to_it() -> None:
    other = resource("DocumentReference", "d", subject="B")
    nobody = resource("DocumentReference", "d", subject={"reference": "Group/g"})
    content = Content(header(), frozenset({"A"}))
    assert not judged(CDA, binary(other, nobody, content=content))
    assert judged(CDA, binary(other, OWN, content=content))


@pytest.mark.parametrize(
    ("content", "shown"), [(Content(header()), False), (Content(None), True), (None, False)]
)
def test_a_deny_of_documents_closes_what_is_one_or_may_be(content: Content | None, shown: bool) -> None:
    rules = [
        f"rule: r, effect: permit, {READ}, shared: true",
        "rule: d, effect: deny, may: [any], resources: ['cda:ClinicalDocument']",
    ]
    decision = decide(rules, caller(), "GET /Binary/x")
    assert isinstance(decision, Permit)
    assert decision.judge is not None
    assert decision.judge(binary(content=content)).shown is shown
    assert decision.needs == Needs(content=True)


def test_the_labels_of_both_count() -> None:
    rule = f"rule: r, effect: permit, {READ}, where: {{labels: {{at_most: N, unlabelled: N}}, {THROUGH}}}"
    label = {
        "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]
    }
    assert judged(rule, binary(OWN))
    assert not judged(rule, binary(OWN, meta=label))
    assert not judged(rule, binary(OWN | {"meta": label}))
    assert not judged(rule, binary(OWN, meta="?"))


def test_a_permit_says_what_has_to_be_found_out_and_conceals() -> None:
    permit = decide([CDA], caller(), "GET /Binary/x")
    assert isinstance(permit, Permit)
    assert permit.needs == Needs(frozenset({"DocumentReference"}), content=True, patients=True)
    assert permit.conceal
    other = decide([f"rule: r, effect: permit, {READ}, shared: true"], caller(), "GET /Binary/x")
    assert isinstance(other, Permit)
    assert other.needs == Needs()
    assert not other.conceal
