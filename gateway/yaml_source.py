"""YAML with places: a strict reading of the YAML 1.2 core schema in which every value knows its line and column.

Both configuration languages (gateway.yaml and policies) are read through this file. Refused, because each has
surprised somebody: duplicate keys, anchors and aliases, tags, several documents, keys that are not text, tabs.
Plain scalars are text, whole numbers, decimals, true, false or null and nothing else: `no`, `on`, `010` and
`12:30` stay text, as YAML 1.2 says and YAML 1.1 did not.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import yaml

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)\.[0-9]+([eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
_MAX_DEPTH = 64

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a file. str() is 'file:line:column: error: message'; a warning says so instead."""

    file: str
    line: int
    column: int
    message: str
    warning: bool = False

    def __str__(self) -> str:
        kind = "warning" if self.warning else "error"
        return f"{self.file}:{self.line}:{self.column}: {kind}: {self.message}"


class YamlError(Exception):
    """The text has no single reading. problems says where and why."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands; line and column count from one."""

    file: str
    line: int
    column: int

    def problem(self, message: str, *, warning: bool = False) -> Problem:
        """A problem at this place."""
        return Problem(self.file, self.line, self.column, message, warning)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value. text is as written; quoted is True for quoted and block scalars, which are always text."""

    place: Place
    value: Value
    text: str
    quoted: bool

    @property
    def kind(self) -> str:
        """What this is, in words for an error text."""
        if self.value is None:
            return "nothing"
        if isinstance(self.value, bool):
            return f"'{self.text}'"
        return "text" if isinstance(self.value, str) else "a number"

    def plain(self) -> Value:
        """The value."""
        return self.value


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list of nodes."""

    place: Place
    items: tuple["Node", ...]

    @property
    def kind(self) -> str:
        """What this is, in words for an error text."""
        return "a list"

    def __iter__(self) -> Iterator["Node"]:
        return iter(self.items)

    def plain(self) -> list[object]:
        """The list without places."""
        return [item.plain() for item in self.items]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping with its value."""

    key: str
    place: Place
    value: "Node"


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values, in the order written, each key once."""

    place: Place
    entries: tuple[Entry, ...]

    @property
    def kind(self) -> str:
        """What this is, in words for an error text."""
        return "a mapping"

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __contains__(self, key: str) -> bool:
        return any(entry.key == key for entry in self.entries)

    def entry(self, key: str) -> Entry | None:
        """The entry of that key, None without one."""
        return next((entry for entry in self.entries if entry.key == key), None)

    def node(self, key: str) -> "Node | None":
        """The value of that key, None without one."""
        entry = self.entry(key)
        return None if entry is None else entry.value

    def plain(self) -> dict[str, object]:
        """The mapping without places."""
        return {entry.key: entry.value.plain() for entry in self.entries}


Node = Mapping | Sequence | Scalar


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """' Did you mean 'x'?' with the closest of choices, '' when none is close."""
    known = list(choices)
    folded = {choice.casefold(): choice for choice in known}
    if name.casefold() in folded:
        return f" Did you mean '{folded[name.casefold()]}'?"
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def parse(text: str, file: str) -> Node:
    """Read one YAML document. Raises YamlError with every duplicate key, or with the first mistake of syntax."""
    reader = _Reader(file)
    try:
        events = list(yaml.parse(text, Loader=yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1)
        raise YamlError([place.problem(error.problem or "this is not YAML")]) from error
    except yaml.YAMLError as error:  # characters that YAML does not allow
        raise YamlError(
            [Place(file, 1, 1).problem(f"this is not YAML: {str(error).splitlines()[0]}")]
        ) from error
    node = reader.document(iter(events))
    if reader.problems:
        raise YamlError(reader.problems)
    return node


class _Reader:
    """Builds nodes from the parser's events and collects what is refused."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def place(self, event: yaml.Event) -> Place:
        mark = event.start_mark
        return Place(self.file, mark.line + 1, mark.column + 1) if mark else Place(self.file, 1, 1)

    def document(self, events: Iterator[yaml.Event]) -> Node:
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.StreamStartEvent | yaml.StreamEndEvent):
                continue
            if isinstance(event, yaml.DocumentStartEvent | yaml.DocumentEndEvent):
                continue
            if root is not None:
                raise YamlError(
                    [self.place(event).problem("the file holds a second document; one is expected")]
                )
            root = self.node(event, events, 0)
        if root is None:
            return Scalar(Place(self.file, 1, 1), None, "", quoted=False)
        return root

    def node(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
        place = self.place(event)
        if isinstance(event, yaml.AliasEvent):
            raise YamlError([place.problem("aliases (*name) are not allowed: write the value out")])
        if depth > _MAX_DEPTH:
            raise YamlError([place.problem(f"nested deeper than {_MAX_DEPTH} levels")])
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            self.problems.append(place.problem("anchors (&name) are not allowed: write the value out"))
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event, place)
        if isinstance(event, yaml.CollectionStartEvent) and event.tag is not None:
            self.problems.append(place.problem(f"tags are not allowed, found '{event.tag}'"))
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(inner := next(events), yaml.SequenceEndEvent):
                items.append(self.node(inner, events, depth + 1))
            return Sequence(place, tuple(items))
        return self.mapping(place, events, depth)

    def mapping(self, place: Place, events: Iterator[yaml.Event], depth: int) -> Mapping:
        entries: dict[str, Entry] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self.node(event, events, depth + 1)
            value = self.node(next(events), events, depth + 1)
            if not isinstance(key, Scalar) or key.text == "":
                self.problems.append(key.place.problem(f"a key must be text, found {key.kind}"))
            elif key.text in entries:
                first = entries[key.text].place.line
                self.problems.append(
                    key.place.problem(f"key '{key.text}' is used twice (first in line {first})")
                )
            elif key.text == "<<":
                self.problems.append(
                    key.place.problem("merge keys (<<) are not allowed: write the values out")
                )
            else:
                entries[key.text] = Entry(key.text, key.place, value)
        return Mapping(place, tuple(entries.values()))

    def scalar(self, event: yaml.ScalarEvent, place: Place) -> Scalar:
        text: str = event.value
        if event.tag is not None:
            self.problems.append(place.problem(f"tags are not allowed, found '{event.tag}'"))
        if event.style is not None and event.style != "":
            return Scalar(place, text, text, quoted=True)
        return Scalar(place, _resolve(text), text, quoted=False)


def _resolve(text: str) -> Value:
    """The value of a plain scalar by the YAML 1.2 core schema, without its octal and hexadecimal forms."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    return text
