"""What a patient's consents say: scope, actor, period, purpose, class, exceptions, and which of several stands."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.consents.consent import (
    SCOPES,
    Basis,
    ConsentQuestion,
    ConsentReading,
    ConsentSource,
    Said,
    Why,
)
from gateway.consents.consents import answer
from gateway.consents.decision_parameters import read_answer, written_answer
from gateway.consents.resource_facts import facts_of
from gateway.fhir.labels import CONFIDENTIALITY

NOW = 1_800_000_000  # 2027-01-15
ACTOR = {"reference": {"identifier": {"system": "urn:org", "value": "H2"}}}
RESOURCE = {"resourceType": "Condition", "id": "k", "subject": {"reference": "Patient/A"}}
QUESTION = ConsentQuestion(
    (SCOPES, "patient-privacy"),
    frozenset({"H2"}),
    frozenset({"TREAT"}),
    "Condition",
    facts_of(RESOURCE, frozenset()),
)


def consent(
    provision: Any = None, *, code: str = "patient-privacy", id_: str = "c", **more: Any
) -> dict[str, Any]:
    found = {
        "resourceType": "Consent",
        "id": id_,
        "status": "active",
        "scope": {"coding": [{"system": SCOPES, "code": code}]},
        "patient": {"reference": "Patient/A"},
    }
    return found | ({} if provision is None else {"provision": provision}) | more


def permit(*exceptions: Any, **conditions: Any) -> dict[str, Any]:
    return {"type": "permit", **conditions} | ({"provision": list(exceptions)} if exceptions else {})


def deny(*exceptions: Any, **conditions: Any) -> dict[str, Any]:
    return permit(*exceptions, **conditions) | {"type": "deny"}


CLASS = {"system": "http://hl7.org/fhir/resource-types", "code": "Condition"}


@pytest.mark.parametrize(
    ("provision", "said"),
    [
        (permit(), "permit"),
        (deny(), "deny"),
        (permit(actor=[ACTOR]), "permit"),
        (permit(actor=[{"reference": {"reference": "H2"}}]), "permit"),
        (permit(actor=[{"reference": {"identifier": {"value": "H3"}}}]), "none"),
        (permit(actor=[{"role": {"text": "everybody"}}]), "none"),
        (permit(actor=[]), "none"),
        (permit(period={"start": "2026-01-01", "end": "2027-12-31"}), "permit"),
        (permit(period={"start": "2027-02-01"}), "none"),
        (permit(period={"end": "2027-01-14"}), "none"),
        (permit(period={"end": "soon"}), "none"),
        (permit(period={}), "none"),
        (deny(period={"end": "2027-01-14"}), "none"),
        (deny(period={"end": "soon"}), "deny"),
        (permit(purpose=[{"code": "TREAT"}]), "permit"),
        (permit(purpose=[{"code": "HRESCH"}]), "none"),
        (permit(action=[{"coding": [{"code": "access"}]}]), "permit"),
        (permit(action=[{"coding": [{"code": "correct"}]}]), "none"),
        (permit(**{"class": [CLASS]}), "permit"),
        (permit(**{"class": [CLASS | {"code": "Observation"}]}), "none"),
        (permit(**{"class": [{"system": "urn:ietf:bcp:13", "code": "application/hl7-cda+xml"}]}), "none"),
        (deny(**{"class": [{"system": "urn:ietf:bcp:13", "code": "application/hl7-cda+xml"}]}), "deny"),
        (permit(dataPeriod={"start": "2020"}), "none"),
        (permit(securityLabel=[{"code": "R"}]), "none"),
        (permit(code=[{"text": "x"}]), "none"),
        (permit(data=[{"meaning": "instance"}]), "none"),
        (permit(modifierExtension=[{"url": "urn:x"}]), "none"),
        (deny(actor=[{"reference": {"identifier": {"value": "H3"}}}]), "none"),
        (deny(actor=[{"reference": {"display": "the second hospital"}}]), "deny"),
        (deny(actor=["unreadable"]), "deny"),
        (permit(actor=[{"reference": {"display": "the second hospital"}}]), "none"),
        (deny(action=[{"text": "access"}]), "deny"),
        (permit(action=[{"text": "access"}]), "none"),
        (permit(action=[{"text": "a look"}, {"coding": [{"code": "access"}]}]), "permit"),
        (deny(action=[{"coding": [{"code": "correct"}]}]), "none"),
        (deny(purpose=[{"display": "treatment"}]), "deny"),
        (permit(deny(actor=[ACTOR])), "deny"),
        (permit(deny(purpose=[{"code": "HRESCH"}])), "permit"),
        (permit(deny(dataPeriod={"start": "2020"})), "deny"),
        (permit("unreadable"), "deny"),
        (deny(permit(actor=[ACTOR])), "permit"),
        (deny(permit(dataPeriod={"start": "2020"})), "deny"),
        (deny(permit(deny(purpose=[{"code": "TREAT"}]))), "deny"),
        (permit(deny(permit(actor=[ACTOR]))), "permit"),
        (permit(deny(permit(actor=[{"reference": {"identifier": {"value": "H3"}}}]))), "deny"),
        (permit(deny(permit(actor=[ACTOR]), code=[{"text": "x"}])), "deny"),
        (permit(deny(**{"class": [CLASS]}), permit(actor=[ACTOR], **{"class": [CLASS]})), "permit"),
        (permit(deny(**{"class": [CLASS]}), permit(actor=[ACTOR])), "deny"),
        (permit(deny(actor=[ACTOR]), permit(actor=[ACTOR])), "deny"),
        (permit(permit(purpose=[{"code": "TREAT"}]), purpose=[{"code": "HRESCH"}]), "permit"),
        (permit(permit(), period={"end": "2027-01-14"}), "none"),
        (permit(actor=[ACTOR | {"role": {"coding": [{"code": "IRCP"}]}}]), "permit"),
        (permit(actor=[ACTOR | {"role": {"coding": [{"code": "AUT"}]}}]), "none"),
        (deny(actor=[ACTOR | {"role": {"coding": [{"code": "AUT"}]}}]), "deny"),
        (deny(permit(actor=[ACTOR]), deny(purpose=[{"code": "TREAT"}])), "deny"),
        ({"provision": [permit(actor=[ACTOR])]}, "permit"),
        ({"provision": [permit(purpose=[{"code": "HRESCH"}])]}, "none"),
        ({"type": "maybe"}, "deny"),
        ("text", "none"),
    ],
)
def test_a_provision_says_what_is_understood_of_it(provision: Any, said: str) -> None:
    assert answer([consent(provision)], QUESTION, NOW).said == said


def test_who_says_no_purpose_is_forbidden_what_is_forbidden_for_one_and_permitted_nothing_for_one() -> None:
    nameless = ConsentQuestion(QUESTION.scope, frozenset({"H2"}), frozenset(), "Condition")
    for provision, said in (
        (deny(purpose=[{"code": "HRESCH"}]), "deny"),
        (permit(deny(purpose=[{"code": "HRESCH"}])), "deny"),
        (permit(purpose=[{"code": "TREAT"}]), "none"),
        (permit(), "permit"),
    ):
        assert answer([consent(provision)], nameless, NOW).said == said


def test_exceptions_without_end_forbid() -> None:
    provision = permit()
    for _ in range(12):
        provision = permit(provision)
    assert answer([consent(provision)], QUESTION, NOW).said is Said.DENY


@pytest.mark.parametrize(
    ("code", "said"), [("OPTIN", "permit"), ("OPTOUT", "deny"), ("OPTINR", "none"), ("other", "none")]
)
def test_a_consent_without_provision_says_what_its_rule_says(code: str, said: str) -> None:
    rule = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code}]}
    assert answer([consent(policyRule=rule)], QUESTION, NOW).said == said


def test_of_several_consents_a_denial_wins_and_those_that_decided_are_named() -> None:
    one, other = consent(permit(), id_="one"), consent(deny(), id_="other")
    assert answer([one, other], QUESTION, NOW) == answer([other, one], QUESTION, NOW)
    assert answer([one, other], QUESTION, NOW).ids == {"other"}
    assert answer([], QUESTION, NOW).said is Said.NONE


def test_a_consent_of_another_scope_says_nothing() -> None:
    assert answer([consent(permit(), code="research")], QUESTION, NOW).said is Said.NONE
    assert answer([consent(deny(), code="research")], QUESTION, NOW).said is Said.NONE


def test_a_consent_for_somebody_says_nothing_for_everybody() -> None:
    question = ConsentQuestion(QUESTION.scope, None, frozenset(), "Condition")
    assert answer([consent(permit(actor=[ACTOR]))], question, NOW).said is Said.NONE
    assert answer([consent(deny(actor=[ACTOR]))], question, NOW).said is Said.DENY


def test_a_source_takes_consents_by_organization_or_tag() -> None:
    source = ConsentSource(frozenset({"Organization/h1"}), frozenset({("urn:t", "desk")}), verified=False)
    assert source.takes(consent(organization=[{"reference": "Organization/h1"}]), "A")
    assert source.takes(consent(meta={"tag": [{"system": "urn:t", "code": "desk"}]}), "A")
    assert not source.takes(consent(meta={"tag": [{"system": "urn:other", "code": "desk"}]}), "A")
    assert not source.takes(consent(organization=[{"display": "Organization/h1"}]), "A")
    assert not source.takes(consent(organization=[{"reference": "Organization/h1"}]), "B")
    assert ConsentSource(verified=False).takes(consent(), "A")
    assert not ConsentSource().takes(consent(), "A")
    assert not ConsentSource().takes(consent(verification=[{"verified": True}, {"verified": False}]), "A")


def test_an_extension_that_changes_the_meaning_takes_a_permit_back_and_leaves_a_denial() -> None:
    changed = {"modifierExtension": [{"url": "urn:x"}]}
    assert answer([consent(permit(), **changed)], QUESTION, NOW).said is Said.NONE
    assert answer([consent(deny(), **changed)], QUESTION, NOW).said is Said.DENY
    assert answer([consent(permit()), consent(deny(), **changed)], QUESTION, NOW).said is Said.DENY


def test_a_consent_that_names_a_version_of_the_patient_is_the_patients() -> None:
    source = ConsentSource(verified=False)
    assert source.takes(consent(patient={"reference": "Patient/A/_history/2"}), "A")
    assert not source.takes(consent(patient={"reference": "Patient/AA/_history/2"}), "A")
    assert source.takes(consent(deny(), modifierExtension=[{"url": "urn:x"}]), "A")


def test_who_opted_out_and_permits_something_permits_nothing_else() -> None:
    rule = {"coding": [{"code": "OPTOUT"}]}
    other = {"reference": {"identifier": {"value": "H3"}}}
    assert answer([consent(permit(actor=[ACTOR]), policyRule=rule)], QUESTION, NOW).said is Said.PERMIT
    assert answer([consent(permit(actor=[other]), policyRule=rule)], QUESTION, NOW).said is Said.DENY


# Several consents


PARENT = {"performer": [{"reference": "RelatedPerson/m"}], "policy": [{"uri": "urn:policy:1"}]}


def on(day: str, provision: Any, **more: Any) -> dict[str, Any]:
    return consent(provision, id_=day) | {"dateTime": f"2026-01-{day}"} | PARENT | more


@pytest.mark.parametrize(
    ("consents", "said"),
    [
        ((on("01", deny()), on("02", permit())), "permit"),
        ((on("01", permit()), on("02", deny())), "deny"),
        ((on("01", deny()), on("01", permit())), "deny"),
        ((on("01", deny()), on("02", permit(), performer=[{"reference": "Patient/A"}])), "deny"),
        ((on("01", deny()), on("02", permit(), policy=[{"uri": "urn:policy:2"}])), "deny"),
        ((on("01", deny()), on("02", permit(), policy=[])), "deny"),
        ((on("01", deny()), on("02", permit(), dateTime="soon")), "deny"),
        ((on("01", permit()), on("02", permit(purpose=[{"code": "HRESCH"}]))), "permit"),
        ((on("01", deny()), on("02", deny(purpose=[{"code": "HRESCH"}]))), "deny"),
        ((on("01", permit()), on("02", permit(), status="inactive")), "permit"),
        ((on("01", permit()), on("02", deny(), status="inactive")), "permit"),
        ((on("01", deny()), on("02", permit(), status="inactive")), "deny"),
        ((on("01", permit()), on("02", permit(), status="entered-in-error")), "permit"),
        ((on("01", deny()), on("02", permit(period={"end": "2026-12-31"}))), "deny"),
        ((on("01", deny()), on("02", permit()), on("03", permit(purpose=[{"code": "HRESCH"}]))), "permit"),
    ],
)
def test_a_later_consent_of_the_same_persons_about_the_same_policy_takes_the_place_of_an_earlier_denial(
    consents: tuple[dict[str, Any], ...], said: str
) -> None:
    for order in (consents, tuple(reversed(consents))):
        assert answer(order, QUESTION, NOW).said == said


def test_who_never_said_anything_has_agreed_only_where_the_configuration_says_so() -> None:
    opt_out = ConsentReading(opt_out=frozenset({QUESTION.scope}))
    assert answer([], QUESTION, NOW).said is Said.NONE
    found = answer([], QUESTION, NOW, opt_out)
    assert (found.said, found.why, found.ids) == (Said.PERMIT, Why.OPT_OUT, frozenset())
    research = replace(QUESTION, scope=(SCOPES, "research"))
    assert answer([], research, NOW, opt_out).said is Said.NONE
    for other in (permit(purpose=[{"code": "HRESCH"}]), permit(period={"end": "2026-12-31"})):
        assert answer([consent(other)], QUESTION, NOW, opt_out).said is Said.NONE
    assert answer([consent(permit(), status="inactive")], QUESTION, NOW, opt_out).said is Said.NONE
    assert answer([consent(deny())], QUESTION, NOW, opt_out).said is Said.DENY
    objection = consent(deny(purpose=[{"code": "HRESCH"}]))
    assert answer([objection], QUESTION, NOW, opt_out).said is Said.PERMIT


def test_an_answer_names_the_consent_its_version_the_provision_and_why() -> None:
    one = consent(permit(deny(actor=[ACTOR])), meta={"versionId": "3"})
    assert answer([one], QUESTION, NOW).bases == (
        Basis("c", "3", "provision.provision[0]", Said.DENY, Why.EXCEPTION),
    )
    assert answer([consent(permit())], QUESTION, NOW).bases[0].why is Why.PROVISION
    assert answer([consent(deny(code=[{"text": "x"}]))], QUESTION, NOW).bases[0].why is Why.DOUBT
    rule = {"coding": [{"code": "OPTIN"}]}
    assert answer([consent(policyRule=rule)], QUESTION, NOW).bases[0].provision == "policyRule"


def test_an_answer_about_no_resource_says_what_hangs_on_it() -> None:
    nothing = replace(QUESTION, resource=None)
    restricted = [{"system": CONFIDENTIALITY, "code": "R"}]
    hiding = answer([consent(permit(deny(securityLabel=restricted)))], nothing, NOW)
    assert (hiding.said, hiding.depends) == (Said.PERMIT, True)
    assert [(each.hides, each.limits) for each in hiding.obligations] == [
        (True, {"securityLabel": restricted})
    ]
    limited = answer([consent(permit(dataPeriod={"start": "2022"}))], nothing, NOW)
    assert (limited.said, limited.depends) == (Said.PERMIT, True)
    assert [(each.hides, each.limits) for each in limited.obligations] == [
        (False, {"dataPeriod": {"start": "2022"}})
    ]
    assert answer([consent(permit())], nothing, NOW).depends is False
    denied = answer([consent(deny(securityLabel=restricted))], nothing, NOW)
    assert (denied.said, denied.depends, denied.obligations) == (Said.DENY, True, ())
    both = [consent(permit(dataPeriod={"start": "2022"})), consent(deny(), id_="d")]
    assert answer(both, nothing, NOW).said is Said.DENY


def test_an_answer_is_the_same_when_its_Parameters_are_read_again() -> None:
    limits = {
        "securityLabel": [{"system": CONFIDENTIALITY, "code": "R"}],
        "data": [{"meaning": "instance", "reference": {"reference": "Observation/o"}}],
        "dataPeriod": {"start": "2022"},
        "class": [CLASS],
        "code": [{"coding": [{"system": "urn:c", "code": "1"}]}],
    }
    nothing = replace(QUESTION, resource=None, type=None)
    for one in (permit(deny(**limits)), permit(**limits), deny(), permit(), permit(purpose=[{"code": "X"}])):
        found = answer([consent(one, meta={"versionId": "3"})], nothing, NOW)
        assert read_answer(written_answer(found)) == found


def test_many_provisions_that_hang_on_the_resource_are_not_tried_out_one_by_one() -> None:
    exceptions = [deny(dataPeriod={"start": str(2000 + n)}) for n in range(20)]
    found = answer([consent(permit(*exceptions))], replace(QUESTION, resource=None), NOW)
    assert (found.said, found.depends, len(found.obligations)) == (Said.PERMIT, True, 20)
    several = answer(
        [consent(permit(*[deny(actor=[{"reference": {"reference": "x"}}])] * 150))], QUESTION, NOW
    )
    assert several.said is Said.DENY
