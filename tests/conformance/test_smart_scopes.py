"""Granular scopes per interaction, rows E-01 to E-32, and what of scopes is refused before it is granted (SMART 2.2).

Each permission keeps its own level, type, letters and filter. The engine is asked with a policy that opens everything,
so that scopes alone decide; what stores answer stands in the leak bank, which the ledger at the end names.
"""

import re
from typing import Any

import pytest

from authz.login.language import ENGLISH
from authz.login.plain_words import plain_words
from authz.protocol.clients import AuthenticationMethod, Client
from authz.protocol.errors import OAuthError
from authz.protocol.granting import ServerBits, granted_scope, narrowed_scope, own_scope
from authz.protocol.scopes import parse_scope
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.request_target import upstream_target
from gateway.policy.decision import Decision, Deny, Nothing, Permit
from gateway.policy.scope_layer import grantable
from tests.attacks.leak_bank import BUNDLES, ROWS
from tests.support.ledger import names_of_tests
from tests.support.policies import caller, category, decide, resource, shows

OPEN = (
    "rule: open, effect: permit, may: [any], resources: [any], shared: true, "
    "query: {include: any-permitted, chain_depth: 3}"
)
OPERATIONS = (
    'rule: operations, effect: permit, may: ["operation:Patient/$everything", "operation:Observation/$lastn", '
    '"operation:$export", "operation:Group/$export"], resources: any, shared: true'
)
LAB, VITAL = "category=lab", "category=vital"
_LAB, _VITAL = (resource("Observation", category=category(code), subject="A") for code in ("lab", "vital"))
_NONE, _FOREIGN = (
    resource("Observation", subject="A"),
    resource("Observation", category=category("lab"), subject="B"),
)


def asked(scope: str, text: str, *, patient: str | None = "A", **claims: Any) -> Decision:
    """What scopes alone decide of a request."""
    said = claims if patient is None else {"patient": patient, **claims}
    return decide([OPEN, OPERATIONS], caller(scope=scope, **said), text)


def seen(decision: Decision) -> list[bool]:
    """Which is shown: laboratory, vital signs, without category, laboratory of another patient."""
    return [shows(decision, each) for each in (_LAB, _VITAL, _NONE, _FOREIGN)]


def reason(decision: Decision) -> Reason:
    assert isinstance(decision, Deny), decision
    return decision.reason


def sent(decision: Decision) -> str:
    assert isinstance(decision, Permit), decision
    return upstream_target(decision.request)


@pytest.mark.parametrize(
    "text",
    [
        "GET /Observation/x",
        "HEAD /Observation/x",
        "GET /Observation/x?_elements=id",
        "GET /Observation/x?_summary=true",
    ],
)
def test_E01_a_read_is_judged_on_the_whole_resource(text: str) -> None:
    decision = asked(f"patient/Observation.r?{LAB}", text)
    assert (sent(decision), seen(decision)) == ("Observation/x", [True, False, False, False])
    assert reason(asked(f"patient/Observation.s?{LAB}", text)) is Reason.SCOPE_INSUFFICIENT


def test_E02_E03_versions_and_histories_need_the_letter_r_and_are_judged_one_by_one() -> None:
    for text in ("GET /Observation/x/_history/1", "GET /Observation/x/_history"):
        assert seen(asked(f"patient/Observation.r?{LAB}", text)) == [True, False, False, False]
        assert reason(asked("patient/Observation.cuds", text)) is Reason.SCOPE_INSUFFICIENT


def test_E04_histories_of_a_type_and_of_everything_are_closed() -> None:
    for context in ("patient", "user", "system"):
        for text in ("GET /Observation/_history", "GET /_history"):
            assert isinstance(asked(f"{context}/*.cruds", text), Deny)


@pytest.mark.parametrize("text", ["GET /Observation?code=x", "POST /Observation/_search"])
def test_E05_a_search_is_narrowed_and_every_entry_judged(text: str) -> None:
    decision = asked(f"patient/Observation.s?{LAB}", text)
    assert isinstance(decision, Permit)
    assert {f"{term.name}={term.text}" for term in decision.request.terms} >= {LAB, "subject=Patient/A"}
    assert seen(decision) == [True, False, False, False]


def test_E05_two_filters_of_one_type_are_either_and_two_criteria_of_one_are_both() -> None:
    either = asked(f"patient/Observation.s?{LAB} patient/Observation.s?{VITAL}", "GET /Observation")
    assert (seen(either), sent(either)) == ([True, True, False, False], "Observation?subject=Patient%2FA")
    listed = asked("patient/Observation.s?category=lab,vital", "GET /Observation")
    assert seen(listed) == [True, True, False, False]
    both = asked(f"patient/Observation.s?{LAB}&{VITAL}", "GET /Observation")
    assert seen(both) == [False, False, False, False]
    two = resource("Observation", category=[*category("lab"), *category("vital")], subject="A")
    assert shows(both, two)


def test_E06_a_search_of_the_system_is_closed() -> None:
    assert isinstance(asked("patient/*.rs", "GET /?_type=Observation"), Deny)


def test_E07_of_compartments_the_own_one_alone() -> None:
    decision = asked(f"patient/Observation.s?{LAB}", "GET /Patient/A/Observation")
    assert (sent(decision), seen(decision)[1]) == ("Observation?subject=Patient%2FA&category=lab", False)
    assert reason(asked("patient/*.rs", "GET /Patient/B/Observation")) is Reason.NOT_FOUND
    for place in ("Encounter/e", "Practitioner/p", "Device/d"):
        with pytest.raises(FhirError):
            asked("patient/*.rs", f"GET /{place}/Observation")
    with pytest.raises(FhirError):
        asked("patient/*.rs", "GET /Patient/A/*")


def test_E08_E09_what_is_brought_along_is_judged_by_the_scopes_of_its_own_type() -> None:
    forward = asked(
        f"patient/Observation.rs?{LAB} patient/Condition.rs",
        "GET /Observation?_include=Observation:has-member",
    )
    assert isinstance(forward, Permit)
    assert forward.included is not None
    assert [forward.included.judges["Observation"](each).shown for each in (_LAB, _VITAL)] == [True, False]
    back = asked(
        f"patient/Patient.rs patient/Observation.rs?{LAB}", "GET /Patient?_revinclude=Observation:subject"
    )
    assert isinstance(back, Permit)
    assert back.included is not None
    assert [back.included.judges["Observation"](each).shown for each in (_LAB, _VITAL, _FOREIGN)] == [
        True,
        False,
        False,
    ]
    for text in (
        "GET /Observation?_include=Observation:encounter",
        "GET /Observation?_revinclude=Provenance:target",
    ):
        assert reason(asked(f"patient/Observation.rs?{LAB}", text)) is Reason.JOIN_CLOSED


@pytest.mark.parametrize(
    "text",
    ["GET /DiagnosticReport?result.code=x", "GET /DiagnosticReport?result.specimen.type=x"],
)
def test_E10_a_chain_goes_through_no_filter(text: str) -> None:
    filtered = f"user/DiagnosticReport.rs user/Specimen.rs user/Observation.rs?{LAB}"
    assert reason(asked(filtered, text, patient=None)) is Reason.JOIN_CLOSED
    whole = filtered.replace(f"?{LAB}", "")
    assert isinstance(asked(whole, text.replace("result.", "result:Observation."), patient=None), Permit)
    assert (
        reason(asked(whole.replace("Observation.rs", "Observation.r"), text, patient=None))
        is Reason.JOIN_CLOSED
    )


@pytest.mark.parametrize(
    "text", ["_has:Observation:subject:code=x", "_has:Observation:subject:_has:Provenance:target:agent=x"]
)
def test_E11_nor_does_a_chain_backwards(text: str) -> None:
    scope = f"user/Patient.rs user/Provenance.rs user/Observation.rs?{LAB}"
    assert reason(asked(scope, f"GET /Patient?{text}", patient=None)) is Reason.JOIN_CLOSED
    assert isinstance(asked(scope.replace(f"?{LAB}", ""), f"GET /Patient?{text}", patient=None), Permit)


@pytest.mark.parametrize("text", ["_contained=true", "_contained=both", "_containedType=contained"])
def test_E12_contained_resources_are_not_searched(text: str) -> None:
    with pytest.raises(FhirError) as refused:
        asked("patient/*.rs", f"GET /Observation?{text}")
    assert refused.value.reason is Reason.UNSUPPORTED_PARAMETER


@pytest.mark.parametrize(
    "text",
    [
        "_query=x",
        "_list=$current-problems",
        "code:in=x",
        "code:not-in=x",
        "code:above=x",
        "code:below=x",
        "_source=x",
    ],
)
def test_E13_what_the_gateway_cannot_evaluate_is_closed(text: str) -> None:
    with pytest.raises(FhirError) as refused:
        asked("patient/*.rs", f"GET /Observation?{text}")
    assert refused.value.reason is Reason.UNSUPPORTED_PARAMETER


@pytest.mark.parametrize("text", ["_filter=code%20eq%20x", "_content=x", "_text=x", "_list=x"])
def test_E13_what_no_permit_opens_by_name_is_closed(text: str) -> None:
    assert reason(asked("patient/*.rs", f"GET /Observation?{text}")) is Reason.UNSUPPORTED_PARAMETER


@pytest.mark.parametrize("text", ["_content=x", "_text=x"])
def test_E13_a_search_of_all_text_goes_by_no_filter_that_the_judge_alone_knows(text: str) -> None:
    rule = "rule: open, effect: permit, may: [search], resources: any, shared: true, query: {open: [_text, _content]}"
    two = f"user/Observation.s?{LAB} user/Observation.s?{VITAL}"
    for scope, is_open in (("user/*.s", True), (f"user/Observation.s?{LAB}", True), (two, False)):
        found = decide([rule], caller(scope=scope), f"GET /Observation?{text}")
        assert isinstance(found, Permit) is is_open, scope
    assert reason(found) is Reason.UNSUPPORTED_PARAMETER


def test_E14_sorted_by_the_own_type_alone() -> None:
    assert "_sort=-date" in sent(asked("patient/Observation.rs", "GET /Observation?_sort=-date"))
    for text in ("subject.name", "patient:Patient.name", "_score"):
        with pytest.raises(FhirError):
            asked("patient/Observation.rs", f"GET /Observation?_sort={text}")


@pytest.mark.parametrize("text", ["_summary=count", "_total=accurate"])
def test_E15_a_number_is_told_only_where_the_search_says_all_of_the_filter(text: str) -> None:
    two = f"user/Observation.s?{LAB} user/Observation.s?{VITAL}"
    several = asked(two, f"GET /Observation?{text}", patient=None)
    if text == "_summary=count":
        assert reason(several) is Reason.COUNT_CLOSED
    else:  # the total is left out, and the store is not asked for it
        assert isinstance(several, Permit)
        assert (several.exact, sent(several)) == (False, "Observation")
    one = asked(f"user/Observation.s?{LAB}", f"GET /Observation?{text}", patient=None)
    assert "category=lab" in sent(one)
    assert isinstance(one, Permit)
    assert one.exact


def test_E16_shapes_stay_here() -> None:
    for text in ("_elements=code", "_summary=true", "_summary=data"):
        assert (
            sent(asked(f"user/Observation.s?{LAB}", f"GET /Observation?{text}", patient=None))
            == "Observation?category=lab"
        )


def test_E18_a_create_is_of_the_filter_and_about_the_patient_alone() -> None:
    decision = asked(f"patient/Observation.c?{LAB} patient/Observation.r", "POST /Observation")
    assert seen(decision) == [True, False, False, False]
    for performer in ("Patient/B", "urn:uuid:1", "http://elsewhere/Patient/A"):
        assert not shows(decision, _LAB | {"performer": [{"reference": performer}]})
    assert shows(
        decision, _LAB | {"performer": [{"reference": "Patient/A"}, {"reference": "Practitioner/p"}]}
    )
    assert not shows(asked("patient/Patient.c", "POST /Patient"), resource("Patient"))


@pytest.mark.parametrize(
    ("text", "letter"),
    [("PUT /Observation/x", "u"), ("PATCH /Observation/x", "u"), ("DELETE /Observation/x", "d")],
)
def test_E19_E21_E22_both_versions_are_within_the_scope_that_writes(text: str, letter: str) -> None:
    decision = asked(f"patient/Observation.{letter}?{LAB} patient/Observation.rs", text)
    assert isinstance(decision, Permit)
    assert decision.judge_change is not None
    judge = decision.judge_change
    assert judge(_LAB, None if letter == "d" else _LAB).shown
    assert not judge(_VITAL, None if letter == "d" else _LAB).shown
    assert not judge(_FOREIGN, None if letter == "d" else _LAB).shown
    if letter == "u":
        assert not judge(_LAB, _VITAL).shown
        assert not judge(_LAB, _FOREIGN).shown
    rest = "cruds".replace(letter, "")
    assert reason(asked(f"patient/Observation.{rest}", text)) is Reason.SCOPE_INSUFFICIENT


def test_E20_E23_writes_by_criteria_are_closed_until_a_permit_says_by_which() -> None:
    for text in ("PUT /Observation?identifier=x", "DELETE /Observation?identifier=x"):
        assert reason(asked("patient/Observation.cruds", text)) is Reason.INTERACTION_CLOSED
        assert reason(asked("patient/Observation.cr", text)) is Reason.SCOPE_INSUFFICIENT


def test_E26_everything_needs_both_letters_and_keeps_each_filter() -> None:
    decision = asked(
        f"patient/Patient.rs patient/Observation.rs?{LAB} patient/Condition.r", "GET /Patient/A/$everything"
    )
    assert isinstance(decision, Permit)
    assert set(decision.judges) == {"Patient", "Observation"}
    assert [decision.judges["Observation"](each).shown for each in (_LAB, _VITAL, _FOREIGN)] == [
        True,
        False,
        False,
    ]
    assert isinstance(asked("patient/Patient.r", "GET /Patient/A/$everything"), Deny)
    assert isinstance(asked("patient/*.rs", "GET /Patient/$everything"), Deny)


def test_E27_a_filtered_scope_exports_nothing() -> None:
    whole = asked("system/Observation.rs", "GET /$export", patient=None)
    assert sent(whole) == "$export?_type=Observation"
    assert isinstance(asked(f"system/Observation.rs?{LAB}", "GET /$export", patient=None), Deny)
    mixed = asked(f"system/Condition.rs system/Observation.rs?{LAB}", "GET /$export", patient=None)
    assert sent(mixed) == "$export?_type=Condition"
    for scope in ("patient/*.rs", "user/*.rs"):
        assert isinstance(asked(scope, "GET /$export"), Deny)


@pytest.mark.parametrize(
    "name",
    [
        "graphql",
        "stats",
        "document",
        "expand",
        "meta",
        "meta-add",
        "match",
        "member-match",
        "process-message",
        "reindex",
        "purge-history",
        "translate",
    ],
)
def test_E28_E29_operations_are_a_closed_list(name: str) -> None:
    for context in ("patient", "user", "system"):
        assert reason(asked(f"{context}/*.cruds", f"POST /Patient/${name}")) is Reason.INTERACTION_CLOSED


def test_E32_a_bundle_that_is_stored_is_in_nobodys_record_so_only_what_is_said_to_be_shared_is_open() -> None:
    rule = (
        "rule: documents, effect: permit, may: [read], resources: [Bundle], "
        'where: {match: {Bundle: "Bundle?type=document"}}'
    )
    assert reason(decide([rule], caller("patient", patient="A"), "GET /Bundle/x")) is Reason.NO_PERMIT
    shared = decide([f"{rule}, shared: true"], caller("patient", patient="A"), "GET /Bundle/x")
    assert shows(shared, resource("Bundle") | {"type": "document"})
    assert not shows(shared, resource("Bundle") | {"type": "message"})


# Before anything is granted

_SERVER = ServerBits("https://as.example", {}, grantable, frozenset({"launch", "launch/encounter"}))
_UNKEPT = (
    "foo=bar",
    "categroy=x",
    "code:in=http://x",
    "category:not=x",
    "code:text=x",
    "patient.name=x",
    "subject:Patient.name=x",
    "_has:Observation:patient:code=x",
    "_filter=x",
    "_include=Observation:subject",
    "_count=1",
    "_sort=date",
    "_text=x",
    "date=soon",
    "category=lab&foo=bar",
    "%63ategory=x",
    "category=,",
    "code=|",
    "value-quantity=x",
    "combo-code-value-concept=x",
)


def _client(*scope: str) -> Client:
    return Client("portal", "Portal", AuthenticationMethod.PRIVATE_KEY_JWT, scope, frozenset())


@pytest.mark.parametrize("context", ["patient", "user"])
@pytest.mark.parametrize("text", _UNKEPT)
def test_LK022_a_filter_that_cannot_be_kept_exactly_is_refused_when_it_is_asked_for(
    context: str, text: str
) -> None:
    scope = f"{context}/Observation.rs?{text}"
    for registered in (f"{context}/*.cruds", scope):
        with pytest.raises(OAuthError, match=r"cannot be enforced here|is not known here"):
            granted_scope({"scope": f"openid {scope}"}, _client("openid", registered), _SERVER)
    with pytest.raises(OAuthError):
        own_scope({"scope": scope.replace(context, "system")}, _client("system/*.cruds"), _SERVER)


@pytest.mark.parametrize(
    "scope",
    [
        "patient/Observation.rs?category=a&category=b",
        "patient/Observation.rs?category=a,b",
        "patient/*.rs?category=a",
        "patient/Observation.rs?category=|a",
        "patient/Observation.rs?code=http://loinc.org|",
        "patient/Observation.rs?date=ge2020",
        "patient/Condition.rs?category=a&clinical-status=active",
    ],
)
def test_LK022_what_can_be_kept_is_granted_as_it_was_written(scope: str) -> None:
    assert granted_scope({"scope": scope}, _client("patient/*.rs"), _SERVER) == (scope,)


@pytest.mark.parametrize("letters", ["sr", "dus", "rr", "x", "", "reads", "Rs"])
def test_S02_letters_in_another_order_are_refused_and_never_mended(letters: str) -> None:
    with pytest.raises(OAuthError):
        granted_scope({"scope": f"patient/Observation.{letters}"}, _client("patient/*.cruds"), _SERVER)


def test_S03_S04_both_versions_in_one_request_stay_as_they_were_asked() -> None:
    scope = f"patient/Observation.read patient/Condition.rs patient/Condition.r?{LAB} patient/Procedure.*"
    assert " ".join(granted_scope({"scope": scope}, _client("patient/*.cruds"), _SERVER)) == scope
    with pytest.raises(OAuthError):
        granted_scope({"scope": f"patient/Observation.read?{LAB}"}, _client("patient/*.cruds"), _SERVER)
    write = asked("patient/Observation.write", "GET /Observation/x")
    assert reason(write) is Reason.SCOPE_INSUFFICIENT  # .write is c, u and d


@pytest.mark.parametrize(
    "scope", ["patient/Foo.rs", "patient/observation.rs", "patient/OBSERVATION.rs", "patient/Resource.rs"]
)
def test_S21_a_type_that_does_not_exist_is_not_granted(scope: str) -> None:
    with pytest.raises(OAuthError, match="is not known here"):
        granted_scope({"scope": scope}, _client("patient/*.rs", scope), _SERVER)


@pytest.mark.parametrize(
    ("granted", "asked_for", "fits"),
    [
        (f"patient/Observation.rs?{LAB}", f"patient/Observation.r?{LAB}", True),
        ("patient/*.rs", f"patient/Observation.r?{LAB}", True),
        (f"patient/Observation.rs?{LAB}", "patient/Observation.rs", False),
        (f"patient/Observation.rs?{LAB}", f"patient/Observation.rs?{VITAL}", False),
        (
            f"patient/Observation.r?{LAB} patient/Observation.s?{VITAL}",
            f"patient/Observation.rs?{LAB}",
            False,
        ),
        (f"patient/Observation.rs?{LAB}", f"user/Observation.rs?{LAB}", False),
        (f"patient/*.rs?{LAB}", f"patient/Observation.rs?{LAB}", True),
        (f"patient/Observation.rs?{LAB}", f"patient/*.rs?{LAB}", False),
    ],
)
def test_LK104_a_refresh_narrows_one_scope_by_itself(granted: str, asked_for: str, fits: bool) -> None:
    held = tuple(granted.split(" "))
    if fits:
        assert narrowed_scope({"scope": asked_for}, held, _SERVER) == (asked_for,)
    else:
        with pytest.raises(OAuthError, match="was not granted before"):
            narrowed_scope({"scope": asked_for}, held, _SERVER)


def test_LK105_a_launch_from_a_record_is_never_granted_so_no_handle_opens_anything() -> None:
    found = granted_scope(
        {"scope": "launch openid launch/encounter", "launch": "of somebody else"},
        _client("openid", "launch", "launch/encounter"),
        _SERVER,
    )
    assert found == ("openid",)


def test_LK028_a_patients_scope_is_for_nobody_without_a_patient() -> None:
    for scope in ("patient/*.rs", f"patient/Observation.rs?{LAB}"):
        with pytest.raises(OAuthError, match="client_credentials is for system scopes"):
            own_scope({"scope": scope}, _client("patient/*.rs", "system/*.rs"), _SERVER)
        assert reason(asked(scope, "GET /Observation", patient=None)) is Reason.NO_PATIENT_CONTEXT
    with pytest.raises(OAuthError, match="not for people"):
        granted_scope({"scope": "system/*.rs"}, _client("system/*.rs"), _SERVER)


def test_LK024_a_filter_of_a_wildcard_is_for_types_that_have_its_parameter() -> None:
    scope = f"patient/*.rs?{LAB}"
    assert grantable(scope)
    assert seen(asked(scope, "GET /Observation")) == [True, False, False, False]
    assert isinstance(asked(scope, "GET /Condition"), Permit)
    for text in ("GET /Patient/A", "GET /Encounter"):
        assert reason(asked(scope, text)) is Reason.SCOPE_INSUFFICIENT
    assert not grantable("patient/*.rs?category=lab&value-string=x")
    assert not grantable("patient/*.rs?nobody-has-it=x")
    assert not grantable(
        "patient/*.rs?category=http://x|lab"
    )  # of AllergyIntolerance it is a code without a system


@pytest.mark.parametrize(
    ("letters", "words"),
    [
        ("c", ["add"]),
        ("r", ["see"]),
        ("u", ["change"]),
        ("d", ["delete"]),
        ("s", ["see"]),
        ("cruds", ["see", "add", "change", "delete"]),
    ],
)
def test_LK108_every_letter_that_is_enforced_is_said_to_the_person(letters: str, words: list[str]) -> None:
    scope = parse_scope(f"patient/Observation.{letters}?{LAB}")
    assert scope is not None
    said = plain_words(scope.text, ENGLISH).lower()
    assert [
        word for word in ("see", "add", "change", "delete") if word in said.split(" ") or f"{word}," in said
    ] == words
    assert "lab" in said


# The ledger

ELSEWHERE = {
    17: ("LK-060", "test_pages_are_sealed_and_judged_like_the_first"),
    24: ("LK-057", "test_an_entry_is_refused_as_it_would_be_alone"),
    25: ("LK-056", "LK-058", "test_one_refusal_is_the_refusal_of_all"),
    30: ("test_the_capability_statement_is_the_gateways",),
    31: ("LK-086", "test_case"),
}
"""Rows whose requests need a store or several entries: by questions of the leak bank and names of tests."""


def test_every_row_from_E_01_to_E_32_has_a_test() -> None:
    names = set(names_of_tests())
    here = {int(number) for name in names for number in re.findall(r"(?:^test|_)_?E(\d{2})(?=_)", name)}
    asked_here = {row.id[:6] for row in (*ROWS, *BUNDLES)} | {f"LK-{n[:3]}" for n in _by_name(names)}
    for number, shown in ELSEWHERE.items():
        for each in shown:
            assert each in asked_here or each in names, (number, each)
    assert set(range(1, 33)) - here - ELSEWHERE.keys() == set()


def _by_name(names: set[str]) -> set[str]:
    return {number for name in names for number in re.findall(r"_LK(\d{3})_", name)}


def test_a_search_that_finds_only_strangers_asks_nobody() -> None:
    assert isinstance(asked(f"patient/Observation.rs?{LAB}", "GET /Observation?patient=B"), Nothing)
