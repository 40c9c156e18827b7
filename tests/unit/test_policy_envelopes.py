"""Who may send a Bundle: permits open it for their types and interactions, denies and requires close it."""

from typing import Any

import pytest

from authz.protocol.tokens import caller_of
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.outcome import Reason
from gateway.policy import language
from gateway.policy.decision import Deny, Environment
from gateway.policy.engine import Engine
from gateway.policy.language import PolicyErrors
from gateway.policy.selftests import selftest

BASE = "https://gateway.test/fhir"
HEAD = "policy: p\nversion: 1\nowner: tests\nstatus: enforce\ntext: t\nrules:\n"


def engine(*rules: str) -> Engine:
    text = HEAD + "".join(f"  - {{{rule}, because: tests}}\n" for rule in rules)
    return Engine(language.load({"p.yaml": text}), bases=frozenset({BASE}))


def caller(scope: str = "system/*.cruds", **claims: Any) -> Any:
    said = {
        "iss": "https://as.test", "sub": "s", "aud": BASE, "client_id": "lis", "iat": 1, "exp": 9, "jti": "j",
        "scope": scope, "cnf": {"jkt": "x" * 43},
    }  # fmt: skip
    return caller_of(said | claims, issuer="https://as.test")


def asks(
    rules: Engine,
    interaction: Interaction = Interaction.CREATE,
    type_: str | None = "Observation",
    *,
    kind: Interaction = Interaction.TRANSACTION,
    entries: int = 1,
    who: Any = None,
    peer: str = "192.0.2.1",
) -> tuple[str, ...] | Deny:
    asked = FhirRequest("POST", interaction, type_)
    opened = rules.enveloping(asked, kind, entries, who or caller(), Environment(5, peer))
    return opened if isinstance(opened, Deny) else opened.rules


FILES = "rule: files, effect: permit, may: [create], resources: [Observation], shared: true, transaction: {at_most: 3}"
OPENS = "rule: opens, effect: permit, may: [batch, transaction], resources: [Observation]"


def test_a_permit_with_transaction_opens_it_for_its_own_interactions_and_types() -> None:
    rules = engine(FILES)
    assert asks(rules) == ("p/files",)
    for other in (
        asks(rules, Interaction.DELETE),
        asks(rules, type_="Patient"),
        asks(rules, kind=Interaction.BATCH),
        asks(rules, type_=None),
    ):
        assert isinstance(other, Deny)
        assert other.reason is Reason.INTERACTION_CLOSED


def test_at_most_counts_the_entries_of_the_whole_transaction() -> None:
    rules = engine(FILES)
    assert asks(rules, entries=3) == ("p/files",)
    refused = asks(rules, entries=4)
    assert isinstance(refused, Deny)
    assert (refused.reason, refused.rules) == (Reason.POLICY_DENIED, ("p/files",))
    assert asks(engine(FILES, OPENS), entries=4) == ("p/opens",)


def test_a_permit_of_bundles_alone_opens_them_for_every_entry_about_its_types() -> None:
    rules = engine(OPENS)
    assert asks(rules, Interaction.DELETE, entries=5000) == ("p/opens",)
    assert asks(rules, Interaction.READ, kind=Interaction.BATCH) == ("p/opens",)
    assert isinstance(asks(rules, type_="Patient"), Deny)


def test_it_needs_no_data_of_its_own_and_none_is_opened_by_it() -> None:
    decision = engine(OPENS).decide(
        FhirRequest("GET", Interaction.READ, "Observation", "a"), caller(), Environment(5, "192.0.2.1")
    )
    assert isinstance(decision, Deny)
    assert decision.reason is Reason.NO_PERMIT


def test_rules_that_close_without_looking_at_a_resource_close_bundles_too() -> None:
    shut = "rule: shut, effect: deny, who: {client: lis}, may: [transaction], resources: any"
    far = "rule: far, effect: require, when: {network: 10.0.0.0/8}"
    for closing in (shut, far):
        refused = asks(engine(OPENS, closing))
        assert isinstance(refused, Deny)
        assert refused.reason is Reason.POLICY_DENIED
    assert asks(engine(OPENS, far), peer="10.1.1.1") == ("p/opens",)
    assert asks(engine(OPENS, shut), kind=Interaction.BATCH) == ("p/opens",)


def test_what_looks_at_a_resource_is_left_to_the_entries() -> None:
    labels = "rule: l, effect: deny, may: [any], resources: [Observation], where: {ids: [x]}"
    assert asks(engine(OPENS, labels)) == ("p/opens",)


def test_a_token_of_no_standing_sends_none() -> None:
    refused = asks(engine(OPENS), who=caller("openid"))
    assert isinstance(refused, Deny)
    assert refused.reason is Reason.SCOPE_INSUFFICIENT


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("effect: deny, may: [create], resources: [Patient], transaction: {at_most: 3}", "'transaction' is for a permit"),
        ("effect: permit, may: [read], resources: [Patient], shared: true, transaction: {at_most: 3}",
         "'transaction' is about writes"),
        ("effect: permit, may: [create], resources: [Patient], shared: true, transaction: {}", "of how many entries"),
        ("effect: permit, may: [create], resources: [Patient], shared: true, transaction: {at_most: 0}",
         "of how many entries"),
        ("effect: permit, may: [create], resources: [Patient], shared: true, transaction: {at_most: many}",
         "of how many entries"),
        ("effect: permit, may: [create], resources: [Patient], shared: true, transaction: {at_mots: 3}",
         "Did you mean 'at_most'?"),
        ("effect: permit, may: [batch], resources: [Patient], where: {ids: [a]}", "looks at no resource"),
        ("effect: deny, may: [batch], resources: [Patient], where: {ids: [a]}", "cannot have 'where'"),
        ("effect: deny, may: [transaction], resources: [Patient], unless: {context: user}", "cannot have 'unless'"),
    ],
)  # fmt: skip
def test_what_would_not_act_is_refused_at_load(rule: str, message: str) -> None:
    with pytest.raises(PolicyErrors) as refused:
        engine(f"rule: r, {rule}")
    assert message in str(refused.value)


def played(body: str, expect: str, who: str = "{context: system, client: lis}") -> list[str]:
    text = f"{HEAD}  - {{{FILES}, because: t}}\ntests:\n  - test: t\n    as: {who}\n    request: POST /\n"
    policies = language.load({"p.yaml": f"{text}    body: {body}\n    expect: {expect}\n"})
    return [failure.message for failure in selftest.run(policies).failures]


FILED = "{request: {method: POST, url: Observation}, resource: {resourceType: Observation}}"
READ = "{request: {method: GET, url: Observation/a}}"


def test_tests_in_the_file_send_bundles() -> None:
    both = "{type: %s, entry: [%s, %s]}"
    permit = '{decision: permit, rule: files, upstream: ["POST /Observation", "POST /Observation"]}'
    assert played(both % ("transaction", FILED, FILED), permit) == []
    refused = "{decision: deny, status: 403, reason: interaction-closed, upstream: none}"
    assert played(both % ("transaction", FILED, READ), refused) == []
    assert played(both % ("batch", FILED, READ), refused) == []
    assert played(both % ("transaction", FILED, FILED), refused) != []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"{{type: collection, entry: [{READ}]}}", "'body' must be a Bundle"),
        ("{type: batch, entry: []}", "'body' must be a Bundle"),
        ("{type: batch, entry: [{resource: {}}]}", "an entry must have 'request'"),
    ],
)
def test_a_test_of_a_bundle_that_is_not_written_right_is_told(body: str, message: str) -> None:
    (found,) = played(body, "{decision: permit}")
    assert message in found
