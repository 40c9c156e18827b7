"""Whether a claim can ever be a value of what it stands for: by the type of the parameter, or of the element."""

import re
from collections.abc import Iterator, Mapping

from gateway.fhir.definitions import search_parameter
from gateway.policy.rules import Claim

_PLACEHOLDER = re.compile(r"\{token\.([A-Za-z_][A-Za-z0-9_]*)\}")
_MEASURED = frozenset({"date", "number", "quantity"})
_REFERENCED = re.compile(
    r"[A-Za-z)]\.reference\s*!?=\s*%token\.([A-Za-z_][A-Za-z0-9_]*)"
    r"|%token\.([A-Za-z_][A-Za-z0-9_]*)\s*(?:!?=|in)\s*[A-Za-z][A-Za-z.]*\.reference\b"
    r"|\.reference\s+contains\s+%token\.([A-Za-z_][A-Za-z0-9_]*)"
)


def mismatches(type_: str, query: str, claims: Mapping[str, Claim]) -> Iterator[str]:
    """What is wrong with the claims in search criteria of a type: those that are no value of their parameter."""
    for part in query.split("&"):
        name, _, value = part.partition("=")
        code = re.split(r"[:.]", name, maxsplit=1)[0]
        parameter = search_parameter(type_, code)
        if parameter is None or "." in name:
            continue
        for text in _PLACEHOLDER.findall(value):
            claim = claims.get(text)
            if claim is None:
                continue
            if claim.type in ("id", "codes", "reference") and parameter.type in _MEASURED:
                yield f"'{code}' is a {parameter.type}: the claim '{text}' ({claim.type}) can never be one"
            elif claim.type == "reference" and parameter.type not in ("reference", "composite", "special"):
                yield f"'{code}' is a {parameter.type}: the claim '{text}' is a reference such as Type/id"
            elif claim.type == "reference" and parameter.type == "reference":
                targets = parameter.targets
                if claim.of and targets and targets.isdisjoint(claim.of):
                    known, given = ", ".join(sorted(targets)), ", ".join(sorted(claim.of))
                    yield f"'{code}' refers to {known}: the claim '{text}' refers to {given}"


def ids_as_references(statement: str, claims: Mapping[str, Claim]) -> Iterator[str]:
    """What is wrong with the claims in a statement: ids where whole references are compared."""
    for names in _REFERENCED.findall(statement):
        name = next(filter(None, names))
        claim = claims.get(name)
        if claim is not None and claim.type == "id":
            yield f"%token.{name} is an id, and a reference is a type with an id: they are never equal"
