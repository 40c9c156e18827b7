"""Facts in the definitions file: ask, take, keep, at_most, if_unavailable, max_stale."""

import re

from gateway.fhir.definitions import is_resource_type
from gateway.fhir.fhirpath import ExpressionError, compile_expression
from gateway.fhir.matching import CriteriaError, compile_criteria
from gateway.policy.facts import Fact
from gateway.policy.reading.definitions import Definitions
from gateway.policy.reading.reader import Reader
from gateway.policy.reading.sign_in import seconds_of
from gateway.yaml_source import Entry, Mapping, Node, Scalar, did_you_mean

MOST_VALUES = 5000
"""A fact never has more values than this: they all stand in one search of the store."""
_KEYS = ("ask", "take", "keep", "at_most", "if_unavailable", "max_stale")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_PLACEHOLDER = re.compile(r"\{token\.([A-Za-z_][A-Za-z0-9_]*)\}")
_TAKEN = frozenset({"Reference", "id", "string", "code", "uri", "canonical", "url"})
_LONGEST = 24 * 3600


def read_facts(reader: Reader, document: Mapping, found: Definitions) -> None:
    """The facts of a definitions file, once every claim is known."""
    for entry in reader.mapping(document.node("facts"), "facts") or ():
        fact = _fact(reader, entry, found)
        if fact is not None:
            found.facts[entry.key] = fact


def _fact(reader: Reader, entry: Entry, found: Definitions) -> Fact | None:
    first = found.places.setdefault(f"fact {entry.key}", entry.place)
    if first is not entry.place:
        said = f"fact '{entry.key}' is defined twice (first in {first.file}, line {first.line})"
        reader.problem(entry, said)
    if not _NAME.fullmatch(entry.key):
        reader.problem(entry, f"'{entry.key}' is no name of a fact: letters, digits and '-' are expected")
    body = reader.mapping(entry.value, f"fact '{entry.key}'")
    if body is None:
        return None
    reader.keys(body, f"fact '{entry.key}'", _KEYS)
    for key in ("ask", "take", "keep", "at_most"):
        if key not in body:
            reader.problem(entry, f"fact '{entry.key}' has no '{key}'")
            return None
    unavailable = body.node("if_unavailable")
    if unavailable is not None:
        reader.word(unavailable, "answer without the fact", ("deny",))
    type_, query = _ask(reader, body, found)
    keep = _seconds(reader, body, "keep")
    max_stale = _seconds(reader, body, "max_stale") if "max_stale" in body else keep
    if max_stale < keep:
        reader.problem(body, "'max_stale' is shorter than 'keep': it says how old an answer may be at last")
    return Fact(entry.key, type_, query, _take(reader, body, type_), keep, max_stale, _at_most(reader, body))


def _ask(reader: Reader, body: Mapping, found: Definitions) -> tuple[str, str]:
    node = body.node("ask")
    text = reader.text(node, "ask")
    type_, _, query = text.partition("?")
    if node is None or not text:
        return "", ""
    if not is_resource_type(type_) or not query:
        reader.problem(node, "'ask' must be a search such as \"CareTeam?participant={token.user}\"")
        return "", ""
    for name in _PLACEHOLDER.findall(query):
        claim = found.claims.get(name)
        if claim is None:
            reader.problem(node, f"no claim named '{name}'.{did_you_mean(name, found.claims)}")
        elif claim.type == "codes":
            reader.problem(node, f"claim '{name}' has several values: a fact is asked by one")
    _check_whole(reader, node, query)
    try:
        compile_criteria(type_, _PLACEHOLDER.sub("x", query))
    except CriteriaError as error:
        reader.problem(node, f"the answer could not be held to the criteria: {error}")
    return type_, query


def _check_whole(reader: Reader, node: Node, query: str) -> None:
    """Note a placeholder that is only a part of its value: claims are values, never pasted into text."""
    for part in query.split("&"):
        value = part.partition("=")[2]
        for item in value.split(","):
            if "{" in item and not _PLACEHOLDER.fullmatch(item):
                reader.problem(
                    node, f"'{item}' is not a whole claim: write it as {{token.user}}, and nothing beside"
                )


def _take(reader: Reader, body: Mapping, type_: str) -> str:
    node = body.node("take")
    text = reader.text(node, "take")
    if node is None or not text or not type_:
        return ""
    try:
        expression = compile_expression(text)
    except ExpressionError as error:
        reader.problem(node, f"'take' cannot be read: {error}")
        return ""
    if text.partition(".")[0] != type_:
        reader.problem(node, f"'take' begins with the type that is asked for: {type_}.…")
    elif not expression.types <= _TAKEN:
        reader.problem(
            node, f"'take' gives {', '.join(sorted(expression.types))}: a reference or a text is expected"
        )
    return text


def _seconds(reader: Reader, body: Mapping, key: str) -> int:
    node = body.node(key)
    text = reader.text(node, key)
    found = seconds_of(text)
    if node is not None and text and (found is None or not 1 <= found <= _LONGEST):
        reader.problem(node, f"{key} is '{text}', expected a time such as 60s, at most 24h")
    return found or 1


def _at_most(reader: Reader, body: Mapping) -> int:
    node = body.node("at_most")
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_VALUES:
        return value
    if node is not None:
        reader.problem(node, f"at_most must be a whole number from 1 to {MOST_VALUES}")
    return 1
