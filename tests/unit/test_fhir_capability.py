"""gateway.fhir.capability: what the gateway says of itself."""

import json
from typing import Any

import pytest

from gateway.fhir.capability import capability_statement
from gateway.fhir.interaction import Interaction
from gateway.fhir.outcome import FhirError

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


def test_the_statement_holds_what_passes_and_nothing_of_the_store() -> None:
    statement = capability_statement(UPSTREAM, public_base=PUBLIC, oauth_uris=URIS)
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
    assert not patient.keys() & {"searchInclude", "searchRevInclude", "operation"}


def test_SMART_finds_the_oauth_uris() -> None:
    statement = capability_statement(UPSTREAM, public_base=PUBLIC, oauth_uris=URIS)
    (extension,) = statement["rest"][0]["security"]["extension"]
    assert extension["extension"] == [
        {"url": "authorize", "valueUri": URIS["authorize"]},
        {"url": "token", "valueUri": URIS["token"]},
    ]
    with pytest.raises(ValueError, match="userinfo"):
        capability_statement(UPSTREAM, public_base=PUBLIC, oauth_uris={**URIS, "userinfo": "https://x"})


def test_a_store_that_updates_is_patched_here() -> None:
    updating = {"type": "Observation", "interaction": [{"code": "update"}]}
    store = UPSTREAM | {"rest": [{"mode": "server", "resource": [updating]}]}
    statement = capability_statement(store, public_base=PUBLIC, oauth_uris=URIS)
    codes = [each["code"] for each in statement["rest"][0]["resource"][0]["interaction"]]
    assert codes == ["update", "patch"]
    assert statement["patchFormat"] == [
        "application/json-patch+json",
        "application/fhir+json",
        "application/fhir+xml",
    ]


def test_a_type_of_which_nothing_passes_is_not_listed() -> None:
    statement = capability_statement(
        UPSTREAM, public_base=PUBLIC, oauth_uris=URIS, interactions=frozenset({Interaction.CREATE})
    )
    assert [each["type"] for each in statement["rest"][0]["resource"]] == ["Patient", "Subscription"]
    assert "searchParam" not in statement["rest"][0]["resource"][0]


@pytest.mark.parametrize(
    "change", [{"resourceType": "Patient"}, {"fhirVersion": "5.0.0"}, {"fhirVersion": None}]
)
def test_what_is_not_an_R4_statement_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FhirError) as refusal:
        capability_statement(UPSTREAM | change, public_base=PUBLIC, oauth_uris=URIS)
    assert refusal.value.status == 502


def test_a_store_that_says_little_still_gives_a_statement() -> None:
    bare = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": "none", "date": 5}
    statement = capability_statement(bare, public_base=PUBLIC, oauth_uris=URIS)
    assert "resource" not in statement["rest"][0]  # FHIR has no empty arrays
    assert statement["date"] == "2019-10-30"
