"""The rule keys about writes: `write` and `conditional` of a permit, `changes` of a deny."""

from collections.abc import Collection
from collections.abc import Mapping as Table

from gateway.fhir.definitions import RESOURCE_TYPES, element_exists, search_parameter, search_parameters
from gateway.fhir.expressions import Statement, StatementError, compile_statement, mentions_before
from gateway.fhir.interaction import Interaction
from gateway.policy.reading.definitions import Definitions, named
from gateway.policy.reading.reader import Reader
from gateway.policy.view import Paths, paths_of
from gateway.policy.write_rules import WRITING, Conditional, WriteRule
from gateway.yaml_source import Mapping, Node, did_you_mean

_CHANGED = WRITING - {Interaction.DELETE}


def read_write_rule(
    reader: Reader,
    rule: Mapping,
    effect: str,
    may: frozenset[Interaction],
    resources: frozenset[str] | None,
    definitions: Definitions,
) -> WriteRule:
    """What a rule says of a write: `write` in a permit, `changes` in a deny."""
    types = sorted(RESOURCE_TYPES if resources is None else resources & set(RESOURCE_TYPES))
    readonly: Table[str, Paths] = {}
    must_hold: Table[str, Statement] = {}
    changes: Table[str, Paths] = {}
    node = rule.node("write")
    body = reader.mapping(node, "write")
    if node is not None and body is not None:
        reader.keys(body, "write", ("readonly", "must_hold", "old_version"))
        if effect != "permit":
            reader.problem(node, "'write' is for a permit: a deny says 'changes'")
        if not may <= WRITING | {Interaction.TRANSACTION}:  # which brings writes, and reads nothing
            reader.problem(node, "'write' is for a rule about writes alone: let another rule permit the rest")
        if "readonly" in body:
            readonly = _paths(reader, body.node("readonly"), "readonly", types)
        if "must_hold" in body:
            must_hold = _statements(reader, body.node("must_hold"), types, may, definitions)
        # The only meaning there is, for those who want to read it.
        reader.word(body.node("old_version"), "old_version", ("must-also-match",))
    node = rule.node("changes")
    if node is not None:
        if effect != "deny":
            reader.problem(node, "'changes' is for a deny: a permit says 'write: {readonly: […]}'")
        if not may <= _CHANGED:
            reader.problem(
                node, "'changes' is for a deny of create, update and patch alone: name them in 'may'"
            )
        changes = _paths(reader, node, "changes", types)
    return WriteRule(readonly, must_hold, changes)


def _paths(reader: Reader, node: Node | None, what: str, types: Collection[str]) -> dict[str, Paths]:
    """The elements of each type, named alone ('subject') for all types that have them or with one ('Task.for')."""
    elements: dict[str, list[str]] = {}
    for item in named(reader, node, what) if node is not None else ():
        text = reader.text(item, "element")
        full = [text] if text.split(".")[0] in RESOURCE_TYPES else [f"{type_}.{text}" for type_ in types]
        known = [each for each in full if "." in each and element_exists(each)]
        outside = [each for each in known if each.split(".")[0] not in types]
        if text and not known:
            reader.problem(item, f"no type of the rule has an element '{text}'")
        elif outside:
            reader.problem(item, f"'{text}' is not of a type that the rule is about")
        for each in known:
            elements.setdefault(each.split(".")[0], []).append(each)
    return {type_: paths_of(type_, listed) for type_, listed in elements.items()}


def _statements(
    reader: Reader,
    node: Node | None,
    types: Collection[str],
    may: frozenset[Interaction],
    definitions: Definitions,
) -> dict[str, Statement]:
    text = reader.text(node, "must_hold")
    found: dict[str, Statement] = {}
    if node is None or not text:
        return found
    for type_ in types:
        try:
            found[type_] = compile_statement(text, type_, claims=definitions.claims)
        except StatementError as error:
            reader.problem(node, f"must_hold of {type_}: {error}")
            break
    if mentions_before(text) and Interaction.CREATE in may:
        reader.problem(
            node,
            "must_hold speaks of %before, which a create does not have: it will be refused",
            warning=True,
        )
    return found


def read_conditional(
    reader: Reader,
    rule: Mapping,
    effect: str,
    may: frozenset[Interaction],
    resources: frozenset[str] | None,
) -> Conditional | None:
    """The `conditional` of a permit; None without, where the rule permits no conditional write."""
    node = rule.node("conditional")
    body = reader.mapping(node, "conditional")
    if node is None or body is None:
        return None
    reader.keys(body, "conditional", ("keys", "system"))
    if effect != "permit":
        reader.problem(node, "'conditional' is for a permit")
    if not may & WRITING:
        reader.problem(node, "'conditional' is about writes: 'may' names none")
    types = sorted(RESOURCE_TYPES if resources is None else resources & set(RESOURCE_TYPES))
    keys: set[str] = set()
    for item in reader.items(body.node("keys"), "keys"):
        text = reader.text(item, "search parameter")
        if text and not any(search_parameter(type_, text) for type_ in types):
            known = {parameter for type_ in types for parameter in search_parameters(type_)}
            reader.problem(
                item, f"no type of the rule has a search parameter '{text}'.{did_you_mean(text, known)}"
            )
        elif text:
            keys.add(text)
    if not keys:
        reader.problem(body, "conditional must say by what a resource is found: 'keys: [identifier]'")
    system = reader.text(body.node("system"), "system") if "system" in body else None
    return Conditional(frozenset(keys), system)
