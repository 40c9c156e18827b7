"""FHIR numbers and quantities, and how a search compares them (FHIR R4 3.1.1.4.6, 3.1.1.4.11).

A searched number covers its last digit: 100 is [99.5, 100.5), 1.00 is [0.995, 1.005). A value in a resource is taken
as it stands, one with a comparator as everything on that side. Units are compared, never converted.
"""

import re
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any

from gateway.fhir.resource import Number
from gateway.fhir.search_values import unescape

NUMBERS = frozenset({"integer", "decimal", "positiveInt", "unsignedInt"})
QUANTITIES = frozenset({"Quantity", "Age", "Duration", "Count", "Distance"})

_PREFIXED = re.compile(
    r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?([^|]*)(?:\|((?:[^|\\]|\\.)*)\|((?:[^|\\]|\\.)*))?", re.DOTALL
)
_EXACT = Context(prec=2000)  # the grammar of search allows 80 digits and exponents of three
_INFINITE = Decimal("Infinity")

_Range = tuple[Decimal, Decimal]  # lowest and highest value that it can have


def compile_test(text: str) -> Callable[[Any], bool]:
    """The test of a number or quantity parameter's value, e.g. 'gt5.4||mg'. Raises ValueError for 'ap'."""
    match = _PREFIXED.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is not a number or quantity")
    prefix = match[1] or "eq"
    if prefix == "ap":
        raise ValueError("'ap' means what each store likes; it cannot be judged")
    number = Decimal(match[2])
    half = _EXACT.divide(_EXACT.power(Decimal(10), _exponent(number)), Decimal(2))
    low, high = _EXACT.subtract(number, half), _EXACT.add(number, half)
    system, unit = unescape(match[3] or ""), unescape(match[4] or "")
    compare = _comparison(prefix, number, low, high)

    def test(value: Any) -> bool:
        if isinstance(value, dict):
            return (
                _unit_fits(value, system, unit)
                and (covered := _covered(value)) is not None
                and compare(covered)
            )
        exact = _decimal(value)
        return exact is not None and not unit and compare((exact, exact))

    return test


def _comparison(prefix: str, number: Decimal, low: Decimal, high: Decimal) -> Callable[[_Range], bool]:
    match prefix:
        case "gt":
            return lambda value: value[1] > number
        case "lt":
            return lambda value: value[0] < number
        case "ge":
            return lambda value: value[1] >= number
        case "le":
            return lambda value: value[0] <= number
        case "sa":
            return lambda value: value[0] > number
        case "eb":
            return lambda value: value[1] < number
        case "ne":
            return lambda value: not (low <= value[0] and value[1] < high)
        case _:
            return lambda value: low <= value[0] and value[1] < high


def _unit_fits(value: dict[str, Any], system: str, unit: str) -> bool:
    if system:
        return value.get("system") == system and value.get("code") == unit
    return not unit or unit in (value.get("code"), value.get("unit"))


def _covered(value: dict[str, Any]) -> _Range | None:
    number = _decimal(value.get("value"))
    if number is None:
        return None
    match value.get("comparator"):
        case None:
            return number, number
        case "<" | "<=":
            return -_INFINITE, number
        case ">" | ">=":
            return number, _INFINITE
        case _:
            return None


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, Number):
        return value.decimal()
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    return Decimal(repr(value)) if isinstance(value, float) else None


def _exponent(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError(f"{number} is not finite")
    return exponent
