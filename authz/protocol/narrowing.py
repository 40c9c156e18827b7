"""What a person leaves of the scopes that an app asks for: some of them, or of one only some categories.

SMART App Launch 2.2 @79, @145; US Core 7 names the categories. A part is made of a scope that was asked for by adding a
filter: no form can name another. The scopes that are left stand as they were asked, byte for byte.
"""

from collections.abc import Callable, Collection, Iterable

from authz.protocol.scopes import covered, parse_scope

_CONDITION = "http://terminology.hl7.org/CodeSystem/condition-category"
_OBSERVATION = "http://terminology.hl7.org/CodeSystem/observation-category"
_US_CORE = "http://hl7.org/fhir/us/core/CodeSystem"
_CATEGORIES = {
    "Condition": (
        f"{_CONDITION}|problem-list-item",
        f"{_CONDITION}|encounter-diagnosis",
        f"{_US_CORE}/condition-category|health-concern",
    ),
    "Observation": (
        f"{_OBSERVATION}|laboratory",
        f"{_OBSERVATION}|vital-signs",
        f"{_OBSERVATION}|social-history",
        f"{_OBSERVATION}|survey",
        f"{_US_CORE}/us-core-category|sdoh",
    ),
    "DocumentReference": (f"{_US_CORE}/us-core-documentreference-category|clinical-note",),
}
_V1 = (".read", ".write", ".*")


def parts_of(text: str, asked: Collection[str], grantable: Callable[[str], bool]) -> tuple[str, ...]:
    """The parts of a scope that a person may leave of it; none where they would change nothing or cannot be enforced.

    A scope of version 1 has no form for a part, and beside a wider scope a part says nothing.
    """
    scope = parse_scope(text)
    if scope is None or scope.query or text.endswith(_V1) or scope.type not in _CATEGORIES:
        return ()
    if covered(text, (other for other in asked if other != text)):
        return ()
    parts = (f"{text}?category={category}" for category in _CATEGORIES[scope.type])
    return tuple(part for part in parts if grantable(part))


def narrowed(
    asked: Iterable[str], ticked: Collection[str], only: Collection[str], grantable: Callable[[str], bool]
) -> tuple[str, ...]:
    """The scopes that a person allows: those ticked, and of one with parts chosen these parts alone.

    What was not asked for, and is no part of what was, is not there, whatever the form says.
    """
    asked = tuple(asked)
    chosen = {text: [part for part in parts_of(text, asked, grantable) if part in only] for text in asked}
    limited = [text for text, parts in chosen.items() if parts]
    found: list[str] = []
    for text in asked:
        undoes_it = "?" not in text and covered(text, limited)  # the same data whole, by fewer letters
        found += chosen[text] or ([text] if text in ticked and not undoes_it else [])
    return tuple(dict.fromkeys(found))
