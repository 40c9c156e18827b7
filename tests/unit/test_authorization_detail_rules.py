"""Authorization details: a narrowed token never says more than the grant, whatever the details are made of."""

from itertools import product
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from authz.login.language import ENGLISH
from authz.login.plain_words import in_words
from authz.protocol.authorization_details import DetailType, is_covered, open_datatypes

ACTIONS, DATATYPES, LOCATIONS = ("read", "search", "create"), ("Observation", "Condition"), ("a", "b")
TYPES = {
    "whole": DetailType("whole", frozenset(ACTIONS), frozenset(DATATYPES), "Everything"),
    "part": DetailType("part", frozenset({"read"}), frozenset({"Observation"}), "A part"),
}


def _some(values: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from((*values, "*", "")), max_size=3)


details = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from((*TYPES, "unknown"))},
        optional={"actions": _some(ACTIONS), "datatypes": _some(DATATYPES), "locations": _some(LOCATIONS)},
    ),
    max_size=4,
)


def opened(of: list[dict[str, Any]], kind: str) -> set[tuple[str, str, str]]:
    """Every place, action and datatype that details of one type open; 'elsewhere' is a place that nobody names."""
    same = [detail for detail in of if detail["type"] == kind]
    return {
        (location, action, datatype)
        for location, action in product((*LOCATIONS, "elsewhere"), ACTIONS)
        for datatype in open_datatypes(same, TYPES, location=location, action=action)
    }


@given(asked=details, granted=details)
def test_what_is_covered_opens_nothing_that_was_not_granted(
    asked: list[dict[str, Any]], granted: list[dict[str, Any]]
) -> None:
    if is_covered(asked, granted, TYPES):
        for kind in (*TYPES, "unknown"):
            assert opened(asked, kind) <= opened(granted, kind)


def test_no_place_that_can_be_named_is_every_place() -> None:
    for name in ("", "*", "None"):
        assert not is_covered([{"type": "whole"}], [{"type": "whole", "locations": [name]}], TYPES)


@given(details)
def test_known_details_cover_themselves(of: list[dict[str, Any]]) -> None:
    known = [detail for detail in of if detail["type"] in TYPES]
    assert is_covered(known, known, TYPES)
    assert is_covered(known, of, TYPES)


@given(details)
def test_no_detail_opens_more_than_its_type(of: list[dict[str, Any]]) -> None:
    assert opened(of, "unknown") == set()
    assert {(action, datatype) for _, action, datatype in opened(of, "part")} <= {("read", "Observation")}


@given(details)
def test_every_detail_has_its_line_on_the_consent_page(of: list[dict[str, Any]]) -> None:
    for detail in of:
        line = in_words(detail, TYPES, ENGLISH)
        assert line.count("\n") == 0
        assert ": " in line
