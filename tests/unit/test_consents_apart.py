"""What the passage knows of consents that are kept here: no search and no permit mixes them with the store's."""

from dataclasses import replace

import pytest

from gateway.consents.consent import ConsentSource
from gateway.fhir import request
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Included, Permit, Verdict
from gateway.proxy import kept_consents
from gateway.settings import ConsentSettings, Upstream

KEPT = Upstream(
    "fhir", "fhir-r4", "/fhir", "http://store/fhir", "https://h/fhir", frozenset({"https://h/fhir"}),
    consents=ConsentSettings(ConsentSource(), kept_here=True),
)  # fmt: skip
ELSEWHERE = replace(KEPT, consents=ConsentSettings(ConsentSource()))


def show(resource: object) -> Verdict:
    return Verdict(True, ())


def permit(query: str) -> Permit:
    asked = request.parse("GET", "/Patient", query)
    judges = {"Consent": show, "Observation": show}
    return Permit(
        asked, show, (), False, (), True, judges=judges, included=Included((), judges), obligations=_NONE
    )


_NONE = Permit.__dataclass_fields__["obligations"].default


def test_of_what_comes_along_no_consent_of_the_store_is_shown() -> None:
    asked = request.parse("GET", "/Patient", "")
    left = kept_consents.without_the_stores(KEPT, asked, permit(""))
    assert left.judges.keys() == {"Observation"}
    assert left.included is not None
    assert left.included.judges.keys() == {"Observation"}
    assert kept_consents.without_the_stores(ELSEWHERE, asked, permit("")).judges.keys() == {
        "Consent",
        "Observation",
    }


@pytest.mark.parametrize(
    "query",
    ["_has:Consent:patient:status=active", "_revinclude=Consent:patient", "_revinclude=Consent:actor"],
)
def test_what_policies_add_to_a_search_names_no_consent_either(query: str) -> None:
    asked = request.parse("GET", "/Patient", "")
    with pytest.raises(FhirError) as refused:
        kept_consents.without_the_stores(KEPT, asked, permit(query))
    assert refused.value.reason is Reason.CONSENT_KEPT_HERE
    assert kept_consents.without_the_stores(ELSEWHERE, asked, permit(query)) == permit(query)


def test_consents_kept_elsewhere_are_as_any_type() -> None:
    for method, path in (("DELETE", "/Consent/a"), ("GET", "/Consent/_history")):
        asked = request.parse(method, path, "")
        kept_consents.check(ELSEWHERE, asked)
        kept_consents.check_transaction(ELSEWHERE, asked)
        with pytest.raises(FhirError):
            kept_consents.check(KEPT, asked)
    assert kept_consents.profile_of(KEPT, "Patient") is KEPT.profile
    assert kept_consents.profile_of(KEPT, "Consent") is not KEPT.profile
