r"""The form of an entry of a Bundle, or of a line of NDJSON: all but its texts and numbers, as a regular expression.

A store writes its resources alike: the same members in the same order. One that was read strictly gives its form, and
what has that form is read by it, without values being built for members that nobody looks at.

Why that proves as much as reading strictly: the expression spells out every brace, bracket, comma, colon and name of
what was read. It leaves open what stands between the quotes of a text, which number stands for a number,
true or false, how many items an array of like items has, and which of the members that were seen, in their order, a
resource has. So what matches is JSON with the same names in the same
places: none of them twice in one object, and nothing nested deeper. What a quote means must be beyond doubt: is_clear()
says so of the text in which entries are looked for. Numbers of unusual length or with an exponent, and -0, have no form,
nor has a resource that contains others.

The expressions have one way to match any text, and their repetitions no overlap, so that they take linear time.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
_MOST_VALUES = 4
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
class Member:
    """A member of a resource: the expressions of its values that were seen, whether all had it, whether it is looked at."""

    name: str
    values: tuple[str, ...]
    is_always_there: bool
    is_looked_at: bool

    @property
    def source(self) -> str:
        """Its expression, with the comma before it."""
        value = self.values[0] if len(self.values) == 1 else f"(?:{'|'.join(self.values)})"
        said = f',"{self.name}":' + (f"({value})" if self.is_looked_at else value)
        return said if self.is_always_there else f"(?:{said})?"


@dataclass(frozen=True, slots=True)
class Wording:
    """A form in words: what stands before and behind a resource of this type, and its other members in their order."""

    type: str
    before: str
    behind: str
    members: tuple[Member, ...]

    @property
    def source(self) -> str:
        """The expression."""
        members = "".join(member.source for member in self.members)
        return rf'{self.before or "()"}\{{"resourceType":"{self.type}"{members}\}}{self.behind}'


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """The form of entries or lines. Its matches go up to where another one follows; none goes over the end of a line.

    match           in clear text without a backslash
    match_escapes   in any clear text
    found           names of the members that the groups of a match but the first are of; 'search' is of the entry
    """

    wording: Wording
    match: Match
    match_escapes: Match
    found: tuple[str, ...]

    def looked_at(self, values: tuple[str | None, ...]) -> dict[str, Any] | None:
        """What is looked at; values are the groups of a match but the first.

        None where a value there is not written in its plain form.
        """
        members = [
            f'"{name}":{each}' for name, each in zip(self.found, values, strict=True) if each is not None
        ]
        search = f",{members.pop()}" if self.wording.before else ""
        resource = ",".join([f'"resourceType":"{self.wording.type}"', *members])
        return plain_object(f'{{"resource":{{{resource}}}{search}}}'.encode())


def form_of(wording: Wording) -> Form:
    """The form in these words."""
    source = wording.source
    with_escapes = source.replace(_TEXT, _TEXT_WITH_ESCAPES)
    found = [member.name for member in wording.members if member.is_looked_at]
    if wording.before:
        found.append("search")
    return Form(wording, re.compile(source).match, re.compile(with_escapes).match, tuple(found))


def merged(one: Wording, other: Wording) -> Wording | None:
    """The form of both: with any of their members. None where they stand in another order, or it would be too long."""
    if (one.type, one.before, one.behind) != (other.type, other.before, other.behind):
        return None
    names = [member.name for member in one.members]
    members = {member.name: replace(member, is_always_there=False) for member in one.members}
    had = {member.name: member.is_always_there for member in one.members}
    place = -1
    for member in other.members:
        if member.name not in members:
            place += 1
            names.insert(place, member.name)
            members[member.name] = replace(member, is_always_there=False)
            continue
        if names.index(member.name) <= place:
            return None
        place = names.index(member.name)
        known = members[member.name]
        values = tuple(dict.fromkeys((*known.values, *member.values)))
        if len(values) > _MOST_VALUES:
            return None
        members[member.name] = Member(
            member.name,
            values,
            had[member.name] and member.is_always_there,
            known.is_looked_at or member.is_looked_at,
        )
    found = replace(one, members=tuple(members[name] for name in names))
    return found if len(found.source) <= _LONGEST else None


def wording_of_entry(entry: Mapping[str, Any], base: str, names: frozenset[str]) -> Wording | None:
    """The form of an entry of a search: fullUrl, which names its resource in its place below base, resource, search.

    names are the members of the resource that are looked at, beside its search. None for an entry that has no form.
    """
    resource, search, url = entry.get("resource"), entry.get("search"), entry.get("fullUrl")
    if (
        list(entry) != ["fullUrl", "resource", "search"]
        or type(resource) is not dict
        or type(search) is not dict
    ):
        return None
    id_ = resource.get("id")
    if not isinstance(id_, str) or not is_id(id_) or url != f"{base}/{resource.get('resourceType')}/{id_}":
        return None
    try:
        said = _expression(search)
    except _Formless:
        return None
    place = re.escape(f"{base}/{resource['resourceType']}")
    before = rf'\{{"fullUrl":"{place}/([^"]*+)","resource":'
    return _wording(resource, before, rf',"search":({said})\}}(?=,\{{)', names)


def wording_of_line(resource: Mapping[str, Any], names: frozenset[str]) -> Wording | None:
    """The form of a resource that is a line."""
    return _wording(resource, "", r"(?=\n)", names)


class _Formless(Exception):
    """A value of which no form is made."""


def _wording(resource: Mapping[str, Any], before: str, behind: str, names: frozenset[str]) -> Wording | None:
    """The form of a resource, of which its type is the first member; none where another one is contained."""
    type_ = resource.get("resourceType")
    if (
        next(iter(resource), None) != "resourceType"
        or not isinstance(type_, str)
        or not is_resource_type(type_)
    ):
        return None
    if "contained" in resource:  # what is contained is looked at by its own type
        return None
    try:
        members = tuple(
            _member(name, value, names, is_named=bool(before))
            for name, value in resource.items()
            if name != "resourceType"
        )
    except _Formless:
        return None
    found = Wording(type_, before, behind, members)
    return found if len(found.source) <= _LONGEST else None


def _member(name: str, value: Any, names: frozenset[str], *, is_named: bool) -> Member:
    """A member; names may also say of one what is looked at in it: 'meta.security'."""
    # The id of an entry is the one that its fullUrl has.
    expression = r'"\1"' if name == "id" and is_named else _expression(value)
    within = value if isinstance(value, dict) else ()
    is_looked_at = name in names or any(f"{name}.{inner}" in names for inner in within)
    return Member(_name(name), (expression,), True, is_looked_at)


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
    # Whether those between are alike, the form shows when it matches what it is made of.
    if len(values) > _MANY:
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
