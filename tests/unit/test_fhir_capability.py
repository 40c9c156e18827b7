"""gateway.fhir.capability: what the gateway says of itself."""

import json
from typing import Any

import pytest

from gateway.fhir.capability import capability_statement
from gateway.fhir.interaction import Interaction
from gateway.fhir.outcome import FhirError
from gateway.fhir.search import OPENABLE
from gateway.policy.openings import Openings
from tests.support.policies import load, policy

PUBLIC = "https://gw.example/fhir/r4"
URIS = {"authorize": "https://gw.example/authorize", "token": "https://gw.example/token"}
UPSTREAM: dict[str, Any] = {
    "resourceType": "CapabilityStatement",
    "url": "http://upstream:8080/fhir/metadata",
    "date": "2024-05-31",
    "publisher": "Upstream vendor",
    "software": {"name": "Upstream product", "version": "7.0"},
    "implementation": {"url": "http://upstream:8080/fhir"},
    "fhirVersion": "4.0.1",
    "format": ["xml", "json"],
    "rest": [
        {"mode": "client", "resource": [{"type": "Group", "interaction": [{"code": "read"}]}]},
        {
            "mode": "server",
            "security": {"service": [{"text": "upstream"}], "extension": [{"url": "http://upstream/x"}]},
            "interaction": [{"code": "transaction"}],
            "operation": [
                {"name": "export", "definition": "http://upstream:8080/fhir/OperationDefinition/x"}
            ],
            "resource": [
                {
                    "type": "Patient",
                    "profile": "http://hl7.org/fhir/StructureDefinition/Patient",
                    "interaction": [
                        {"code": c} for c in ("delete", "search-type", "read", "vread", "create")
                    ],
                    "versioning": "versioned",
                    "conditionalCreate": True,
                    "conditionalDelete": "multiple",
                    "searchInclude": ["*"],
                    "searchRevInclude": ["Group:member"],
                    "operation": [{"name": "everything", "definition": "http://upstream:8080/x"}],
                    "searchParam": [
                        {"name": "birthdate", "type": "string", "documentation": "upstream"},
                        {"name": "_security", "type": "token"},
                        {"name": "_has", "type": "string"},
                        {"name": "vendor-thing", "type": "string"},
                        {"name": 5},
                    ],
                },
                {"type": "Subscription", "interaction": [{"code": "create"}]},
                {"type": "Nothing", "interaction": [{"code": "read"}]},
                {"type": 5},
                "odd",
            ],
        },
    ],
}


class Everything:
    """Policies that open all of these interactions, and of operations what there is."""

    def __init__(self, open_: frozenset[Interaction] = frozenset(Interaction)) -> None:
        self._open = open_

    def interactions(self, type_: str) -> frozenset[Interaction]:
        return self._open

    def envelopes(self) -> frozenset[Interaction]:
        return self._open

    def conditional(self, type_: str) -> frozenset[Interaction]:
        return self._open

    def has_operation(self, type_: str, name: str) -> bool:
        return Interaction.OPERATION in self._open

    def searches_by(self, type_: str, code: str) -> bool:
        return True

    def includes(self, type_: str, source: str, code: str) -> bool:
        return True


def of_rules(*rules: str) -> dict[str, Any]:
    """The statement of the store under these rules: its types by name, and '' for the system."""
    opened = Openings(load(policy(*rules)))
    statement = capability_statement(UPSTREAM, public_base=PUBLIC, oauth_uris=URIS, opened=opened)
    (rest,) = statement["rest"]
    return {"": rest, **{each["type"]: each for each in rest.get("resource", [])}}


def codes(resource: dict[str, Any]) -> list[str]:
    return [each["code"] for each in resource.get("interaction", [])]


def test_the_statement_holds_what_passes_and_nothing_of_the_store() -> None:
    statement = capability_statement(UPSTREAM, public_base=PUBLIC, oauth_uris=URIS, opened=Everything())
    assert "upstream" not in json.dumps(statement).lower()
    assert statement["implementation"]["url"] == PUBLIC
    assert statement["date"] == "2024-05-31"
    (rest,) = statement["rest"]
    patient, subscription = rest["resource"]
    assert subscription["interaction"] == [{"code": "create"}]
    assert [each["code"] for each in patient["interaction"]] == [
        "read",
        "vread",
        "delete",
        "create",
        "search-type",
    ]
    assert "patchFormat" not in statement
    assert patient["searchParam"] == [{"name": "birthdate", "type": "date"}]
    assert (patient["conditionalCreate"], patient["conditionalUpdate"]) == (True, False)
    assert (patient["conditionalDelete"], subscription["conditionalCreate"]) == ("single", False)
    # '*' is nobody's to include, and the definitions are those of the specification, not of the store.
    assert "searchInclude" not in patient
    assert patient["searchRevInclude"] == ["Group:member"]
    core = "http://hl7.org/fhir/OperationDefinition"
    bulk = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition"
    assert patient["operation"] == [
        {"name": "consent-decision", "definition": "urn:securus:operation:consent-decision"},
        {"name": "everything", "definition": f"{core}/Patient-everything"},
        {"name": "export", "definition": f"{bulk}/patient-export"},
    ]
    assert rest["operation"] == [{"name": "export", "definition": f"{bulk}/export"}]
    assert codes(rest) == ["batch", "transaction"]


def test_SMART_finds_the_oauth_uris() -> None:
    statement = capability_statement(UPSTREAM, public_base=PUBLIC, oauth_uris=URIS, opened=Everything())
    (extension,) = statement["rest"][0]["security"]["extension"]
    assert extension["extension"] == [
        {"url": "authorize", "valueUri": URIS["authorize"]},
        {"url": "token", "valueUri": URIS["token"]},
    ]
    with pytest.raises(ValueError, match="userinfo"):
        capability_statement(
            UPSTREAM, public_base=PUBLIC, oauth_uris={**URIS, "userinfo": "https://x"}, opened=Everything()
        )


def test_a_store_that_updates_is_patched_here() -> None:
    updating = {"type": "Observation", "interaction": [{"code": "update"}]}
    store = UPSTREAM | {"rest": [{"mode": "server", "resource": [updating]}]}
    statement = capability_statement(store, public_base=PUBLIC, oauth_uris=URIS, opened=Everything())
    codes = [each["code"] for each in statement["rest"][0]["resource"][0]["interaction"]]
    assert codes == ["update", "patch"]
    assert statement["patchFormat"] == [
        "application/json-patch+json",
        "application/fhir+json",
        "application/fhir+xml",
    ]


def test_a_type_of_which_nothing_passes_is_not_listed() -> None:
    statement = capability_statement(
        UPSTREAM, public_base=PUBLIC, oauth_uris=URIS, opened=Everything(frozenset({Interaction.CREATE}))
    )
    assert [each["type"] for each in statement["rest"][0]["resource"]] == ["Patient", "Subscription"]
    assert "searchParam" not in statement["rest"][0]["resource"][0]


@pytest.mark.parametrize(
    "change", [{"resourceType": "Patient"}, {"fhirVersion": "5.0.0"}, {"fhirVersion": None}]
)
def test_what_is_not_an_R4_statement_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FhirError) as refusal:
        capability_statement(UPSTREAM | change, public_base=PUBLIC, oauth_uris=URIS, opened=Everything())
    assert refusal.value.status == 502


def test_a_store_that_says_little_still_gives_a_statement() -> None:
    bare = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": "none", "date": 5}
    statement = capability_statement(bare, public_base=PUBLIC, oauth_uris=URIS, opened=Everything())
    assert "resource" not in statement["rest"][0]  # FHIR has no empty arrays
    assert statement["date"] == "2019-10-30"


READS = "rule: reads, effect: permit, may: [read, search], resources: [Patient], shared: true"


def test_what_no_rule_opens_is_not_listed() -> None:
    listed = of_rules(READS)
    assert list(listed) == ["", "Patient"]
    patient = listed["Patient"]
    assert codes(patient) == ["read", "search-type"]
    assert not listed[""].keys() & {"interaction", "operation"}
    assert not patient.keys() & {"operation", "searchInclude", "searchRevInclude"}
    assert (patient["conditionalCreate"], patient["conditionalRead"]) == (False, "full-support")


def test_includes_are_those_that_a_query_allows_and_a_read_shows() -> None:
    included = READS + ", query: {include: any-permitted}"
    assert "searchRevInclude" not in of_rules(included)["Patient"]  # nobody reads a Group
    groups = "rule: groups, effect: permit, may: [read], resources: [Group], shared: true"
    assert of_rules(included, groups)["Patient"]["searchRevInclude"] == ["Group:member"]
    named = READS + ", query: {include: [Observation:subject]}"
    assert "searchRevInclude" not in of_rules(named, groups)["Patient"]


@pytest.mark.parametrize("more", ["query: {closed: [birthdate]}", "return: {hide: [Patient.birthDate]}"])
def test_parameters_that_every_rule_closes_or_hides_are_not_listed(more: str) -> None:
    assert of_rules(READS)["Patient"]["searchParam"] == [{"name": "birthdate", "type": "date"}]
    assert "searchParam" not in of_rules(f"{READS}, {more}")["Patient"]
    other = READS.replace("rule: reads", "rule: other")
    assert "searchParam" in of_rules(f"{READS}, {more}", other)["Patient"]


def test_conditional_writes_are_those_of_rules_that_name_criteria() -> None:
    creates = "rule: c, effect: permit, may: [create], resources: [Patient], shared: true"
    assert of_rules(creates)["Patient"]["conditionalCreate"] is False
    by = creates + ", conditional: {keys: [identifier]}"
    assert of_rules(by)["Patient"]["conditionalCreate"] is True
    assert of_rules(by)["Patient"]["conditionalDelete"] == "not-supported"


def test_operations_are_those_that_rules_name() -> None:
    everything = (
        "rule: e, effect: permit, may: ['operation:Patient/$everything'], resources: [Patient], shared: true"
    )
    patient = of_rules(everything)["Patient"]
    assert [each["name"] for each in patient["operation"]] == ["everything"]
    assert "interaction" not in patient


def test_batches_and_transactions_are_listed_where_a_rule_lets_them_in() -> None:
    assert codes(of_rules(READS, "rule: b, effect: permit, may: [batch], resources: any")[""]) == ["batch"]
    both = "rule: b, effect: permit, may: [batch, transaction], resources: any"
    assert codes(of_rules(READS, both)[""]) == ["batch", "transaction"]


def test_what_a_deny_covers_whole_is_not_listed() -> None:
    assert "Patient" not in of_rules(READS, "rule: no, effect: deny, may: [any], resources: any")
    some = of_rules(READS, "rule: no, effect: deny, may: [any], resources: any, where: {ids: [x]}")
    assert codes(some["Patient"]) == ["read", "search-type"]


def test_what_rules_the_store_is_listed_where_it_is_named() -> None:
    everything = "rule: all, effect: permit, may: [any], resources: any, shared: true"
    listed = of_rules(everything)
    assert "Subscription" not in listed  # the store offers creates alone, which stay closed
    assert "create" not in codes(listed["Patient"])
    named = "rule: named, effect: permit, may: [create], resources: [Patient], shared: true"
    assert "create" in codes(of_rules(everything, named)["Patient"])


def test_what_is_opened_by_name_is_listed_where_a_permit_opens_it_and_the_store_carries_it_out() -> None:
    def listed(carried_out: frozenset[str], *more: str) -> list[str]:
        rule = "rule: r, effect: permit, may: [search], resources: [Patient], shared: true, query: {open: [_filter, _text]}"
        statement = capability_statement(
            UPSTREAM,
            public_base=PUBLIC,
            oauth_uris=URIS,
            opened=Openings(load(policy(f"{rule}{''.join(more)}"))),
            carried_out=carried_out,
        )
        (patient,) = statement["rest"][0]["resource"]
        return [each["name"] for each in patient["searchParam"]]

    assert listed(frozenset()) == ["birthdate"]
    assert listed(OPENABLE) == ["birthdate", "_filter", "_text"]
    assert listed(frozenset({"_list", "_text"})) == ["birthdate", "_text"]
    assert listed(OPENABLE, ", return: {hide: [Patient.name]}") == ["birthdate", "_filter"]
