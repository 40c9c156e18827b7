"""Statements in `where`, as they are written: `fhirpath`, one for all types of a rule, or one by type."""

from collections.abc import Mapping as Table

from gateway.fhir.definitions import RESOURCE_TYPES
from gateway.fhir.expressions import StatementError, compile_statement
from gateway.policy.reading.placeholders import ids_as_references
from gateway.policy.reading.reader import Reader
from gateway.policy.rules import Claim
from gateway.policy.statements import ResourceStatement
from gateway.yaml_source import Mapping, Node, did_you_mean


def read_statements(
    reader: Reader, where: Mapping, resources: frozenset[str] | None, claims: Table[str, Claim]
) -> dict[str, ResourceStatement]:
    """The statements of `fhirpath` by type. claims are those that %token may name."""
    node = where.node("fhirpath")
    if node is None:
        return {}
    types = sorted(RESOURCE_TYPES if resources is None else resources & set(RESOURCE_TYPES))
    if not isinstance(node, Mapping):
        text = reader.text(node, "fhirpath")
        return _compiled(reader, node, text, types, claims) if text else {}
    found: dict[str, ResourceStatement] = {}
    for entry in node:
        if entry.key not in RESOURCE_TYPES:
            suggestion = did_you_mean(entry.key, RESOURCE_TYPES)
            reader.problem(entry, f"unknown resource type '{entry.key}'.{suggestion}")
        elif entry.key not in types:
            reader.problem(entry, f"the rule is not about {entry.key}")
        else:
            text = reader.text(entry.value, "fhirpath")
            found |= _compiled(reader, entry.value, text, [entry.key], claims) if text else {}
    for type_ in [t for t in types if resources is not None and t not in node]:
        said = f"fhirpath says nothing about {type_}: a permit opens nothing of it, any other rule closes all of it"
        reader.problem(node, said, warning=True)
    if not node.entries:
        reader.problem(node, "fhirpath says nothing: '{Type: \"statement\"}'")
    return found


def _compiled(
    reader: Reader, node: Node, text: str, types: list[str], claims: Table[str, Claim]
) -> dict[str, ResourceStatement]:
    found = {}
    for type_ in types:
        try:
            compiled = compile_statement(text, type_, claims=claims, of_a_write=False)
        except StatementError as error:
            reader.problem(node, f"fhirpath of {type_}: {error}")
            break
        found[type_] = ResourceStatement(text, compiled)
    for said in dict.fromkeys(ids_as_references(text, claims)):
        reader.problem(node, f"fhirpath: {said}")
    return found
