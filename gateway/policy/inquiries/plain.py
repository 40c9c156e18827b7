"""Rules and decisions as JSON values, key by key, for tools that show and compare them.

Whatever has its default is left out; what the language learns appears by itself.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from ipaddress import IPv4Network, IPv6Network

from gateway.policy.hours import Hours, Validity
from gateway.policy.rules import Effect, Rule, Where
from gateway.policy.statements import ResourceStatement
from gateway.yaml_source import Place

_NOT_CONDITIONS = frozenset(
    {
        "id", "effect", "who", "may", "operation", "resources", "shared", "conceal", "audit", "because", "place",
        "returned", "fields", "named", "then",
    }
)  # fmt: skip


def plain(value: object) -> object:
    """The value as JSON: dataclasses by their fields, sets in order, what is not data by its name."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, IPv4Network | IPv6Network | Hours | Validity | ResourceStatement):
        return str(value)
    if isinstance(value, Place):
        return f"{value.file}:{value.line}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not is_default(field, getattr(value, field.name))
        }
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, AbstractSet):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    return type(value).__name__


def is_default(field: "dataclasses.Field[object]", value: object) -> bool:
    """Whether a field says no more than its default."""
    if field.default is not dataclasses.MISSING:
        return bool(value == field.default)
    return field.default_factory is not dataclasses.MISSING and bool(value == field.default_factory())


def blank(rule: Rule, effect: Effect) -> Rule:
    """The rule's own name and subject with no condition at all: what is added to it can be looked at alone."""
    return Rule(
        id=rule.id,
        effect=effect,
        who=(),
        networks=None,
        may=rule.may,
        resources=rule.resources,
        where=Where(),
        shared=True,
        conceal=False,
        audit="basic",
        because=rule.because,
        place=rule.place,
        operation=rule.operation,
    )


def conditions(rule: Rule) -> tuple[str, ...]:
    """The names of what the rule asks for beside its subject and `who`: where, networks, sign_in and whatever is new."""
    empty = blank(rule, rule.effect)
    return tuple(
        field.name
        for field in dataclasses.fields(rule)
        if field.name not in _NOT_CONDITIONS and getattr(rule, field.name) != getattr(empty, field.name)
    )
