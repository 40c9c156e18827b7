"""Loading policies: every mistake at its place, all of them in one run, and nothing that is not understood passed over."""

from itertools import permutations
from pathlib import Path

import pytest

from gateway.fhir.interaction import Interaction
from gateway.policy import language
from gateway.policy.language import PolicyErrors
from tests.support.policies import DEFINITIONS, policy

ROOT = Path(__file__).parents[2]
WHERE = "where: {compartment: {patient: A}}"


def problems(files: dict[str, str]) -> list[str]:
    with pytest.raises(PolicyErrors) as error:
        language.load(files)
    assert str(error.value) == "\n".join(map(str, error.value.problems))
    return [str(problem) for problem in error.value.problems]


def of_rule(rule: str) -> list[str]:
    """The problems of one rule, without file name; its text begins in line 7, column 6."""
    return [
        text.removeprefix("1.yaml:") for text in problems({"0.yaml": DEFINITIONS, "1.yaml": policy(rule)})
    ]


def warnings(rule: str) -> list[str]:
    loaded = language.load({"0.yaml": DEFINITIONS, "1.yaml": policy(rule)})
    return [str(problem).removeprefix("1.yaml:") for problem in loaded.warnings]


BROKEN = """\
policy: broken-example
version: 1
owner: someone@h1.example
status: enforce
text: Every kind of mistake the loader must find.
rules:
  - rule: one
    effect: permit
    may: [read, serach]
    resources: [Observatoin, $chart]
    where:
      match: {Observation: "Observation?categroy=laboratory"}
  - rule: two
    effect: permit
    may: [search]
    resources: [Task]
    where: {compartment: {patient: "{token.patient}"}}
  - rule: one
    effect: deny
    may: [read]
    resources: [$unknown-set]
    return: {hide: [Patient.birthdate]}
"""


def test_every_mistake_of_a_file_is_found_in_one_run_each_at_its_place() -> None:
    assert problems({"0.yaml": DEFINITIONS, "broken.yaml": BROKEN}) == [
        "broken.yaml:9:17: error: unknown interaction 'serach'. Did you mean 'search'?",
        "broken.yaml:10:17: error: unknown resource type 'Observatoin'. Did you mean 'Observation'?",
        "broken.yaml:12:28: error: Observation has no search parameter 'categroy'. Did you mean 'category'?",
        "broken.yaml:17:26: error: Task is not in the Patient compartment: give 'match:' or, in a rule of its own,"
        " 'shared: true'",
        "broken.yaml:18:11: error: rule name 'one' is used twice (first in line 7)",
        "broken.yaml:21:17: error: no set of types named '$unknown-set'.",
        "broken.yaml:22:13: error: 'return' is for a permit: a deny takes elements away with 'fields'",
        "broken.yaml:22:21: error: Patient has no element 'birthdate'. Did you mean 'birthDate'?",
    ]


def test_mistakes_of_all_files_are_found_together_in_the_order_of_files() -> None:
    found = problems({
        "b.yaml": policy("rule: x, effect: permitt, may: [read], resources: [Patient], shared: true"),
        "a.yaml": "policy: x\npolicy: y\n",
        "c.yaml": "[1, 2]\n",
        "d.yaml": "",
    })  # fmt: skip
    assert found == [
        "a.yaml:2:1: error: key 'policy' is used twice (first in line 1)",
        "b.yaml:7:23: error: unknown effect 'permitt'. Did you mean 'permit'?",
        "c.yaml:1:1: error: a policy file must be a mapping, found a list",
        "d.yaml:1:1: error: a policy file must be a mapping, found nothing",
    ]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("effect: deny, may: [read], resources: [Patient]", "7:5: error: a rule must have a name: 'rule: …'"),
        ("rule: '', effect: deny, may: [read], resources: [Patient]", "7:12: error: rule must not be empty"),
        ("rule: r, may: [read], resources: [Patient]", "7:5: error: rule 'r' has no 'effect': permit, deny or require"),
        ("rule: r, effect: allow, may: [read], resources: [Patient]", "7:23: error: unknown effect 'allow'."),
        ("rule: r, effect: deny, resources: [Patient]",
         "7:5: error: a rule must say what it is about: 'may: [read, search]'"),
        ("rule: r, effect: deny, may: [read]",
         "7:5: error: a rule must say which resources it is about: 'resources: [Patient]'"),
        ("rule: r, effect: deny, may: [], resources: [Patient]",
         "7:34: error: 'may' names nothing: the rule could never match"),
        ("rule: r, effect: deny, may: [read], resources: []",
         "7:53: error: 'resources' names nothing: the rule could never match"),
        ("rule: r, effect: deny, may: {read: true}, resources: [Patient]",
         "7:34: error: may must be a list, found a mapping"),
        ("rule: r, effect: deny, may: [Read], resources: [Patient]",
         "7:35: error: unknown interaction 'Read'. Did you mean 'read'?"),
        ("rule: r, effect: deny, may: [operation:everything], resources: [Patient]",
         "7:35: error: unknown operation 'everything'. Did you mean '$everything'?"),
        ("rule: r, effect: deny, may: [capabilities], resources: [Patient]",
         "7:35: error: unknown interaction 'capabilities'."),
        ("rule: r, effect: deny, may: [read], resources: [patient]",
         "7:54: error: unknown resource type 'patient'. Did you mean 'Patient'?"),
        ("rule: r, effect: deny, may: [read], resources: [$charts]",
         "7:54: error: no set of types named '$charts'. Did you mean 'chart'?"),
        ("rule: r, effect: deny, may: [read], resources: ['cda:ClinicalDocumnet']",
         "7:54: error: unknown kind of document 'cda:ClinicalDocumnet'. Did you mean 'cda:ClinicalDocument'?"),
        ("rule: r, effect: deny, may: [read], resources: [Patient], conceal: 'true'",
         "7:73: error: conceal must be true or false, found text"),
        ("rule: r, effect: deny, may: [read], resources: [Patient], conceal: yes",
         "7:73: error: conceal must be true or false, found text"),
        ("rule: r, effect: deny, may: [read], resources: [Patient], then: {audit: ful}",
         "7:78: error: unknown audit level 'ful'. Did you mean 'full'?"),
        ("rule: r, effect: deny, may: [read], resources: [Patient], then: {rate: 30/min}",
         "7:71: error: 'rate' follows from a permit: a deny answers with a refusal"),
        ("rule: r, effect: deny, may: [read], resources: [Patient], then: {audits: full}",
         "7:71: error: then has no key 'audits'. Did you mean 'audit'?"),
        ("rule: r, effect: deny, may: [read], resources: [Patient], wehre: {ids: [x]}",
         "7:64: error: a rule has no key 'wehre'. Did you mean 'where'?"),
        ("rule: r, effect: deny, may: [read], resources: [Patient], becuase: x",
         "7:64: error: a rule has no key 'becuase'. Did you mean 'because'?"),
    ],
)  # fmt: skip
def test_a_rule_that_is_not_right_is_refused_at_its_place(rule: str, message: str) -> None:
    assert message in of_rule(rule)


@pytest.mark.parametrize(
    ("who", "message"),
    [
        ("{contxt: user}", "has no key 'contxt'. Did you mean 'context'?"),
        ("{context: pateint}", "unknown context 'pateint'. Did you mean 'patient'?"),
        ("{bound: mtsl}", "unknown binding 'mtsl'. Did you mean 'mtls'?"),
        ("{client: $app}", "no set of clients named '$app'. Did you mean 'apps'?"),
        ("{client: $chart}", "no set of clients named '$chart'."),
        ("{client: []}", "'client' names nothing: the rule could never match"),
        ("{client: {not: []}}", "'client' names nothing"),
        ("{client: {no: [a]}}", "client has no key 'no'. Did you mean 'not'?"),
        ("{client: {}}", "client must be a list, found a mapping"),
        ("{client: }", "client must be text, found nothing"),
        ("{role: [a], roles: {not: [b]}}", "'roles' is the same as 'role': give one of them"),
        (
            "{acr: at-least-strong}",
            "'at-least-strong' needs an order: give 'acr: [weakest, …, strongest]' in the definitions",
        ),
        ("[patient]", "who must be a mapping, found a list"),
    ],
)
def test_who_that_is_not_right_is_refused(who: str, message: str) -> None:
    rule = f"rule: r, effect: deny, who: {who}, may: [read], resources: [Patient]"
    assert [text for text in of_rule(rule) if message in text and text.startswith("7:")]


def test_a_claim_that_is_not_defined_does_not_exist_for_policies() -> None:
    rule = "rule: r, effect: deny, who: {role: [a]}, may: [read], resources: [Patient]"
    assert problems({"1.yaml": policy(rule)}) == [
        "1.yaml:7:35: error: no claim named 'roles' is defined: add it under claims in the definitions file"
    ]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("{network: $outside}", "no set of networks named '$outside'."),
        (
            "{network: 10.20.0.1/16}",
            "'10.20.0.1/16' is not a network: write it as 10.20.0.0/16 or 2001:db8::/48",
        ),
        ("{network: 10.}", "is not a network"),
        ("{network: '::ffff:10.0.0.0/104'}", "is IPv4 inside IPv6: write the IPv4 network"),
        ("{network: []}", "'network' names nothing"),
        ("{hours: day, zone: Europe/Amsterdam}", "'day' are no hours: write them as 07:00-20:00"),
        (
            "{signed_in_within: 1h}",
            "'signed_in_within' is for a permit or a require: a deny would close what is new",
        ),
        ("{netwrok: $inside}", "when has no key 'netwrok'. Did you mean 'network'?"),
    ],
)
def test_when_that_is_not_right_is_refused(when: str, message: str) -> None:
    found = of_rule(f"rule: r, effect: deny, when: {when}, may: [read], resources: [Patient]")
    assert len(found) == 1
    assert message in found[0]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            "{compartment: {membership: subject}}",
            "compartment must say whose: 'patient: \"{token.patient}\"'",
        ),
        ("{compartment: {patient: []}}", "'patient' names nothing"),
        ("{compartment: {patient: {}}}", "patient must say whose: '{in: [...]}'"),
        ("{compartment: {patient: {in: []}}}", "'in' names nothing"),
        ("{compartment: {patient: {inn: [A]}}}", "patient has no key 'inn'. Did you mean 'in'?"),
        ("{compartment: {patient: '{token.patinet}'}}", "no claim named 'patinet'. Did you mean 'patient'?"),
        (
            "{compartment: {patient: '{token.org}'}}",
            "claim 'org' is string: an id or a reference is expected",
        ),
        ("{compartment: {patient: 'x{token.patient}'}}", "'x{token.patient}' is neither an id nor a claim"),
        (
            "{compartment: {patient: ['{token.patient}', B]}}",
            "a claim stands alone: it is not mixed with other values",
        ),
        ("{compartment: {patient: $facts.my-patients}}", "no fact named 'my-patients'"),
        ("{compartment: {patient: '..'}}", "'..' is neither an id nor a claim"),
        ("{compartment: {patient: 'A,B'}}", "'A,B' is neither an id nor a claim"),
        ("{compartment: {patient: A, membership: owner}}", "unknown membership 'owner'."),
        ("{compartment: {patient: A, link: Task.for}}", "'link' is not supported by this version"),
        ("{compartment: A}", "compartment must be a mapping, found text"),
        ("{ids: []}", "'ids' names nothing"),
        ("{ids: [Observation/a1]}", "'Observation/a1' is not an id: write 'a1', without the type"),
        ("{ids: ['']}", "id must not be empty"),
        ("{ids: }", "id must be text, found nothing"),
        (
            "{match: {Observatoin: 'code=x'}}",
            "unknown resource type 'Observatoin'. Did you mean 'Observation'?",
        ),
        (
            "{match: {Observation: 'Observation?cod=x'}}",
            "Observation has no search parameter 'cod'. Did you mean 'code'?",
        ),
        (
            "{match: {Observation: 'Condition?code=x'}}",
            "Observation has no search parameter 'Condition?code'",
        ),
        (
            "{match: {Observation: 'code=x&statsu=final'}}",
            "has no search parameter 'statsu'. Did you mean 'status'?",
        ),
        ("{match: {Observation: 'code'}}", "criteria cannot be evaluated"),
        ("{match: {Observation: 'code='}}", "criteria cannot be evaluated"),
        ("{match: {Observation: 'code:in=x'}}", "value set not available: 'code:in=x' cannot be told here"),
        (
            "{match: {Observation: 'subject.name=x'}}",
            "criteria cannot be evaluated: 'subject.name' is closed",
        ),
        ("{match: {Observation: 'date=yesterday'}}", "criteria cannot be evaluated: 'date' must be a date"),
        ("{match: {Observation: 'code={token.nobody}'}}", "no claim named 'nobody'."),
        ("{match: {Observation: 5}}", "has no search parameter '5'"),
        ("{match: {Observation: }}", "criteria must be text, found nothing"),
        ("{match: [Observation]}", "match must be a mapping, found a list"),
        ("{idz: [x]}", "where has no key 'idz'. Did you mean 'ids'?"),
        ("A", "where must be a mapping, found text"),
    ],
)
def test_where_that_is_not_right_is_refused(where: str, message: str) -> None:
    found = of_rule(f"rule: r, effect: deny, may: [read], resources: [Observation], where: {where}")
    assert [text for text in found if message in text and text.startswith("7:")], found


@pytest.mark.parametrize("key", ["name"])
def test_what_a_later_version_says_is_refused_by_name_never_passed_over(key: str) -> None:
    found = of_rule(f"rule: r, effect: deny, may: [read], resources: [Patient], {key}: {{}}")
    assert found == [f"7:64: error: '{key}' is not supported by this version"]


@pytest.mark.parametrize(
    "rule",
    [
        "rule: r, effect: permit, may: [read], resources: [Patient]",
        "rule: r, effect: permit, may: [read], resources: [Patient], shared: false",
        "rule: r, effect: permit, may: [read], resources: [any]",
        "rule: r, effect: permit, may: [read], resources: [Patient], where: {}",
        "rule: r, effect: permit, may: [read], resources: [Patient], where: {match: {}}",
        "rule: r, effect: permit, who: {context: patient}, may: [read], resources: [Organization]",
    ],
)
def test_a_permit_must_say_whose_data_it_opens(rule: str) -> None:
    assert [text for text in of_rule(rule) if "a permit must say whose data it opens" in text]


def test_a_permit_by_compartment_names_its_types() -> None:
    found = of_rule(f"rule: r, effect: permit, may: [read], resources: [any], {WHERE}")
    assert [text for text in found if "goes beyond the Patient compartment: name the types" in text]


@pytest.mark.parametrize("type", ["Task", "Organization", "Practitioner", "Device", "Binary"])
def test_a_compartment_of_a_type_outside_it_is_refused(type: str) -> None:
    found = of_rule(f"rule: r, effect: deny, may: [read], resources: [Observation, {type}], {WHERE}")
    assert len(found) == 1
    assert f"{type} is not in the Patient compartment" in found[0]


@pytest.mark.parametrize("type", ["Appointment", "AppointmentResponse", "Group", "Schedule"])
def test_a_membership_that_could_never_hold_is_refused(type: str) -> None:
    found = of_rule(f"rule: r, effect: deny, may: [read], resources: [{type}], {WHERE}")
    assert len(found) == 1
    assert f"{type} has no subject: say 'membership: spec' or 'membership: all'" in found[0]


def test_rule_names_are_unique_in_the_whole_set() -> None:
    rule = "rule: r, effect: deny, may: [read], resources: [Patient]"
    found = problems({"1.yaml": policy(rule), "2.yaml": policy(rule, name="q")})
    assert found == ["2.yaml:7:12: error: rule name 'r' is used twice (first in line 7)"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 1\n", "1:1: error: a file must begin with 'policy: name' or 'definitions: name'"),
        ("policy: p\n", "1:1: error: policy 'p' has no 'owner'"),
        ("policy: p\n", "1:1: error: policy 'p' has no rules"),
        ("policy: p\nrules: []\n", "1:1: error: policy 'p' has no rules"),
        ("policy: p\nstatus: on\n", "2:9: error: unknown status 'on'."),
        ("policy: p\nstatus: shadwo\n", "2:9: error: unknown status 'shadwo'. Did you mean 'shadow'?"),
        ("policy: p\nvalid: {until: 2030-02-30}\n", "2:16: error: '2030-02-30' is no day: write it as 2026-12-31"),
        ("policy: p\nruels: []\n", "2:1: error: a policy has no key 'ruels'. Did you mean 'rules'?"),
        ("policy: p\nrules:\n  - permit all\n", "3:5: error: a rule must be a mapping, found text"),
        ("policy: p\ntests:\n  - x\n", "3:5: error: a test must be a mapping, found text"),
        ("policy: p\ntests:\n  - {test: t, givne: {}}\n", "3:15: error: a test has no key 'givne'. Did you mean 'given'?"),
        ("definitions: d\nrules: []\n", "2:1: error: a definitions file has no key 'rules'."),
        ("definitions: d\nfacts: [x]\n", "2:8: error: facts must be a mapping, found a list"),
        ("definitions: d\nfhir: R5\n", "2:7: error: unknown FHIR version 'R5'."),
        ("definitions: d\nclaims: {c: {path: c}}\n", "2:10: error: claim 'c' must have path and type"),
        ("definitions: d\nclaims: {c: {path: c, type: txt}}\n", "2:29: error: unknown claim type 'txt'."),
        ("definitions: d\nclaims: {c: {path: c, type: id, from: x}}\n", "2:33: error: claim 'c' has no key 'from'."),
        ("definitions: d\nclaims: {client: {path: c, type: string}}\n",
         "2:10: error: 'client' is not a claim: policies know it by that name already"),
        ("definitions: d\nsets: {s: {types: [Obs]}}\n", "2:20: error: unknown resource type 'Obs'."),
        ("definitions: d\nsets: {s: {hours: 08-18, zone: UTC}}\n", "2:19: error: '08-18' are no hours"),
        ("definitions: d\nsets: {s: {networks: [x]}}\n", "2:23: error: 'x' is not a network"),
        ("definitions: d\nsets: {s: [Patient]}\n", "2:11: error: set 's' must be a mapping, found a list"),
        ("definitions: d\nclaims: &x {}\n", "2:9: error: anchors (&name) are not allowed: write the value out"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_right_is_refused_at_its_place(text: str, message: str) -> None:
    assert [found for found in problems({"f.yaml": text}) if found.startswith(f"f.yaml:{message}")]


@pytest.mark.parametrize("text", ["claims: {c: {path: a, type: id}}", "sets: {c: {types: [Patient]}}"])
def test_a_second_definition_is_refused_since_the_order_of_files_has_no_meaning(text: str) -> None:
    found = problems({"a.yaml": f"definitions: d\n{text}\n", "b.yaml": f"definitions: e\n{text}\n"})
    assert len(found) == 1
    assert found[0].startswith("b.yaml:2:")
    assert "'c' is defined twice (first in a.yaml, line 2)" in found[0]


def test_what_is_only_doubtful_is_a_warning() -> None:
    text = policy("rule: r, effect: deny, may: [read], resources: [Patient]").replace(
        ", because: Said so.", ""
    )
    loaded = language.load({"1.yaml": text.partition("tests:")[0]})
    assert [str(warning) for warning in loaded.warnings] == [
        "1.yaml:7:5: warning: rule 'r' does not say because of what ('because: …')",
        "1.yaml:1:1: warning: policy 'p' has no tests",
    ]
    uncovered = (
        "rule: r, effect: deny, may: [read], resources: [Patient, Observation], "
        "where: {match: {Patient: active=true}}"
    )
    assert warnings(uncovered) == [
        "7:92: warning: match says nothing about Observation: a permit opens nothing of it, any other rule closes all of it"
    ]
    wide = "where: {compartment: {patient: A, membership: spec}}"
    assert warnings(
        f"rule: r, effect: permit, may: [search], resources: [Observation, Encounter], {wide}"
    ) == [
        "7:104: warning: membership 'spec' is for reading: a search finds only what is about the patient, of Observation"
    ]
    assert warnings(f"rule: r, effect: permit, may: [read], resources: [Observation], {wide}") == []


def test_a_warning_alone_refuses_nothing_and_an_error_is_not_lost_among_warnings() -> None:
    text = policy("rule: r, effect: deny, may: [reed], resources: [Patient]").replace(
        ", because: Said so.", ""
    )
    assert problems({"1.yaml": text}) == [
        "1.yaml:7:35: error: unknown interaction 'reed'. Did you mean 'read'?"
    ]


# What right files mean


def test_any_means_every_interaction_but_the_gateways_own() -> None:
    rule = "rule: r, effect: deny, may: [any], resources: [any]"
    loaded = language.load({"1.yaml": policy(rule)}).rules[0]
    assert loaded.may == frozenset(Interaction) - {Interaction.CAPABILITIES}
    assert loaded.resources is None
    assert loaded.id == "p/r"
    assert loaded.because == "Said so."
    assert (loaded.place.file, loaded.place.line) == ("1.yaml", 7)


def test_a_guard_without_may_and_resources_is_about_everything() -> None:
    rule = "rule: r, effect: require, who: {context: user}, when: {network: $inside}"
    loaded = language.load({"0.yaml": DEFINITIONS, "1.yaml": policy(rule)}).rules[0]
    assert loaded.may == frozenset(Interaction) - {Interaction.CAPABILITIES}
    assert loaded.resources is None


def test_sets_stand_for_their_members_in_any_file_order() -> None:
    rule = "rule: r, effect: deny, who: {client: [$apps, x]}, may: [read], resources: [Patient, $chart]"
    for first, second in permutations((DEFINITIONS, policy(rule))):
        loaded = language.load({"a.yaml": first, "b.yaml": second}).rules[0]
        assert loaded.resources == {"Patient", "Condition", "Encounter", "Observation"}
        assert loaded.who[0].values == {"portal", "kiosk", "x"}


def test_a_single_value_is_a_list_of_one() -> None:
    one = "rule: r, effect: deny, who: {client: x}, may: read, resources: Patient, where: {ids: 5}"
    many = "rule: r, effect: deny, who: {client: [x]}, may: [read], resources: [Patient], where: {ids: ['5']}"
    assert repr(language.load({"1.yaml": policy(one)}).rules) == repr(
        language.load({"1.yaml": policy(many)}).rules
    )


def test_the_policies_that_ship_load_without_a_warning() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "policies").glob("*.yaml")}
    loaded = language.load(files)
    assert loaded.warnings == ()
    assert {rule.id.partition("/")[0] for rule in loaded.rules} == {
        "guardrails", "patient-own-record", "clinicians", "laboratory", "exchange",
    }  # fmt: skip
