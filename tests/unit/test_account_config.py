"""Who acts for whom, and what the pages under /account are about, as gateway.yaml says it."""

from pathlib import Path

import pytest

from authz.settings import Representation
from gateway.account_settings import AccountPages, RelatedPersons
from gateway.config.document import ConfigErrors
from tests.unit.test_config import Write, changed, load, write  # noqa: F401

USER = "{username: ann, subject: s1, name: Ann, password: {file: ann.argon2}}"
FHIR = '  fhir: {kind: fhir-r4, at: /fhir/r4, base: "http://127.0.0.1:8080/fhir"}'
KEPT = FHIR[:-1] + ", consents: {kept: here}}"
CHILD = "{patient: k, label: Kim, relationship: MTH, until: 2030-12-31}"


def with_child(child: str) -> str:
    """The configuration in which Ann represents this."""
    return changed((USER, USER[:-1] + f", represents: [{child}]}}"))


def read(path: Path) -> tuple[Representation, ...]:
    return load(path, {}).accounts[0].represents


def test_a_representation_is_read_with_its_end_after_the_last_day(write: Write) -> None:  # noqa: F811
    (found,) = read(write(with_child(CHILD)))
    assert (found.patient, found.label, found.relationship) == ("k", "Kim", "MTH")
    assert found.may == {"see", "consent", "revoke"}
    assert found.ends_at == 1_924_992_000  # 2031-01-01
    assert found.allows("see", 1_924_991_999)
    assert not found.allows("see", 1_924_992_000)


@pytest.mark.parametrize(
    ("more", "ends_at"),
    [
        ("born: 2015-03-04, until_age: 16", 1_930_348_800),  # 2031-03-04
        ("born: 2012-02-29, until_age: 17", 1_867_017_600),  # 2029-03-01
        ("born: 2015-03-04, until_age: 16, until: 2030-12-31", 1_924_992_000),
        ("born: 2015-03-04, until_age: 14, until: 2030-12-31", 1_867_276_800),
    ],
)
def test_it_ends_on_a_birthday_or_a_day_whichever_is_first(write: Write, more: str, ends_at: int) -> None:  # noqa: F811
    (found,) = read(write(with_child(CHILD.replace("until: 2030-12-31", more))))
    assert found.ends_at == ends_at


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (", until: 2030-12-31", "", "users[0].represents[0] has no end: give until, or born and until_age"),
        ("until: 2030-12-31", "until: soon", "until is 'soon', expected a day such as 2031-05-12"),
        ("until: 2030-12-31", "until_age: 16", "has born and until_age both, or neither"),
        ("until: 2030-12-31", "born: 2015-01-01", "has born and until_age both, or neither"),
        ("MTH", "MUM", "relationship is 'MUM', expected MTH or FTH"),
        ("label: Kim, ", "", "label is missing"),
        (
            "until:",
            "may: [se], until:",
            "may names 'se', expected consent or revoke or see. Did you mean 'see'?",
        ),
        ("patient: k", "patent: k", "has no key 'patent'. Did you mean 'patient'?"),
    ],
)
def test_what_is_wrong_with_one_is_told(write: Write, old: str, new: str, said: str) -> None:  # noqa: F811
    with pytest.raises(ConfigErrors) as found:
        load(write(with_child(CHILD.replace(old, new))), {})
    assert said in str(found.value)


def test_nobody_is_represented_twice_by_one_account(write: Write) -> None:  # noqa: F811
    with pytest.raises(ConfigErrors, match="'k' is represented twice"):
        load(write(with_child(f"{CHILD}, {CHILD}")), {})


# account_pages


def test_the_only_FHIR_base_is_what_the_pages_are_about(write: Write) -> None:  # noqa: F811
    assert load(write(changed()), {}).account_pages == AccountPages("https://fhir.example/fhir/r4")


def test_of_two_FHIR_bases_none_is_taken_unsaid(write: Write) -> None:  # noqa: F811
    second = '  other: {kind: fhir-r4, at: /other, base: "http://127.0.0.1:8081/fhir"}\npolicies: policies'
    text = changed(("policies: policies", second))
    assert load(write(text), {}).account_pages is None
    said = load(write(text + "account_pages: {base: other}\n"), {}).account_pages
    assert said == AccountPages("https://fhir.example/other")


def test_consents_are_on_where_they_are_said_with_who_holds_the_records(write: Write) -> None:  # noqa: F811
    more = "account_pages: {consents: {custodian: Organization/1, organizations: [{id: lab, name: Lab}]}}\n"
    found = load(write(changed((FHIR, KEPT)) + more), {}).account_pages
    assert found is not None
    assert (found.consents, found.custodian) == (True, "Organization/1")
    assert found.policy == "https://fhir.example/account/consents"
    assert [(each.id, each.name) for each in found.organizations] == [("lab", "Lab")]


def test_related_persons_are_read_with_their_end(write: Write) -> None:  # noqa: F811
    more = "account_pages: {related_persons: {system: 'urn:h1:persons', until_age: 16, may: [see]}}\n"
    text = changed((USER, USER[:-1] + ", related_person: ann-7}")) + more
    found = load(write(text), {})
    assert found.account_pages is not None
    assert found.account_pages.related_persons == RelatedPersons("urn:h1:persons", 16, frozenset({"see"}))
    assert found.accounts[0].related_person == "ann-7"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("{base: fihr}", "no upstream of kind fhir-r4 has the name 'fihr'. Did you mean 'fhir'?"),
        ("{consents: {}}", "account_pages.consents.custodian is missing"),
        ("{consents: {custodian: Organization/1}}", "consents of 'fhir' are not kept here"),
        ("{related_persons: {until_age: 16}}", "account_pages.related_persons.system is missing"),
        ("{related_persons: {system: x, until_age: 0}}", "expected a whole number from 1 to 120"),
        ("{bases: fhir}", "has no key 'bases'. Did you mean 'base'?"),
    ],
)
def test_what_is_wrong_with_the_section_is_told(write: Write, more: str, said: str) -> None:  # noqa: F811
    with pytest.raises(ConfigErrors) as found:
        load(write(changed() + f"account_pages: {more}\n"), {})
    assert said in str(found.value)
