"""What a rule says of operations: their names in `may`, and the key `operation`."""

from gateway.fhir.definitions import RESOURCE_TYPES
from gateway.fhir.operations import OPERATIONS, typed_query
from gateway.fhir.outcome import FhirError
from gateway.policy.asking import Unsayable
from gateway.policy.conditions import criteria_condition
from gateway.policy.reading.definitions import named, resource_type
from gateway.policy.reading.reader import Reader
from gateway.policy.rules import JOB_STEPS, Effect, OperationAccess
from gateway.yaml_source import Mapping, Node, Scalar, did_you_mean

_PREFIX = "operation:"
_MOST_JOBS = 100


def read_operation(
    reader: Reader, body: Mapping, effect: Effect, resources: frozenset[str] | None
) -> OperationAccess:
    """The operations of a rule, and what it says of them."""
    names = _names(reader, body.node("may"), effect, resources)
    follows = _follows(reader, body.node("may"), effect, names)
    node = reader.mapping(body.node("operation"), "operation")
    if node is None:
        return OperationAccess(names, follows=follows)
    reader.keys(node, "operation", ("types", "type_filter", "jobs_at_once", "files_through_gateway"))
    if effect is not Effect.PERMIT or not names:
        reader.problem(node, "'operation' is for a permit whose 'may' names operations")
    is_export = OperationAccess(names).exports
    for key in ("type_filter", "jobs_at_once", "files_through_gateway"):
        entry = node.entry(key)
        if entry is not None and not is_export:
            reader.problem(entry, f"'{key}' is for a permit of '$export'")
    through = node.node("files_through_gateway")
    if through is not None and not reader.flag(through, "files_through_gateway"):
        reader.problem(through, "files never go round the gateway: files_through_gateway is true")
    types = _types(reader, node.node("types"))
    return OperationAccess(
        names,
        types,
        _filters(reader, node.node("type_filter"), types),
        _jobs(reader, node.node("jobs_at_once")),
        follows,
    )


def _follows(
    reader: Reader, node: Node | None, effect: Effect, names: frozenset[str] | None
) -> frozenset[str] | None:
    """What may be done with a job: the steps that are named, all of them where none is."""
    quiet = Reader()
    found = set()
    for item in quiet.items(node, "may"):
        step = quiet.text(item, "may").removeprefix(_PREFIX)
        if step not in JOB_STEPS:
            continue
        found.add(step)
        if effect is not Effect.PERMIT:
            reader.problem(item, f"'{step}' is for a permit: deny the export, and what follows it is closed")
        elif not OperationAccess(names).exports:
            reader.problem(
                item, f"'{step}' belongs to an export: name that too, such as 'operation:Group/$export'"
            )
    return frozenset(found) or None


def _names(
    reader: Reader, node: Node | None, effect: Effect, resources: frozenset[str] | None
) -> frozenset[str] | None:
    quiet = Reader()  # whoever reads `may` notes what is no word
    words = [(item, quiet.text(item, "may")) for item in quiet.items(node, "may")]
    found: set[str] = set()
    for item, text in words:
        if text.startswith(_PREFIX) and text.removeprefix(_PREFIX) not in JOB_STEPS:
            found.add(_name(reader, item, text.removeprefix(_PREFIX), resources))
        elif text == "operation" and effect is Effect.PERMIT:
            reader.problem(item, "a permit names each operation, such as 'operation:Patient/$everything'")
    if effect is not Effect.PERMIT and (node is None or any(t in ("any", "operation") for _, t in words)):
        return None
    return frozenset(found)


def _name(reader: Reader, node: Node, text: str, resources: frozenset[str] | None) -> str:
    type_, slash, name = text.rpartition("/")
    known = [*(f"${operation}" for operation in OPERATIONS), *JOB_STEPS]
    if name not in known or name in JOB_STEPS:
        reader.problem(node, f"unknown operation '{name}'.{did_you_mean(name, known)}")
    elif slash and type_ not in RESOURCE_TYPES:
        reader.problem(node, f"unknown resource type '{type_}'.{did_you_mean(type_, RESOURCE_TYPES)}")
    elif slash and not OPERATIONS[name[1:]].is_of(type_):
        reader.problem(node, f"'{name}' is not an operation of {type_} that is decided here")
    elif resources is not None and not _can_match(type_, name, resources):
        reader.problem(node, f"'{text}' could never match: 'resources' names no type that it is asked at")
    return text


def _can_match(type_: str, name: str, resources: frozenset[str]) -> bool:
    if type_:
        return type_ in resources
    return any(OPERATIONS[name[1:]].is_of(each) for each in resources)


def _types(reader: Reader, node: Node | None) -> frozenset[str] | None:
    if node is None:
        return None
    return frozenset(resource_type(reader, item) for item in named(reader, node, "types")) - {""}


def _filters(reader: Reader, node: Node | None, types: frozenset[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in reader.mapping(node, "type_filter") or ():
        text = reader.text(entry.value, "type_filter")
        if types is None or entry.key not in types:
            reader.problem(
                entry, f"type_filter is for the types of this rule, which do not name '{entry.key}'"
            )
            continue
        try:
            type_, _ = typed_query(text)
            query = text.partition("?")[2]
            if type_ != entry.key:
                reader.problem(entry.value, f"write it as '{entry.key}?name=value'")
            criteria_condition(entry.key, query, frozenset())
        except FhirError as error:
            reader.problem(entry.value, f"type_filter cannot be read: {error.diagnostics or error.reason}")
        except Unsayable as error:
            reader.problem(entry.value, f"type_filter cannot be evaluated: {error}")
        else:
            found[entry.key] = query
    return found


def _jobs(reader: Reader, node: Node | None) -> int:
    if node is None:
        return 1
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_JOBS:
        reader.problem(node, f"jobs_at_once must be a number of 1 to {_MOST_JOBS}")
        return 1
    return value
