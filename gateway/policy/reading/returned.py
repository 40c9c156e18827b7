"""What is seen of a resource, in the words of the language: `return` of a permit, `fields` of a deny."""

from gateway.fhir.definitions import RESOURCE_TYPES, element_exists, element_names
from gateway.fhir.interaction import Interaction
from gateway.policy.reading.definitions import Definitions, named
from gateway.policy.reading.labels import read_sections
from gateway.policy.reading.reader import Reader
from gateway.policy.rules import Effect, Returned
from gateway.policy.view import Precision
from gateway.yaml_source import Mapping, Node, did_you_mean

SEEN = frozenset({Interaction.READ, Interaction.VREAD, Interaction.HISTORY_INSTANCE, Interaction.SEARCH})
"""The interactions whose answers are seen through views."""
_KEYS = ("hide", "only", "round_dates", "sections")
_PRECISIONS = tuple(precision.name.lower() for precision in Precision)


def read_return(
    reader: Reader,
    body: Mapping,
    effect: Effect,
    resources: frozenset[str] | None,
    may: frozenset[Interaction],
    definitions: Definitions,
) -> Returned | None:
    """What a permit shows of resources, None for all of it."""
    node = body.node("return")
    found = reader.mapping(node, "return")
    if node is None or found is None:
        return None
    if effect is not Effect.PERMIT:
        reader.problem(node, "'return' is for a permit: a deny takes elements away with 'fields'")
    if not may & SEEN:
        reader.problem(node, "'return' says what is read: the rule has no read, vread, history or search")
    reader.keys(found, "return", _KEYS)
    if not any(key in found for key in _KEYS):
        reader.problem(found, "return must say 'hide', 'only', 'round_dates' or 'sections'")
    only = None
    only_node = found.node("only")
    if only_node is not None:
        only = tuple(_typed(reader, item, "only") for item in named(reader, only_node, "only"))
        _check_says_all(reader, only_node, only, resources)
    hide_node = found.node("hide")
    hide = (
        tuple(_typed(reader, item, "hide") for item in named(reader, hide_node, "hide")) if hide_node else ()
    )
    rounded: list[tuple[str, Precision]] = []
    for entry in reader.mapping(found.node("round_dates"), "round_dates") or ():
        path = _path(reader, entry.value, entry.key, "round_dates")
        word = reader.word(entry.value, "precision of a date", _PRECISIONS)
        if path and word:
            rounded.append((path, Precision[word.upper()]))
    return Returned(
        None if only is None else tuple(filter(None, only)),
        tuple(filter(None, hide)),
        tuple(rounded),
        read_sections(reader, found, definitions),
    )


def read_fields(
    reader: Reader,
    body: Mapping,
    effect: Effect,
    resources: frozenset[str] | None,
    may: frozenset[Interaction],
) -> tuple[str, ...] | None:
    """The elements that a deny takes away, with their type or, for every type of the rule, without; None for none."""
    node = body.node("fields")
    if node is None:
        return None
    if effect is not Effect.DENY:
        reader.problem(node, "'fields' is for a deny: a permit says with 'return' what it shows")
    if not may & SEEN:
        reader.problem(node, "'fields' says what is read: the rule has no read, vread, history or search")
    found = []
    for item in named(reader, node, "fields"):
        text = reader.text(item, "element")
        if text.partition(".")[0] in RESOURCE_TYPES:
            found.append(_path(reader, item, text, "fields"))
        elif text:
            types = sorted(RESOURCE_TYPES if resources is None else resources)
            without = [type_ for type_ in types if not element_exists(f"{type_}.{text}")]
            if without and (resources is not None or without == types):
                reader.problem(item, f"{without[0]} has no element '{text}'.{_suggestion(without[0], text)}")
            elif text == "id":
                reader.problem(item, _ID_IS_SEEN)
            else:
                found.append(text)
    return tuple(filter(None, found))


_ID_IS_SEEN = "id cannot be hidden: every link to the resource says it"


def _typed(reader: Reader, node: Node, what: str) -> str:
    text = reader.text(node, "element")
    return _path(reader, node, text, what) if text else ""


def _path(reader: Reader, node: Node, text: str, what: str) -> str:
    type_, dot, names = text.partition(".")
    if type_ not in RESOURCE_TYPES or not dot:
        if not dot or type_[:1].islower():
            reader.problem(node, f"'{text}' does not say its type: write it as Patient.{names or text}")
        else:
            reader.problem(node, f"unknown resource type '{type_}'.{did_you_mean(type_, RESOURCE_TYPES)}")
        return ""
    if not element_exists(text):
        reader.problem(node, f"{type_} has no element '{names}'.{_suggestion(type_, names)}")
        return ""
    if names == "id" and what != "only":
        reader.problem(node, _ID_IS_SEEN)
        return ""
    return text


def _suggestion(type_: str, names: str) -> str:
    *above, last = names.split(".")
    return did_you_mean(last, element_names(".".join([type_, *above])))


def _check_says_all(
    reader: Reader, node: Node, only: tuple[str, ...], resources: frozenset[str] | None
) -> None:
    """A type of which nothing is named would be shown as nothing: a mistake, not a wish."""
    spoken = {path.partition(".")[0] for path in only}
    if resources is None:
        reader.problem(node, "'resources: any' and 'only': name the types, of each what is shown")
        return
    silent = sorted(resources - spoken)
    if silent and "" not in only:
        reader.problem(node, f"only says nothing about {silent[0]}: name what is shown of it")
