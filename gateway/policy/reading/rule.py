"""One rule of a policy file: effect, who, when, may, resources, with every mistake at its place."""

from gateway.fhir.definitions import is_resource_type
from gateway.fhir.interaction import Interaction
from gateway.policy.obligations import NOTHING_MORE
from gateway.policy.reading.attachments import document_type, searched, with_attachments
from gateway.policy.reading.break_glass import read_break_glass
from gateway.policy.reading.definitions import Definitions, named, resource_type
from gateway.policy.reading.operation import read_operation
from gateway.policy.reading.query import read_query
from gateway.policy.reading.reader import Reader
from gateway.policy.reading.returned import SEEN, read_fields, read_return
from gateway.policy.reading.sign_in import read_sign_in
from gateway.policy.reading.then import read_then
from gateway.policy.reading.transaction import read_transaction
from gateway.policy.reading.unless import read_unless
from gateway.policy.reading.when import read_when
from gateway.policy.reading.where import where_of
from gateway.policy.reading.who import read_who
from gateway.policy.reading.write import read_conditional, read_write_rule
from gateway.policy.rules import (
    ENVELOPES,
    Effect,
    OperationAccess,
    Returned,
    Rule,
    Where,
)
from gateway.yaml_source import Mapping, Node, Scalar, Sequence, did_you_mean

RULE_KEYS = (
    "rule",
    "effect",
    "who",
    "when",
    "may",
    "resources",
    "where",
    "query",
    "shared",
    "return",
    "fields",
    "unless",
    "conceal",
    "operation",
    "break_glass",
    "then",
    "because",
    "write",
    "changes",
    "conditional",
    "transaction",
)
_RULE_LATER = (
    "name",
)  # fmt: skip
_ANY_INTERACTION = frozenset(Interaction) - {Interaction.CAPABILITIES}


def read_rule(
    reader: Reader, body: Mapping, policy: str, definitions: Definitions, seen: dict[str, int]
) -> Rule:
    """A rule of this policy, as far as it can be read. seen are the lines of the names so far, its own among them then."""
    reader.keys(body, "a rule", RULE_KEYS, _RULE_LATER)
    name_node = body.node("rule")
    name = reader.text(name_node, "rule")
    if name_node is None:
        reader.problem(body, "a rule must have a name: 'rule: …'")
    elif name in seen:
        reader.problem(name_node, f"rule name '{name}' is used twice (first in line {seen[name]})")
    else:
        seen[name] = name_node.place.line
    effect_text = reader.word(body.node("effect"), "effect", [e.value for e in Effect])
    if "effect" not in body:
        reader.problem(body, f"rule '{name}' has no 'effect': permit, deny or require")
    if "because" not in body:
        reader.problem(body, f"rule '{name}' does not say because of what ('because: …')", warning=True)
    effect = Effect(effect_text) if effect_text else Effect.DENY
    resources = _resources(reader, body, definitions, effect)
    may = _may(reader, body, effect)
    is_envelope = bool(may) and may <= ENVELOPES  # it opens Bundles alone, which show nobody's data
    shared = reader.flag(body.node("shared"), "shared") or is_envelope
    where = where_of(reader, body, resources, may, definitions, effect)
    where = with_attachments(reader, body, where, resources, effect, shared=shared)
    if is_envelope and effect is Effect.PERMIT and "where" in body:
        reader.problem(
            body.entry("where") or body, "a rule about batch and transaction alone looks at no resource"
        )
    if effect is Effect.PERMIT:
        _check_permit(reader, body, where, shared, resources)
    audit, then = read_then(reader, body, effect, may)
    if is_envelope and then != NOTHING_MORE:
        reader.problem(
            body.entry("then") or body,
            "a rule about batch and transaction alone has no effect but 'audit': write it at the permits of the entries",
        )
    break_glass = read_break_glass(reader, body, effect, may, resources)
    sign_in = read_sign_in(reader, body, effect, definitions)
    operation = read_operation(reader, body, effect, resources)
    at_most, may = read_transaction(reader, body, effect, may)
    networks, hours = read_when(reader, body, definitions)
    return Rule(
        id=f"{policy}/{name}",
        effect=effect,
        who=read_who(reader, body, definitions, effect),
        networks=networks,
        hours=hours,
        may=may,
        resources=resources,
        where=where,
        shared=shared,
        conceal=reader.flag(body.node("conceal"), "conceal"),
        audit=audit if break_glass is None else "full",
        because=reader.text(body.node("because"), "because"),
        place=body.place,
        sign_in=sign_in,
        query=read_query(
            reader, body, permits=effect is Effect.PERMIT, may=may, resources=searched(resources, where)
        ),
        returned=_returned(
            reader, body, effect, where, definitions, *_returned_by(resources, may, operation)
        ),
        fields=read_fields(reader, body, effect, resources, may),
        unless=read_unless(reader, body, effect, resources, may, definitions, sign_in),
        write=read_write_rule(reader, body, effect, may, resources, definitions),
        conditional=read_conditional(reader, body, effect, may, resources),
        operation=operation,
        at_most=at_most,
        named=_named(reader, body),
        then=then,
        break_glass=break_glass,
    )


def _returned(
    reader: Reader,
    body: Mapping,
    effect: Effect,
    where: Where,
    definitions: Definitions,
    resources: frozenset[str] | None,
    may: frozenset[Interaction],
) -> Returned | None:
    found = read_return(reader, body, effect, resources, may, definitions)
    if found is not None and found.sections is not None and where.cda is None:
        reader.problem(body, "'sections' is about clinical documents: give 'where: {cda: …}'")
    return found


def _returned_by(
    resources: frozenset[str] | None, may: frozenset[Interaction], operation: OperationAccess
) -> tuple[frozenset[str] | None, frozenset[Interaction]]:
    """The types of which a rule shows something, and how: those that it exports are read, by their own name."""
    if operation.types is None or not operation.exports:
        return resources, may
    if may & SEEN:
        return None if resources is None else resources | operation.types, may
    return operation.types, SEEN


def _may(reader: Reader, body: Mapping, effect: Effect) -> frozenset[Interaction]:
    node = body.node("may")
    if node is None:
        if effect is not Effect.REQUIRE:
            reader.problem(body, "a rule must say what it is about: 'may: [read, search]'")
        return _ANY_INTERACTION
    words = [i.value for i in Interaction if i is not Interaction.CAPABILITIES]
    found: set[Interaction] = set()
    for item in named(reader, node, "may"):
        text = reader.text(item, "interaction")
        if text == "any":
            found |= _ANY_INTERACTION
        elif text.startswith("operation:"):
            found.add(Interaction.OPERATION)  # which one is read by operation_reading
        elif text in words:
            found.add(Interaction(text))
        elif text:
            reader.problem(item, f"unknown interaction '{text}'.{did_you_mean(text, words)}")
    return frozenset(found)


def _resources(
    reader: Reader, body: Mapping, definitions: Definitions, effect: Effect
) -> frozenset[str] | None:
    node = body.node("resources")
    if node is None:
        if effect is not Effect.REQUIRE:
            reader.problem(body, "a rule must say which resources it is about: 'resources: [Patient]'")
        return None
    found: set[str] = set()
    for item in named(reader, node, "resources"):
        text = reader.text(item, "resource type")
        if text == "any":
            return None
        if text.startswith("cda:"):
            found |= document_type(reader, item, text)
        elif text.startswith("$"):
            types = definitions.types.get(text[1:])
            if types is None:
                reader.problem(
                    item, f"no set of types named '{text}'.{did_you_mean(text[1:], definitions.types)}"
                )
            else:
                found |= types
        elif text:
            found.add(resource_type(reader, item))
    return frozenset(found - {""})


def _named(reader: Reader, body: Mapping) -> frozenset[str]:
    """The types that stand in `resources` by their own name."""
    node = body.node("resources")
    items = reader.items(node, "resources") if isinstance(node, Sequence | Scalar) else []
    return frozenset(item.text for item in items if isinstance(item, Scalar) and is_resource_type(item.text))


def _check_permit(
    reader: Reader, body: Mapping, where: Where, shared: bool, resources: frozenset[str] | None
) -> None:
    entry = body.entry("where") or body.entry("rule")
    place: Node | Mapping = body if entry is None else entry.value
    if where.is_empty and not shared and "break_glass" not in body:
        reader.problem(
            place,
            "a permit must say whose data it opens: give 'where:', or 'shared: true' for data of no one patient",
        )
    if resources is None and _has_compartment(where):
        reader.problem(place, "'resources: any' goes beyond the Patient compartment: name the types")


def _has_compartment(where: Where) -> bool:
    return where.compartment is not None or any(map(_has_compartment, where.any_of))
