"""The scope layer: each scope for itself, whole contexts only, and a filter that cannot be kept grants nothing."""

import pytest

from authz.protocol.tokens import Caller
from gateway.fhir.outcome import Reason
from gateway.fhir.request_target import upstream_target
from gateway.policy.decision import Decision, Deny, Permit
from gateway.policy.scope_layer import grantable
from tests.support.policies import caller, category, decide, resource, shows

OPEN = "rule: open, effect: permit, may: [any], resources: [any], shared: true"
REQUESTS = {
    "r": ["GET /Observation/x", "GET /Observation/x/_history/1", "GET /Observation/x/_history"],
    "s": ["GET /Observation", "GET /Observation?code=x"],
    "c": ["POST /Observation"],
}


def asked(who: Caller, text: str) -> Decision:
    return decide([OPEN], who, text)


def reason(decision: Decision) -> Reason:
    assert isinstance(decision, Deny), decision
    return decision.reason


@pytest.mark.parametrize("context", ["user", "system", "patient"])
@pytest.mark.parametrize("scope", ["r", "s", "c", "u", "d", "rs", "cud", "cruds", "read", "write", "*"])
def test_a_letter_opens_its_interactions_and_no_other(context: str, scope: str) -> None:
    letters = {"read": "rs", "write": "cud", "*": "cruds"}.get(scope, scope)
    for type_ in ("Observation", "*"):
        who = caller(context, scope=f"{context}/{type_}.{scope}", patient="A")
        for letter, requests in REQUESTS.items():
            for text in requests:
                decision = asked(who, text)
                if letter in letters:
                    assert isinstance(decision, Permit), text
                else:
                    assert reason(decision) is Reason.SCOPE_INSUFFICIENT, text


@pytest.mark.parametrize(
    ("request_", "letter"),
    [("PUT /Observation/x", "u"), ("PATCH /Observation/x", "u"), ("DELETE /Observation/x", "d")],
)
def test_a_write_without_its_letter_fails_on_the_scope(request_: str, letter: str) -> None:
    without = "cruds".replace(letter, "")
    assert reason(asked(caller(scope=f"user/*.{without}"), request_)) is Reason.SCOPE_INSUFFICIENT
    assert reason(asked(caller(scope=f"user/*.{letter}"), "GET /Observation")) is Reason.SCOPE_INSUFFICIENT
    assert isinstance(asked(caller(scope=f"user/*.{letter}"), request_), Permit)


@pytest.mark.parametrize(
    "scope", ["user/Condition.rs", "user/Observation.sr", "user/observation.rs", "openid fhirUser", ""]
)
def test_without_a_scope_for_it_nothing_is_open(scope: str) -> None:
    assert reason(asked(caller(scope=scope), "GET /Observation")) is Reason.SCOPE_INSUFFICIENT


@pytest.mark.parametrize(
    "scope", ["patient/*.rs user/*.rs", "patient/*.rs system/Patient.d", "user/Condition.r system/*.rs",
              "system/*.rs patient/Observation.rs user/Patient.rs"]
)  # fmt: skip
def test_Q278_contexts_in_one_token_are_never_mixed(scope: str) -> None:
    for text in ("GET /Observation", "GET /Patient/A", "GET /Organization/o"):
        assert reason(asked(caller(scope=scope, patient="A"), text)) is Reason.MIXED_CONTEXTS


@pytest.mark.parametrize(
    "patient", [None, "", "*", "A,B", "Patient/A", "A&subject=B", "A B", ".", "..", "A\n", "a" * 65, 5, True, [], ["A"],
                ["A", "B"], {"id": "A"}]
)  # fmt: skip
def test_Q276_a_patient_scope_without_one_patient_opens_nothing(patient: object) -> None:
    who = caller("patient", patient=patient) if patient is not None else caller("patient")
    for text in ("GET /Observation", "GET /Patient/A", "GET /Organization/o", "POST /Observation"):
        assert reason(asked(who, text)) is Reason.NO_PATIENT_CONTEXT


@pytest.mark.parametrize(
    ("person", "right"),
    [
        ("Patient/A", True),
        ("https://gw.example/fhir/r4/Patient/A", True),
        ("RelatedPerson/r", True),
        ("Practitioner/A", True),
        ("Patient/B", False),
        ("Patient/a", False),
        ("Patient/A/_history/1", False),
        ("Patient", False),
        ("https://gw.example/fhir/r4/Patient/B", False),
        ("https://gw.example/fhir/r4evil/Patient/A", False),
        ("https://elsewhere.example/fhir/Patient/A", False),
        ("https://gw.example.evil/fhir/r4/Patient/A", False),
        (["Patient/A"], False),
        (5, False),
    ],
)
def test_Q286_a_person_and_a_patient_that_contradict_open_nothing(person: object, right: bool) -> None:
    decision = asked(caller("patient", patient="A", fhirUser=person), "GET /Observation")
    assert isinstance(decision, Permit) is right
    if not right:
        assert reason(decision) is Reason.NO_PATIENT_CONTEXT


def test_a_patient_scope_reaches_the_patients_compartment_and_a_users_is_not_limited_by_it() -> None:
    own, performed, foreign = (
        resource("Observation", subject="A"),
        resource("Observation", subject="B", performer=[{"reference": "Patient/A"}]),
        resource("Observation", subject="B"),
    )
    patient = asked(caller("patient", patient="A"), "GET /Observation/x")
    user = asked(caller("user", patient="A"), "GET /Observation/x")
    assert [shows(patient, r) for r in (own, performed, foreign)] == [True, True, False]
    assert [shows(user, r) for r in (own, performed, foreign)] == [True, True, True]


def test_a_wildcard_reaches_types_outside_the_record_without_limiting_them() -> None:
    decision = asked(caller("patient", patient="A"), "GET /Organization/x")
    assert shows(decision, resource("Organization"))
    assert reason(asked(caller("patient", patient="A"), "GET /Patient/B")) is Reason.NOT_FOUND


def test_Q281_a_filter_holds_on_reads_searches_and_creates() -> None:
    who = caller(scope="user/Observation.crs?category=lab")
    for text in (
        "GET /Observation/x",
        "GET /Observation/x/_history/1",
        "GET /Observation",
        "POST /Observation",
    ):
        decision = asked(who, text)
        assert shows(decision, resource("Observation", category=category("lab"))), text
        assert not shows(decision, resource("Observation", category=category("psy"))), text
        assert not shows(decision, resource("Observation")), text
    found = asked(who, "GET /Observation?code=x")
    assert isinstance(found, Permit)
    assert upstream_target(found.request) == "Observation?code=x&category=lab"


def test_Q281_letters_of_one_scope_and_the_filter_of_another_are_not_joined() -> None:
    who = caller(scope="user/Observation.r?category=lab user/Observation.s?category=psy")
    assert shows(asked(who, "GET /Observation/x"), resource("Observation", category=category("lab")))
    assert not shows(asked(who, "GET /Observation/x"), resource("Observation", category=category("psy")))
    assert shows(asked(who, "GET /Observation"), resource("Observation", category=category("psy")))
    assert not shows(asked(who, "GET /Observation"), resource("Observation", category=category("lab")))


def test_scopes_for_the_same_letter_add_up_and_only_a_sole_filter_is_pushed_down() -> None:
    two = asked(
        caller(scope="user/Observation.s?category=lab user/Observation.s?category=psy"), "GET /Observation"
    )
    assert isinstance(two, Permit)
    assert (upstream_target(two.request), two.exact) == ("Observation", False)
    assert [c for c in ("lab", "psy", "x") if shows(two, resource("Observation", category=category(c)))] == [
        "lab",
        "psy",
    ]
    wide = asked(caller(scope="user/Observation.s?category=lab user/*.s"), "GET /Observation")
    assert shows(wide, resource("Observation"))


@pytest.mark.parametrize(
    "query", ["subject.name=x", "_text=x", "code:in=x", "categroy=lab", "_has:Observation:subject:code=x", "a=%zz",
              "date=soon", "category=", "_include=Observation:subject"]
)  # fmt: skip
def test_Q282_a_filter_that_cannot_be_evaluated_grants_nothing(query: str) -> None:
    who = caller(scope=f"user/Observation.rs?{query}")
    for text in ("GET /Observation", "GET /Observation/x"):
        assert reason(asked(who, text)) is Reason.SCOPE_INSUFFICIENT


def test_a_filter_of_a_wildcard_grants_only_types_that_have_the_parameter() -> None:
    who = caller(scope="user/*.rs?category=lab")
    assert isinstance(asked(who, "GET /Observation"), Permit)
    assert reason(asked(who, "GET /Patient")) is Reason.SCOPE_INSUFFICIENT


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("patient/Observation.rs", True),
        ("patient/*.cruds", True),
        ("system/*.read", True),
        ("patient/Observation.rs?category=laboratory", True),
        ("patient/*.rs?category=laboratory", True),
        ("patient/Observatoin.rs", False),
        ("patient/Observation.sr", False),
        ("patient/Observation.rs?categroy=x", False),
        ("patient/Observation.rs?category=x&nope=1", False),
        ("patient/Observation.rs?subject.name=x", False),
        ("patient/Observation.rs?code:in=x", False),
        ("patient/*.rs?nope=x", False),
        ("openid", False),
    ],
)
def test_S08_only_what_can_be_enforced_exactly_is_granted(text: str, answer: bool) -> None:
    assert grantable(text) is answer
