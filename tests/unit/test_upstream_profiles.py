"""Profiles of stores: what the files say, mistakes with their place, and which page links are pages."""

from pathlib import Path

import pytest

from gateway.config.profiles import PROFILES, profile_of, shipped
from gateway.fhir import request
from gateway.proxy.answers.page_links import is_page
from gateway.settings import SelfLink, UpstreamProfile
from gateway.yaml_source import Problem

FOLDER = Path(__file__).parents[2] / "gateway" / "profiles"
SENT = request.parse("GET", "/Observation", "subject=Patient/A&code=8302-2&date=ge2020")
HISTORY = request.parse("GET", "/Observation/a1/_history", "")


def test_every_file_of_the_package_is_a_profile_and_every_profile_has_its_file() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(PROFILES)
    assert [shipped(name).name for name in PROFILES] == list(PROFILES)


def test_the_default_is_what_generic_says() -> None:
    assert shipped("generic") == UpstreamProfile()


@pytest.mark.parametrize("name", PROFILES)
def test_no_profile_pages_by_a_name_that_it_never_lets_through(name: str) -> None:
    profile = shipped(name)
    assert profile.page_parameters.isdisjoint(profile.never_parameters)
    assert profile.self_link is SelfLink.CHECKED
    assert profile.strict_handling


def mistakes(text: str) -> list[str]:
    problems: list[Problem] = []
    profile_of(text, "own.yaml", "own", problems)
    return [str(problem) for problem in sorted(problems)]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("strict_handling: sent", "strict_handling: snet",
         "7:18: error: strict_handling is 'snet', expected sent or not-sent. Did you mean 'sent'?"),
        ("self_link: checked", "self_lnk: checked",
         "8:1: error: the configuration has no key 'self_lnk'. Did you mean 'self_link'?"),
        ("self_link: checked\n", "", "2:1: error: self_link is missing: a profile says all of"),
        ("page_links: [base]", "page_links: [anywhere]",
         "3:13: error: page_links names 'anywhere', expected asked, base or a segment such as __page"),
        ("page_links: [base]", "page_links: base", "page_links is 'base', expected a list"),
        ("[cookie]", "[Cookie]", "never_headers names 'Cookie', expected names of headers in lower case"),
        ("[_query]", "['a=b']", "never_parameters names 'a=b', expected names of parameters"),
        ("[_list]", "[_list, _text, _lists]",
         "5:20: error: opened_parameters names '_lists', expected some of _content, _filter, _list, _text"),
        ("[_query]", "[_query, _list]", "5:20: error: '_list' is in never_parameters as well: say one of the two"),
        ("if_match: supported", "if_match: true", "if_match is 'true', expected supported or unsupported"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(old: str, new: str, said: str) -> None:
    text = """# own
page_parameters: [_page]
page_links: [base]
never_parameters: [_query]
opened_parameters: [_list]
never_headers: [cookie]
strict_handling: sent
self_link: checked
self_link_of_forms: silent
if_match: supported
document_location: supported
transactions: supported
search_index: immediate
"""
    assert mistakes(text) == []
    found = mistakes(text.replace(old, new))
    place, _, message = said.partition(": error: ")
    assert any(message in each and (not message or place in each or ":" not in place) for each in found), (
        found
    )


def test_a_profile_is_a_mapping_and_is_YAML() -> None:
    assert mistakes("[]") == ["own.yaml:1:1: error: a profile is a list, expected a mapping"]
    assert len(mistakes("a: [")) == 1


@pytest.mark.parametrize(
    ("profile", "target"),
    [
        ("generic", "Observation?_page=x"),
        ("generic", "?_getpages=x&_getpagesoffset=20&_count=20&_format=json&_pretty=true&_bundletype=searchset"),
        ("hapi", "?_getpages=x&_getpagesoffset=20&_count=20&_bundletype=searchset"),
        ("azure", "Observation?ct=x&subject=Patient/A&code=8302-2&date=ge2020"),
        ("google", "Observation/?_page_token=x&subject=Patient%2FA"),
        ("blaze", "__page/x"),
        ("blaze", "Observation/__page/x"),
        ("blaze", "Observation?__t=1&__page-id=x&code=8302-2"),
        ("medplum", "Observation?_count=20&_offset=20&subject=Patient/A&code=8302-2&date=ge2020"),
        ("medplum", "Observation?_cursor=x&code:not=8302-2"),
    ],
)  # fmt: skip
def test_a_page_of_the_search_is_one(profile: str, target: str) -> None:
    assert is_page(target, SENT, shipped(profile))


@pytest.mark.parametrize(
    ("profile", "target"),
    [
        ("generic", "Patient?_page=x"),
        ("generic", "Observation/b1"),
        ("generic", "Observation?_page=x&performer=Patient/B"),
        ("generic", "Observation?_page=x&_query=everything"),
        ("generic", "Observation/$export?_page=x"),
        ("generic", "Observation/../Patient?_page=x"),
        ("generic", "$export"),
        ("generic", "__page/x"),
        ("hapi", "Observation?_getpages=x"),
        ("hapi", "?_getpages=x&_mdm=true"),
        ("azure", "?ct=x"),
        ("google", "Observation?_page_token=x&access_token=y"),
        ("aidbox", "Observation?page=2&__debug=policy"),
        ("blaze", "Patient/__page/x"),
        ("blaze", "__page/../admin"),
        ("blaze", "__admin/x"),
        ("blaze", "Observation/b1/__page"),
        ("medplum", "Observation?_offset=20&_fields=id"),
        ("medplum", "Observation?=x"),
    ],
)  # fmt: skip
def test_what_is_no_page_of_the_search_is_none(profile: str, target: str) -> None:
    assert not is_page(target, SENT, shipped(profile))


def test_a_page_of_a_history_and_of_a_form_stands_at_its_own_path() -> None:
    form = request.with_form(
        request.parse("POST", "/Observation/_search", ""), "application/x-www-form-urlencoded", b"code=x"
    )
    assert is_page("Observation/a1/_history?_page=2", HISTORY, shipped("generic"))
    assert not is_page("Observation/b1/_history?_page=2", HISTORY, shipped("generic"))
    assert is_page("Observation?_page=2&code=x", form, shipped("generic"))
    assert is_page("Observation/_search?_page=2", form, shipped("generic"))
