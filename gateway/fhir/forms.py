r"""The form of an entry of a Bundle, or of a line of NDJSON: all but its texts and numbers, as a regular expression.

A store writes its resources alike: the same members in the same order. One that was read strictly gives its form, and
what has that form is read by it, without values being built for members that nobody looks at.

Why that proves as much as reading strictly: the expression spells out every brace, bracket, comma, colon and name of
what was read. It leaves open what stands between the quotes of a text, which number stands for a number,
true or false, and how many items an array of like items has. So what matches is JSON with the same names in the same
places: none of them twice in one object, and nothing nested deeper. What a quote means must be beyond doubt: is_clear()
says so of the text in which entries are looked for. Numbers of unusual length or with an exponent, and -0, have no form,
nor has a resource that contains others.

The expressions have one way to match any text, and their repetitions no overlap, so that they take linear time.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.fhir.definitions import is_resource_type
from gateway.fhir.ids import is_id
from gateway.fhir.plain_json import plain_object
from gateway.fhir.resource import Number

_NAME = re.compile(r"_?[A-Za-z0-9]+")
_TEXT = '"[^"]*+"'
_TEXT_WITH_ESCAPES = r'"[^"]*+(?:(?<=\\)"[^"]*+)*(?<!\\)"'
_NUMBER = r"(?:0|-?[1-9][0-9]{0,17})(?:\.[0-9]{1,40})?"
_CONTROLS = tuple(map(chr, (13, 9, *(code for code in range(32) if code not in (9, 10, 13)))))
_UNCLEAR = re.compile(r'\\(?!["/bfnrt])')
_MANY = 8
_LONGEST = 8000  # characters of an expression: to compile one costs a microsecond each

Match = Callable[[str, int], re.Match[str] | None]


def is_clear(text: str) -> bool:
    r"""Whether it is plain where texts within this JSON end: no control character but \n, no escape but the short ones.

    A quote behind a backslash stands within a text then, any other begins or ends one: '\\' does not occur.
    """
    if any(mark in text for mark in _CONTROLS):
        return False
    return "\\" not in text or _UNCLEAR.search(text) is None


@dataclass(frozen=True, slots=True)
class Wording:
    """A form in words: the expression, and what is looked at as JSON, with the places for what is found of it."""

    source: str
    template: str


@dataclass(frozen=True, slots=True)
class Form:
    """The form of entries or lines. Its matches go up to where another one follows; none goes over the end of a line.

    match           in clear text without a backslash
    match_escapes   in any clear text
    """

    wording: Wording
    match: Match
    match_escapes: Match

    def looked_at(self, found: tuple[str, ...]) -> dict[str, Any] | None:
        """What is looked at; found are the groups of a match but the first.

        None where a value there is not written in its plain form.
        """
        return plain_object((self.wording.template % found).encode())


def form_of(wording: Wording) -> Form:
    """The form in these words."""
    with_escapes = wording.source.replace(_TEXT, _TEXT_WITH_ESCAPES)
    return Form(wording, re.compile(wording.source).match, re.compile(with_escapes).match)


def wording_of_entry(entry: Mapping[str, Any], base: str, names: frozenset[str]) -> Wording | None:
    """The form of an entry of a search: fullUrl, which names its resource in its place below base, resource, search.

    names are the members of the resource that are looked at, beside its search. None for an entry that has no form.
    """
    resource, search, url = entry.get("resource"), entry.get("search"), entry.get("fullUrl")
    if (
        len(entry) != 3
        or next(iter(entry)) != "fullUrl"
        or type(resource) is not dict
        or type(search) is not dict
    ):
        return None
    type_, id_ = resource.get("resourceType"), resource.get("id")
    if (
        not isinstance(type_, str)
        or not is_resource_type(type_)
        or not isinstance(id_, str)
        or not is_id(id_)
    ):
        return None
    if url != f"{base}/{type_}/{id_}":
        return None
    try:
        expression, template = _resource(resource, type_, names, r'"\1"')
        members = {
            "fullUrl": f'"{re.escape(f"{base}/{type_}")}/([^"]*+)"',
            "resource": expression,
            "search": f"({_expression(search)})",
        }
    except _Formless:
        return None
    source = r"\{" + ",".join(f'"{name}":{members[name]}' for name in entry) + r"\}(?=,\{)"
    looked_at = {"resource": template, "search": "%s"}
    said = "{" + ",".join(f'"{name}":{looked_at[name]}' for name in entry if name in looked_at) + "}"
    return Wording(source, said) if len(source) <= _LONGEST else None


def wording_of_line(resource: Mapping[str, Any], names: frozenset[str]) -> Wording | None:
    """The form of a resource that is a line, of which its type is the first member."""
    type_ = resource.get("resourceType")
    if (
        next(iter(resource), None) != "resourceType"
        or not isinstance(type_, str)
        or not is_resource_type(type_)
    ):
        return None
    try:
        expression, template = _resource(resource, type_, names, _TEXT)
    except _Formless:
        return None
    source = "()" + expression + r"(?=\n)"
    return Wording(source, f'{{"resource":{template}}}') if len(source) <= _LONGEST else None


class _Formless(Exception):
    """A value of which no form is made."""


def _resource(resource: Mapping[str, Any], type_: str, names: frozenset[str], id_: str) -> tuple[str, str]:
    """The expression of a resource, with a group for each member that is looked at, and the template of these."""
    if "contained" in resource:  # what is contained is looked at by its own type
        raise _Formless
    parts, template = [], []
    for name, value in resource.items():
        part = {"resourceType": f'"{type_}"', "id": id_}.get(name) or _expression(value)
        is_found = name in names and name != "resourceType"
        parts.append(f'"{_name(name)}":' + (f"({part})" if is_found else part))
        if name in names:
            template.append(f'"{name}":' + ("%s" if is_found else part))
    return r"\{" + ",".join(parts) + r"\}", "{" + ",".join(template) + "}"


def _name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise _Formless
    return name


def _expression(value: Any) -> str:
    match value:
        case dict():
            return (
                r"\{"
                + ",".join(f'"{_name(name)}":{_expression(each)}' for name, each in value.items())
                + r"\}"
            )
        case list():
            return _array(value)
        case str():
            return _TEXT
        case bool():
            return "(?:true|false)"
        case None:
            return "null"
        case int() | float() | Number():
            return _NUMBER
        case _:
            raise _Formless


def _array(values: list[Any]) -> str:
    """Any number of items, at least one, where all are objects of one form, or all texts; else just these."""
    if (
        len(values) > _MANY
    ):  # whether those between are alike, the form shows when it matches what it is made of
        items = [_expression(each) for each in (values[0], values[1], values[-1])]
        if len(set(items)) > 1 or not isinstance(values[0], dict | str):
            raise _Formless
    else:
        items = [_expression(each) for each in values]
    if len(set(items)) == 1 and isinstance(values[0], dict | str):
        begin = r"\{" if isinstance(values[0], dict) else '"'
        # Behind a comma an item begins, and behind an item is a comma or the end: there is one way to match.
        return rf"\[(?:{items[0]}(?:,(?={begin})|(?=\])))+\]"
    return r"\[" + ",".join(items) + r"\]"
