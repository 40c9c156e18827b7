"""Security labels in `where`: at_most, any_of, without, unlabelled."""

from gateway.cda.section_condition import SectionCondition
from gateway.fhir.labels import ABOVE_ALL, ORDER, Label, LabelCondition
from gateway.policy.inherited_labels import INHERITED
from gateway.policy.reading.definitions import Definitions, label_of, named
from gateway.policy.reading.reader import Reader
from gateway.policy.rules import Effect
from gateway.yaml_source import Mapping, did_you_mean

_OIDS = {
    "http://loinc.org": "urn:oid:2.16.840.1.113883.6.1",
    "http://snomed.info/sct": "urn:oid:2.16.840.1.113883.6.96",
}


def read_labels(
    reader: Reader, where: Mapping, definitions: Definitions, effect: Effect
) -> LabelCondition | None:
    """What is asked of labels; None for nothing."""
    body = reader.mapping(where.node("labels"), "labels")
    if body is None:
        return None
    keys = ("at_most", "any_of", "without", "unlabelled", "inherit_labels")
    reader.keys(body, "labels", keys)
    if not any(key in body for key in keys[:3]):
        reader.problem(body, "labels must say 'at_most', 'any_of' or 'without'")
    at_most = level(reader, body, "at_most", ORDER)
    unlabelled = level(reader, body, "unlabelled", (*ORDER, "deny"))
    if "at_most" in body and "unlabelled" not in body:
        reader.problem(body, "say what a resource without a label is taken for: 'unlabelled: N', or 'deny'")
    elif "unlabelled" in body and "at_most" not in body:
        reader.problem(body, "'unlabelled' says how confidential a resource is: it needs 'at_most'")
    if "at_most" in body and effect is Effect.DENY:
        # A label that nobody knows is above all: a deny of what is at most N would let it through.
        reader.problem(body, "'at_most' is for a permit or a require: a deny would close what is public")
    return LabelCondition(
        at_most,
        _labels(reader, body, "any_of", definitions),
        _labels(reader, body, "without", definitions),
        ABOVE_ALL if unlabelled is None else unlabelled,
        read_inherit(reader, body),
    )


def read_sections(reader: Reader, returned: Mapping, definitions: Definitions) -> SectionCondition | None:
    """What is shown of the sections of clinical documents; None for all of them."""
    body = reader.mapping(returned.node("sections"), "sections")
    if body is None:
        return None
    reader.keys(body, "sections", ("at_most", "unlabelled", "without", "codes_without"))
    if not any(key in body for key in ("at_most", "without", "codes_without")):
        reader.problem(body, "sections must say 'at_most', 'without' or 'codes_without'")
    at_most = level(reader, body, "at_most", ORDER)
    unlabelled = level(reader, body, "unlabelled", (*ORDER, "deny"))
    if ("at_most" in body) != ("unlabelled" in body):
        said = "what a section without a label in a document without one is taken for: 'unlabelled: N', or 'deny'"
        reader.problem(body, f"'at_most' and 'unlabelled' go together: say {said}")
    labels = LabelCondition(
        at_most,
        without=_labels(reader, body, "without", definitions),
        unlabelled=ABOVE_ALL if unlabelled is None else unlabelled,
    )
    return SectionCondition(labels, read_document_codes(reader, body, "codes_without"))


def read_document_codes(reader: Reader, body: Mapping, key: str) -> frozenset[Label]:
    """Codes as clinical documents have them, with the OID of their system, from 'http://loinc.org|34133-9' and its like."""
    node = body.node(key)
    found = set()
    for item in named(reader, node, key) if node is not None else ():
        text = reader.text(item, "code")
        system, bar, code = text.partition("|")
        system = _OIDS.get(system, system)
        if not bar or not code or not system.startswith("urn:oid:"):
            systems = ", ".join(_OIDS)
            reader.problem(
                item,
                f"'{text}' is not a code: expected system|code, the system urn:oid:… or one of {systems}",
            )
        else:
            found.add(Label(system, code))
    return frozenset(found)


def read_inherit(reader: Reader, body: Mapping) -> tuple[str, ...]:
    """The elements by which labels of other resources count too: `inherit_labels`."""
    node = body.node("inherit_labels")
    items = named(reader, node, "inherit_labels") if node is not None else []
    return tuple(
        word for item in items if (word := reader.word(item, "element of inherit_labels", INHERITED))
    )


def level(reader: Reader, body: Mapping, key: str, words: tuple[str, ...]) -> int | None:
    """A confidentiality as a place in ORDER, one above all for 'deny'; None where nothing is said."""
    node = body.node(key)
    word = reader.word(node, f"confidentiality in {key}", words) if node is not None else ""
    return None if not word else ABOVE_ALL if word == "deny" else ORDER.index(word)


def _labels(reader: Reader, body: Mapping, key: str, definitions: Definitions) -> frozenset[Label]:
    node = body.node(key)
    found: set[Label] = set()
    for item in named(reader, node, key) if node is not None else ():
        text = reader.text(item, "label")
        if text.startswith("$"):
            labels = definitions.labels.get(text[1:])
            if labels is None:
                suggestion = did_you_mean(text[1:], definitions.labels)
                reader.problem(item, f"no set of labels named '{text}'.{suggestion}")
            found |= labels or frozenset()
        elif text and (label := label_of(reader, item)) is not None:
            found.add(label)
    return frozenset(found)
