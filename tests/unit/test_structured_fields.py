"""Structured fields: the examples of RFC 8941, what is refused, and that what is written is read again."""

import string
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.protocol.structured_fields import (
    BareItem,
    InnerList,
    Item,
    StructuredFieldError,
    Token,
    read_dictionary,
    write_dictionary,
    write_inner_list,
    write_item,
)

KEYS = st.builds(
    str.__add__,
    st.sampled_from(string.ascii_lowercase + "*"),
    st.text(string.ascii_lowercase + string.digits + "_-.*", max_size=8),
)
TOKENS = st.builds(
    str.__add__,
    st.sampled_from(string.ascii_letters + "*"),
    st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~:/", max_size=8),
).map(Token)
BARE: st.SearchStrategy[BareItem] = st.one_of(
    st.booleans(),
    st.integers(-(10**15) + 1, 10**15 - 1),
    st.decimals(-(10**11), 10**11, places=3, allow_nan=False, allow_infinity=False),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12),
    TOKENS,
    st.binary(max_size=12),
)
PARAMETERS = st.dictionaries(KEYS, BARE, max_size=3)
ITEMS = st.builds(Item, BARE, PARAMETERS)
MEMBERS = st.one_of(ITEMS, st.builds(InnerList, st.lists(ITEMS, max_size=4).map(tuple), PARAMETERS))


def kinds(value: object) -> object:
    """The value with the types of its parts, so that 1 and True are two things."""
    if isinstance(value, Item):
        return (kinds(value.value), kinds(value.parameters))
    if isinstance(value, InnerList):
        return ([kinds(item) for item in value.items], kinds(value.parameters))
    if isinstance(value, dict):
        return [(key, kinds(member)) for key, member in value.items()]
    return (type(value), value)


@given(st.dictionaries(KEYS, MEMBERS, max_size=4))
def test_what_is_written_is_read_again_in_the_same_order(members: dict[str, Item | InnerList]) -> None:
    text = write_dictionary(members)
    assert text.isascii()
    assert text.isprintable()
    assert kinds(read_dictionary(text)) == kinds(members)
    assert write_dictionary(read_dictionary(text)) == text


@given(st.text(max_size=40))
def test_every_text_is_read_or_refused_and_what_is_read_is_written_in_one_form(text: str) -> None:
    try:
        members = read_dictionary(text)
    except StructuredFieldError:
        return
    assert kinds(read_dictionary(write_dictionary(members))) == kinds(members)


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("", {}),
        ('en="Applepie", da=:w4ZibGV0w6ZydGU=:', {"en": Item("Applepie"), "da": Item("Æbletærte".encode())}),
        ("a=?0, b, c; foo=bar", {"a": Item(False), "b": Item(True), "c": Item(True, {"foo": Token("bar")})}),
        (
            "rating=1.5, feelings=(joy sadness)",
            {
                "rating": Item(Decimal("1.5")),
                "feelings": InnerList((Item(Token("joy")), Item(Token("sadness")))),
            },
        ),
        (
            "a=(1 2), b=3, c=4;aa=bb, d=(5 6);valid",
            {
                "a": InnerList((Item(1), Item(2))),
                "b": Item(3),
                "c": Item(4, {"aa": Token("bb")}),
                "d": InnerList((Item(5), Item(6)), {"valid": True}),
            },
        ),
        ("a=1 ,\t b=2,a=3 ", {"b": Item(2), "a": Item(3)}),
        (r'a="say \"\\\""', {"a": Item('say "\\"')}),
        ("a=(  1   2  )", {"a": InnerList((Item(1), Item(2)))}),
        ("a=-0.50;  b=*/x", {"a": Item(Decimal("-0.50"), {"b": Token("*/x")})}),
        ("a;b=1;b=2", {"a": Item(True, {"b": 2})}),
    ],
)
def test_rfc8941_what_is_read(text: str, members: dict[str, Item | InnerList]) -> None:
    assert kinds(read_dictionary(text)) == kinds(members)


@pytest.mark.parametrize(
    "text",
    [
        "a=1,", "a=1 b=2", "A=1", "a =1", "a= 1", ",", "a=,", "a=(1,2)", "a=(1(2))", "a=(1", 'a=("x""y")', 'a="x', 'a="\t"',
        'a="é"', r'a="\x"', "a=1.", "a=1.2345", "a=.5", "a=1234567890123.1", "a=1234567890123456", "a=--1", "a=-", "a=?2",
        "a=?", "a=:QQ:", "a=:QR==:", "a=:Q Q=:", "a=:QQ==", "a=:Q-_=:", "a=@1659578233", 'a=%"x"', "a;B=1", "a;", "a\n=1",
        "a=1\n", "\ta=1", "a=1;b=(1)", "é=1", "a=1.2.3",
    ],
)  # fmt: skip
def test_rfc8941_what_is_refused(text: str) -> None:
    with pytest.raises(StructuredFieldError):
        read_dictionary(text)


@pytest.mark.parametrize(
    "members",
    [
        {"A": Item(1)},
        {"": Item(1)},
        {"a": Item(10**15)},
        {"a": Item("ü")},
        {"a": Item("line\nbreak")},
        {"a": Item(Token("two words"))},
        {"a": Item(Token(""))},
        {"a": Item(Decimal("1e12"))},
        {"a": Item(Decimal("999999999999.9999"))},
        {"a": Item(Decimal("NaN"))},
        {"a": Item(1, {"Key": 1})},
        {"a": InnerList((Item("\x7f"),))},
    ],
)
def test_what_is_no_structured_field_is_not_written(members: dict[str, Item | InnerList]) -> None:
    with pytest.raises(StructuredFieldError):
        write_dictionary(members)


def test_rfc8941_4_1_5_decimals_are_rounded_to_three_digits_half_to_even() -> None:
    written = [write_item(Item(Decimal(text))) for text in ("1", "1.50", "0.0005", "0.0015", "-2.1234")]
    assert written == ["1.0", "1.5", "0.0", "0.002", "-2.123"]


def test_a_field_has_bounds() -> None:
    members = ", ".join(f"a{n}=1" for n in range(256))
    assert len(read_dictionary(members)) == 256
    for text in (members + ", b=1", "a=(" + "1 " * 257 + ")", "a" + ";b" * 9000):
        with pytest.raises(StructuredFieldError):
            read_dictionary(text)
    assert write_inner_list(InnerList(())) == "()"
