"""Decisions: deny by default, deny wins, what is in doubt never opens, and narrowing that only narrows."""

from itertools import permutations

import pytest

from authz.protocol.tokens import Caller
from gateway.fhir.outcome import Reason
from gateway.fhir.request_target import upstream_target
from gateway.policy.decision import Decision, Deny, Nothing, Permit
from tests.support import policies
from tests.support.policies import ask, caller, category, decide, engine, resource, shows

READ = "may: [read, vread, history-instance, search]"
OPEN = f"rule: open, effect: permit, {READ}, resources: [Patient, $chart], shared: true"
OWN = (
    f"rule: own, effect: permit, who: {{context: patient}}, {READ}, resources: [Patient, $chart], conceal: true, "
    'where: {compartment: {patient: "{token.patient}"}}'
)
LAB = f"rule: lab, effect: permit, {READ}, resources: [Observation], where: {{match: {{Observation: category=lab}}}}"
TEAM = (
    f"rule: team, effect: permit, {READ}, resources: [Patient, $chart], "
    'where: {compartment: {patient: {in: "{token.team}"}}}'
)
A = caller("patient", patient="A")


def denied(decision: Decision) -> tuple[Reason, tuple[str, ...], bool]:
    assert isinstance(decision, Deny), decision
    return decision.reason, decision.rules, decision.conceal


def sent(decision: Decision) -> str:
    assert isinstance(decision, Permit), decision
    return upstream_target(decision.request)


# Who, what, where from


@pytest.mark.parametrize(
    "request_", ["GET /Observation", "GET /Observation/a1", "POST /Observation", "GET /Patient/A"]
)
def test_what_no_rule_permits_is_denied(request_: str) -> None:
    rule = f"rule: r, effect: permit, who: {{client: other}}, {READ}, resources: [Observation], shared: true"
    assert denied(decide([rule], caller(), request_))[0] is Reason.NO_PERMIT


def test_a_permit_is_for_its_types_and_interactions_only() -> None:
    rule = "rule: r, effect: permit, may: [read], resources: [Observation], shared: true"
    assert isinstance(decide([rule], caller(), "GET /Observation/a1"), Permit)
    for other in (
        "GET /Observation",
        "GET /Observation/a1/_history/1",
        "GET /Condition/a1",
        "POST /Observation",
    ):
        assert denied(decide([rule], caller(), other)) == (Reason.NO_PERMIT, (), False)


@pytest.mark.parametrize(
    "request_",
    ["GET /", "POST /", "GET /_history", "GET /metadata",
     "GET /Observation/_history", "POST /Observation/$validate", "GET /Patient/A/$everything"],
)  # fmt: skip
def test_what_this_version_cannot_decide_stays_closed_to_a_permit_of_anything(request_: str) -> None:
    rule = "rule: r, effect: permit, may: [any], resources: [any], shared: true"
    assert denied(decide([rule], caller(), request_))[0] is Reason.INTERACTION_CLOSED


@pytest.mark.parametrize(
    ("who", "right", "wrong"),
    [
        ("{context: patient}", A, caller("user")),
        ("{context: [user, system]}", caller("system"), A),
        ("{context: {not: patient}}", caller("user"), A),
        ("{client: portal}", caller(client="portal"), caller(client="Portal")),
        ("{client: $apps}", caller(client="kiosk"), caller(client="$apps")),
        ("{client: {not: $apps}}", caller(client="x"), caller(client="kiosk")),
        ("{bound: mtls}", caller(bound="mtls"), caller(bound="dpop")),
        ("{issuer: 'https://gw.example'}", caller(), None),
        ("{role: [physician, nurse]}", caller(roles=["x", "nurse"]), caller(roles=["Nurse"])),
        ("{role: [physician], org: h1}", caller(roles=["physician"], organization="h1"), caller(roles=["physician"])),
        ("{roles: [physician]}", caller(roles=["physician"]), caller(roles=[])),
        ("{user: Practitioner/dr1}", caller(fhirUser="Practitioner/dr1"), caller(fhirUser="Practitioner/dr2")),
        ("{purpose: TREAT}", caller(purpose_of_use=["TREAT"]), caller(purpose_of_use=[])),
        ("{acr: loa3}", caller(acr="loa3"), caller(acr="loa2")),
        ("{scope: fhirUser}", caller(scope="fhirUser user/*.rs"), caller(scope="openid user/*.rs")),
        ("{team: [a, b]}", caller(team=["b"]), caller(team=["c"])),
        ("{role: {not: [guest]}}", caller(roles=["nurse"]), caller(roles=["nurse", "guest"])),
        ("{role: {not: [guest]}}", caller(roles=[]), None),
    ],
)  # fmt: skip
def test_who_is_met_by_the_callers_own_values(who: str, right: Caller, wrong: Caller | None) -> None:
    rule = f"rule: r, effect: permit, who: {who}, {READ}, resources: [any], shared: true"
    assert isinstance(decide([rule], right, "GET /Organization/o"), Permit)
    if wrong is not None:
        assert isinstance(decide([rule], wrong, "GET /Organization/o"), Deny)


@pytest.mark.parametrize(
    "claims",
    [
        {"roles": "physician"},
        {"roles": ["physician", 5]},
        {"roles": [""]},
        {"roles": {"physician": True}},
        {"realm": "physician"},
        {"realm": ["physician"]},
        {"realm.roles": ["physician"]},
        {"Realm": {"roles": ["physician"]}},
        {},
    ],
)
def test_Q284_a_claim_of_another_type_or_place_meets_no_permit(claims: dict[str, object]) -> None:
    for who in ("{role: [physician]}", "{role: {not: [guest]}}"):
        rule = f"rule: r, effect: permit, who: {who}, {READ}, resources: [any], shared: true"
        assert denied(decide([rule], caller(**claims), "GET /Patient/A"))[0] is Reason.NO_PERMIT


@pytest.mark.parametrize("effect", ["deny", "require"])
@pytest.mark.parametrize(
    "claims", [{"roles": "guest"}, {"realm": "guest"}, {"roles": ["guest", 5]}, {"roles": 0}]
)
def test_Q284_a_claim_of_another_type_escapes_no_rule_that_closes(
    effect: str, claims: dict[str, object]
) -> None:
    closing = f"rule: c, effect: {effect}, who: {{role: [guest]}}, {READ}, resources: [any], when: {{network: 10.0.0.1}}"
    peer = "10.0.0.1" if effect == "deny" else "10.0.0.2"
    assert denied(decide([OPEN, closing], caller(**claims), "GET /Patient/A", peer=peer))[1] == ("p/c",)


def test_an_absent_claim_meets_a_denial_of_everybody_else_and_no_denial_by_name() -> None:
    others = f"rule: others, effect: deny, who: {{role: {{not: [physician]}}}}, {READ}, resources: [any]"
    named = f"rule: named, effect: deny, who: {{role: [guest]}}, {READ}, resources: [any]"
    assert denied(decide([OPEN, others], caller(), "GET /Patient/A"))[1] == ("p/others",)
    assert isinstance(decide([OPEN, named], caller(), "GET /Patient/A"), Permit)


@pytest.mark.parametrize(
    ("peer", "inside"),
    [
        ("10.20.1.4", True),
        ("::ffff:10.20.1.4", True),
        ("2001:db8::1", True),
        ("2001:db8::1%eth0", True),
        ("10.21.0.1", False),
        ("2001:db9::1", False),
        ("::ffff:10.21.0.1", False),
        ("110.20.1.4", False),
    ],
)
def test_Q305_a_network_is_compared_by_address_not_by_text(peer: str, inside: bool) -> None:
    permit = f"{OPEN}, when: {{network: $inside}}"
    deny = f"rule: d, effect: deny, {READ}, resources: [any], when: {{network: [$inside]}}"
    require = f"rule: q, effect: require, {READ}, resources: [any], when: {{network: $inside}}"
    assert isinstance(decide([permit], caller(), "GET /Patient/A", peer=peer), Permit) is inside
    assert isinstance(decide([OPEN, deny], caller(), "GET /Patient/A", peer=peer), Deny) is inside
    assert isinstance(decide([OPEN, require], caller(), "GET /Patient/A", peer=peer), Permit) is inside


@pytest.mark.parametrize("peer", ["", "unix", "10.20.1.4.", "10.020.1.4"])
def test_a_peer_without_an_address_is_nowhere_for_a_permit_and_everywhere_for_a_denial(peer: str) -> None:
    deny = f"rule: d, effect: deny, {READ}, resources: [any], when: {{network: $inside}}"
    require = f"rule: q, effect: require, {READ}, resources: [any], when: {{network: $inside}}"
    for rules in ([f"{OPEN}, when: {{network: $inside}}"], [OPEN, deny], [OPEN, require]):
        assert isinstance(decide(rules, caller(), "GET /Patient/A", peer=peer), Deny)


# Denials


def test_a_denial_wins_over_every_permit_in_any_order() -> None:
    rules = [OPEN, LAB, f"rule: d, effect: deny, {READ}, resources: [Observation]"]
    for order in permutations(rules):
        assert denied(decide(list(order), caller(), "GET /Observation")) == (
            Reason.POLICY_DENIED,
            ("p/d",),
            False,
        )
        assert isinstance(decide(list(order), caller(), "GET /Condition"), Permit)


def test_a_denial_by_content_hides_what_it_speaks_of_and_nothing_else() -> None:
    deny = f"rule: d, effect: deny, {READ}, resources: [Observation], where: {{match: {{Observation: category=psy}}}}"
    decision = decide([OPEN, deny], caller(), "GET /Observation")
    assert isinstance(decision, Permit)
    assert decision.judge is not None
    verdict = decision.judge(resource("Observation", category=category("psy")))
    assert (verdict.shown, verdict.rules, verdict.reason) == (False, ("p/d",), Reason.POLICY_DENIED)
    assert shows(decision, resource("Observation", category=category("lab")))
    assert not decision.exact


def test_a_denial_whose_claim_is_missing_denies_all() -> None:
    deny = f'rule: d, effect: deny, {READ}, resources: [Observation], where: {{compartment: {{patient: "{{token.team}}"}}}}'
    for claims in ({}, {"team": "A"}, {"team": ["a b"]}, {"team": [1]}):
        assert denied(decide([OPEN, deny], caller(**claims), "GET /Observation"))[1] == ("p/d",)
    empty = decide([OPEN, deny], caller(team=[]), "GET /Observation")
    assert shows(empty, resource("Observation", subject="A"))
    some = decide([OPEN, deny], caller(team=["A"]), "GET /Observation")
    assert not shows(some, resource("Observation", subject="A"))
    assert shows(some, resource("Observation", subject="B"))


@pytest.mark.parametrize(
    ("subject", "hidden"),
    [
        ({"reference": "Patient/VIP"}, True),
        ({"reference": "Patient/VIP/_history/3"}, True),
        ({"reference": "http://upstream:8080/fhir/Patient/VIP"}, True),
        ({"reference": "https://gw.example/fhir/r4/Patient/VIP"}, True),
        ([{"reference": "Patient/A"}, {"reference": "Patient/VIP"}], True),
        ({"reference": "#p"}, True),
        ({"reference": "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"}, True),
        ({"reference": "http://internal-alias:8080/fhir/Patient/VIP"}, True),
        ({"type": "Patient", "identifier": {"value": "1"}}, True),
        ({"reference": 5}, True),
        ("text", True),
        ({"reference": "Patient/A"}, False),
        ({"reference": "Group/VIP"}, False),
        ({"reference": "Patient/vip"}, False),
        (None, False),
    ],
)
def test_a_denial_by_compartment_holds_on_what_may_be_that_patients(subject: object, hidden: bool) -> None:
    deny = f"rule: d, effect: deny, {READ}, resources: [Patient, $chart], where: {{compartment: {{patient: VIP}}}}"
    decision = decide([OPEN, deny], caller(), "GET /Observation/x")
    found = {"resourceType": "Observation", "id": "x", "contained": [{"resourceType": "Group", "id": "g"}]}
    assert shows(decision, found | ({} if subject is None else {"subject": subject})) is not hidden
    assert not shows(decision, found | {"contained": [{"resourceType": "Patient", "id": "p"}]})


@pytest.mark.parametrize("base", ["", "http://upstream:8080/fhir/", "https://gw.example/fhir/r4/"])
def test_a_denial_by_reference_holds_however_the_reference_is_written(base: str) -> None:
    deny = f"rule: d, effect: deny, {READ}, resources: [Observation], where: {{match: {{Observation: subject=Patient/VIP}}}}"
    decision = decide([OPEN, deny], caller(), "GET /Observation/x")
    assert not shows(decision, resource("Observation", subject={"reference": f"{base}Patient/VIP"}))
    assert shows(decision, resource("Observation", subject={"reference": f"{base}Patient/A"}))


def test_a_denial_by_id_is_exact() -> None:
    deny = f"rule: d, effect: deny, {READ}, resources: [Patient], where: {{ids: [VIP]}}"
    assert not shows(decide([OPEN, deny], caller(), "GET /Patient/VIP"), resource("Patient", "VIP"))
    assert shows(decide([OPEN, deny], caller(), "GET /Patient/vip"), resource("Patient", "vip"))


def test_a_resource_on_which_a_rule_fails_is_shown_by_no_permit_and_hidden_by_every_denial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> bool:
        raise RecursionError

    monkeypatch.setattr("gateway.policy.conditions.compartment_test", lambda *_, **__: fail)
    monkeypatch.setattr("gateway.policy.conditions.may_be_in_compartment", fail)
    deny = (
        f"rule: d, effect: deny, {READ}, resources: [Observation], where: {{compartment: {{patient: VIP}}}}"
    )
    for rules, who in (([OWN], A), ([OPEN, deny], caller())):
        assert not shows(decide(rules, who, "GET /Observation/x"), resource("Observation", subject="A"))


def test_a_criterion_that_a_caller_may_not_search_by_still_works_in_a_rule() -> None:
    """_security is closed to callers; a rule that names it must not fail when it is used."""
    deny = f"rule: d, effect: deny, {READ}, resources: [Observation], where: {{match: {{Observation: _security=R}}}}"
    decision = decide([OPEN, deny], caller(), "GET /Observation/x")
    assert not shows(decision, resource("Observation", meta={"security": [{"code": "R"}]}))
    assert shows(decision, resource("Observation", meta={"security": [{"code": "N"}]}))


def test_a_guard_must_hold_beside_a_permit_and_opens_nothing() -> None:
    guard = f"rule: q, effect: require, {READ}, resources: [Observation], where: {{match: {{Observation: status=final}}}}"
    assert denied(decide([guard], caller(), "GET /Observation"))[0] is Reason.NO_PERMIT
    decision = decide([OPEN, guard], caller(), "GET /Observation")
    assert sent(decision) == "Observation?status=final"
    assert shows(decision, resource("Observation", status="final"))
    assert not shows(decision, resource("Observation", status="preliminary"))
    assert not shows(decision, resource("Observation"))


# Concealing


def test_a_stranger_is_not_found_before_the_store_hears_of_it() -> None:
    assert denied(decide([OWN], A, "GET /Patient/B")) == (Reason.NOT_FOUND, ("p/own",), True)
    assert denied(decide([OWN], A, "GET /Patient/B/_history/1"))[2]
    assert denied(decide([OWN], A, "GET /Patient/B/Observation"))[2]
    assert denied(decide([TEAM], caller(team=["A", "C"]), "GET /Patient/B"))[2]
    assert isinstance(decide([TEAM], caller(team=["A", "C"]), "GET /Patient/C"), Permit)


@pytest.mark.parametrize("effect", ["deny", "require"])
def test_what_a_concealing_rule_hides_is_not_found(effect: str) -> None:
    rule = f"rule: d, effect: {effect}, {READ}, resources: [Observation], where: {{match: {{Observation: status=x}}}}"
    for conceal in (True, False):
        decision = decide([OPEN, f"{rule}, conceal: {str(conceal).lower()}"], caller(), "GET /Observation/x")
        assert isinstance(decision, Permit)
        assert decision.conceal is conceal


def test_a_denial_of_everything_conceals_when_it_says_so() -> None:
    rule = f"rule: d, effect: deny, {READ}, resources: [Observation]"
    assert denied(decide([OPEN, rule], caller(), "GET /Observation/x"))[2] is False
    assert denied(decide([OPEN, f"{rule}, conceal: true"], caller(), "GET /Observation/x"))[2] is True


def test_of_several_denials_of_everything_all_are_named_and_one_that_conceals_conceals() -> None:
    rules = [OPEN, f"rule: d, effect: deny, {READ}, resources: [any]",
             f"rule: e, effect: deny, {READ}, resources: [any], conceal: true",
             "rule: q, effect: require, when: {network: 10.0.0.1}"]  # fmt: skip
    for order in permutations(rules):
        reason, names, conceal = denied(decide(list(order), caller(), "GET /Observation/x"))
        assert (reason, sorted(names), conceal) == (Reason.POLICY_DENIED, ["p/d", "p/e", "p/q"], True)


# The judge


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (resource("Observation", subject="A"), True),
        (resource("Observation", subject="B"), False),
        (resource("Observation", "y", subject="A"), False),
        (resource("Condition", subject="A"), False),
        (resource("Observation"), False),
        (resource("Observation", subject="B", performer=[{"reference": "Patient/A"}]), False),
        (resource("Observation", subject={"display": "Patient/A"}), False),
        (resource("Observation", subject={"reference": "#A"}, contained=[resource("Patient", "A")]), False),
        (resource("Observation", subject={"reference": "http://elsewhere/fhir/Patient/A"}), False),
        (resource("Observation", subject=[{"reference": "Patient/A"}, {"reference": "Patient/B"}]), False),
        ({}, False),
        ({"resourceType": "Observation"}, False),
    ],
)
def test_the_judge_shows_the_resource_that_was_asked_for_and_only_to_whom_it_belongs(
    found: dict[str, object], shown: bool
) -> None:
    assert shows(decide([OWN], A, "GET /Observation/x"), found) is shown


@pytest.mark.parametrize(
    ("membership", "shown"), [("subject", ["own"]), ("spec", ["own", "performed"]), ("all", ["own"])]
)
def test_membership_says_which_references_count(membership: str, shown: list[str]) -> None:
    rule = (
        f"rule: r, effect: permit, who: {{context: patient}}, {READ}, resources: [Observation], "
        f'where: {{compartment: {{patient: "{{token.patient}}", membership: {membership}}}}}'
    )
    found = {
        "own": resource("Observation", subject="A"),
        "performed": resource("Observation", subject="B", performer=[{"reference": "Patient/A"}]),
        "foreign": resource("Observation", subject="B"),
    }
    decision = decide([rule], A, "GET /Observation/x")
    assert [name for name, each in found.items() if shows(decision, each)] == shown


def test_ids_limit_a_permit() -> None:
    rule = f"rule: r, effect: permit, {READ}, resources: [Organization], where: {{ids: [h1, h2]}}"
    assert shows(decide([rule], caller(), "GET /Organization/h1"), resource("Organization", "h1"))
    assert not shows(decide([rule], caller(), "GET /Organization/h3"), resource("Organization", "h3"))
    found = decide([rule], caller(), "GET /Organization")
    assert sent(found) == "Organization"
    assert isinstance(found, Permit)
    assert not found.exact
    assert [i for i in ("h1", "h3") if shows(found, resource("Organization", i))] == ["h1"]


def test_conditions_of_one_rule_hold_together_and_rules_add_up() -> None:
    both = (
        f"rule: both, effect: permit, {READ}, resources: [Observation], "
        "where: {compartment: {patient: A}, match: {Observation: category=lab}, ids: [x]}"
    )
    decision = decide([both], caller(), "GET /Observation/x")
    assert shows(decision, resource("Observation", subject="A", category=category("lab")))
    assert not shows(decision, resource("Observation", subject="B", category=category("lab")))
    assert not shows(decision, resource("Observation", subject="A", category=category("psy")))
    also = f"rule: also, effect: permit, {READ}, resources: [Observation], where: {{match: {{Observation: category=psy}}}}"
    wider = decide([both, also], caller(), "GET /Observation/x")
    assert isinstance(wider, Permit)
    assert wider.judge is not None
    assert wider.judge(resource("Observation", subject="A", category=category("psy"))).rules == ("p/also",)
    assert not shows(wider, resource("Observation", subject="B", category=category("x")))


def test_data_outside_every_record_is_open_to_a_patient_only_when_said_to_be_shared() -> None:
    unsaid = f"rule: r, effect: permit, {READ}, resources: [Organization], where: {{match: {{Organization: active=true}}}}"
    assert denied(decide([unsaid], A, "GET /Organization/o"))[0] is Reason.NO_PERMIT
    assert isinstance(decide([unsaid], caller(), "GET /Organization/o"), Permit)
    assert isinstance(decide([f"{unsaid}, shared: true"], A, "GET /Organization/o"), Permit)


def test_a_shared_permit_opens_to_a_patient_only_the_own_record() -> None:
    decision = decide([OPEN], A, "GET /Observation/x")
    assert shows(decision, resource("Observation", subject="A"))
    assert not shows(decision, resource("Observation", subject="B"))
    assert denied(decide([OPEN], A, "GET /Patient/B"))[2]


# Narrowing


@pytest.mark.parametrize(
    ("request_", "upstream"),
    [
        ("GET /Observation", "Observation?subject=Patient%2FA"),
        ("GET /Observation?category=lab", "Observation?category=lab&subject=Patient%2FA"),
        ("GET /Observation?subject=Patient/A", "Observation?subject=Patient%2FA&subject=Patient%2FA"),
        ("GET /Observation?subject=A,B", "Observation?subject=A%2CB&subject=Patient%2FA"),
        ("GET /Observation?subject:missing=true", "Observation?subject:missing=true&subject=Patient%2FA"),
        ("GET /Condition", "Condition?patient=Patient%2FA"),
        ("GET /Patient", "Patient?_id=A"),
        ("GET /Patient?_id=A,B", "Patient?_id=A%2CB&_id=A"),
        ("GET /Patient/A/Observation?code=x", "Observation?code=x&subject=Patient%2FA"),
    ],
)
def test_the_own_criterion_is_always_one_more(request_: str, upstream: str) -> None:
    decision = decide([OWN], A, request_)
    assert sent(decision) == upstream
    assert isinstance(decision, Permit)
    last = decision.request.terms[-1]
    assert decision.added == (f"{last.name}={last.text}",)
    assert decision.exact


def test_the_criterion_of_several_patients_is_one_list() -> None:
    who = caller(team=["C", "A"])
    assert sent(decide([TEAM], who, "GET /Observation")) == "Observation?subject=Patient%2FA%2CPatient%2FC"
    assert sent(decide([TEAM], who, "GET /Patient/C/Observation")) == "Observation?subject=Patient%2FC"


@pytest.mark.parametrize(
    "request_",
    [
        "GET /Observation?subject=Group/B",
        "GET /Observation?subject=Patient/A%5C,Patient/B",
        "GET /Observation?subject=Patient/B",
        "GET /Observation?subject=B",
        "GET /Observation?patient=B,C",
        "GET /Observation?subject:Patient=B",
        "GET /Observation?subject=Patient/A&subject=Patient/B",
        "GET /Patient?_id=B",
        "GET /Condition?subject=Patient/B&patient=A",
    ],
)
def test_who_asks_only_for_strangers_gets_nothing_and_nobody_is_asked(request_: str) -> None:
    assert isinstance(decide([OWN], A, request_), Nothing)


def test_Q277_an_empty_list_of_patients_is_nobody_not_everybody() -> None:
    nobody = caller(team=[])
    for request_ in ("GET /Observation", "GET /Patient", "GET /Condition?code=x"):
        assert isinstance(decide([TEAM], nobody, request_), Nothing)
    assert denied(decide([TEAM], nobody, "GET /Patient/A"))[2]
    assert not shows(decide([TEAM], nobody, "GET /Observation/x"), resource("Observation", subject="A"))


def test_patients_that_layers_limit_to_differently_leave_what_is_common() -> None:
    permit = (
        f"rule: r, effect: permit, {READ}, resources: [$chart], where: {{compartment: {{patient: [A, C]}}}}"
    )
    assert sent(decide([permit], A, "GET /Observation")) == "Observation?subject=Patient%2FA"
    assert isinstance(decide([permit], caller("patient", patient="B"), "GET /Observation"), Nothing)
    guard = (
        f"rule: q, effect: require, {READ}, resources: [$chart], where: {{compartment: {{patient: [C, D]}}}}"
    )
    assert sent(decide([permit, guard], caller(), "GET /Observation")) == "Observation?subject=Patient%2FC"


def test_the_only_filter_is_pushed_down_and_of_several_the_judge_decides() -> None:
    one = decide([LAB], caller(), "GET /Observation?code=x")
    assert sent(one) == "Observation?code=x&category=lab"
    assert isinstance(one, Permit)
    assert one.added == ("category=lab",)
    assert one.exact
    two = decide(
        [LAB, LAB.replace("rule: lab", "rule: psy").replace("=lab", "=psy")], caller(), "GET /Observation"
    )
    assert sent(two) == "Observation"
    assert isinstance(two, Permit)
    assert not two.exact
    assert [c for c in ("lab", "psy", "x") if shows(two, resource("Observation", category=category(c)))] == [
        "lab",
        "psy",
    ]


def test_a_permit_without_a_condition_is_not_narrowed_by_one_with() -> None:
    decision = decide([OPEN, LAB, TEAM], caller(team=["A"]), "GET /Observation")
    assert sent(decision) == "Observation"
    assert shows(decision, resource("Observation", subject="B"))


@pytest.mark.parametrize(
    ("type", "exact"), [("Observation", True), ("Encounter", True), ("Account", False), ("Provenance", False)]
)
def test_a_total_is_exact_only_where_nobody_else_can_be_named_beside(type: str, exact: bool) -> None:
    """Account.subject may name two patients: the criterion finds the account, the judge hides it."""
    where = 'where: {compartment: {patient: "{token.patient}"}}'
    rule = f"rule: r, effect: permit, who: {{context: patient}}, {READ}, resources: [{type}], {where}"
    decision = decide([rule], A, f"GET /{type}")
    assert isinstance(decision, Permit)
    assert decision.exact is exact


def test_a_type_without_a_subject_is_searched_by_the_one_parameter_of_its_compartment() -> None:
    rule = (
        f"rule: r, effect: permit, who: {{context: patient}}, {READ}, resources: [Appointment], "
        'where: {compartment: {patient: "{token.patient}", membership: spec}}'
    )
    decision = decide([rule], A, "GET /Appointment")
    assert sent(decision) == "Appointment?actor=Patient%2FA"
    assert shows(decision, resource("Appointment", participant=[{"actor": {"reference": "Patient/A"}}]))


def test_a_claim_in_criteria_is_one_value_whatever_it_holds() -> None:
    where = 'where: {match: {Organization: "identifier={token.org}"}}'
    rule = f"rule: r, effect: permit, {READ}, resources: [Organization], {where}"
    assert (
        sent(decide([rule], caller(organization="h1"), "GET /Organization")) == "Organization?identifier=h1"
    )
    for value, text in (("a,b", "a\\,b"), ("a|b", "a\\|b"), ("a\\b", "a\\\\b"), ("a$b", "a\\$b")):
        decision = decide([rule], caller(organization=value), "GET /Organization")
        assert isinstance(decision, Permit)
        assert decision.added == (f"identifier={text}",)
        assert shows(decision, resource("Organization", identifier=[{"value": value}]))
        assert not shows(decision, resource("Organization", identifier=[{"value": "b"}]))
    for value in ("a&name=x", "a=b", "a%2Cb", "a+b", "a;b", "a#b", "", "a\u00e9", "a\nb", 5, ["a"]):
        assert isinstance(decide([rule], caller(organization=value), "GET /Organization"), Deny), value


@pytest.mark.parametrize(
    "claim", ["Practitioner/dr1", "Patient/..", "Patient/a b", "Patient/A/_history/1", "A"]
)
def test_a_claim_that_is_no_patient_limits_to_nobody_and_never_fails(claim: str) -> None:
    where = 'where: {compartment: {patient: "{token.user}"}}'
    rule = f"rule: r, effect: permit, {READ}, resources: [Patient, $chart], {where}"
    assert (
        sent(decide([rule], caller(fhirUser="Patient/A"), "GET /Observation"))
        == "Observation?subject=Patient%2FA"
    )
    for request_ in ("GET /Observation", "GET /Patient/A", "GET /Observation/x"):
        assert denied(decide([rule], caller(fhirUser=claim), request_))[0] is Reason.NO_PERMIT


# Creates, and what a decision says of itself


def test_a_create_is_judged_on_what_is_to_be_stored() -> None:
    rule = "rule: r, effect: permit, may: [create], resources: [Observation], where: {match: {Observation: category=lab}}"
    decision = decide([rule], caller(), "POST /Observation")
    assert isinstance(decision, Permit)
    assert not decision.unconditional
    assert not decision.conceal
    new = {"resourceType": "Observation", "category": category("lab")}
    assert shows(decision, new)
    assert not shows(decision, new | {"category": category("psy")})
    assert not shows(decision, new | {"resourceType": "Condition"})


@pytest.mark.parametrize(
    ("more", "who", "unconditional"),
    [
        ([], caller(), True),
        ([], A, False),
        ([], caller(scope="user/Observation.c?category=lab"), False),
        (
            ["rule: d, effect: deny, may: [create], resources: [Observation], where: {ids: [x]}"],
            caller(),
            False,
        ),
        (
            ["rule: q, effect: require, resources: [Observation], where: {compartment: {patient: A}}"],
            caller(),
            False,
        ),
    ],
)
def test_only_without_any_condition_may_pass_what_nobody_can_read(
    more: list[str], who: Caller, unconditional: bool
) -> None:
    rule = "rule: r, effect: permit, may: [create], resources: [Observation], shared: true"
    decision = decide([rule, *more], who, "POST /Observation")
    assert isinstance(decision, Permit)
    assert decision.unconditional is unconditional


def test_the_highest_level_of_audit_holds() -> None:
    rules = [f"rule: {n}, effect: permit, {READ}, resources: [Observation], shared: true, then: {{audit: {level}}}"
             for n, level in (("a", "basic"), ("b", "full"), ("c", "standard"))]  # fmt: skip
    for order in permutations(rules):
        decision = decide(list(order), caller(), "GET /Observation")
        assert isinstance(decision, Permit)
        assert decision.audit == "full"
        assert sorted(decision.rules) == ["p/a", "p/b", "p/c"]


def test_a_policy_that_is_off_says_nothing() -> None:
    off = policies.policy(OPEN).replace("status: enforce", "status: off")
    assert policies.load(off).rules == ()
    assert [rule.id for rule in policies.load(off).off] == ["p/open"]


def test_the_hash_names_exactly_these_files() -> None:
    one = policies.load(policies.policy(OPEN))
    assert one.hash == policies.load(policies.policy(OPEN)).hash
    assert one.hash != policies.load(policies.policy(OPEN) + "# more\n").hash
    assert engine(OPEN).policy_hash == one.hash
    assert isinstance(engine(OPEN).decide(ask("GET /Patient/A"), caller(), policies.HERE), Permit)
