"""The conditions `binary` and `cda` of where, and the resource `cda:ClinicalDocument`."""

from dataclasses import replace

from gateway.cda.header import InstanceIdentifier
from gateway.fhir.labels import ABOVE_ALL, ORDER
from gateway.policy.attachments import CLINICAL_DOCUMENT, THROUGH, BinaryCondition, CdaCondition
from gateway.policy.reading.definitions import named
from gateway.policy.reading.labels import level, read_document_codes
from gateway.policy.reading.reader import Reader
from gateway.policy.rules import Effect, Where
from gateway.yaml_source import Mapping, Node, did_you_mean

_LEVELS = ("confidentiality_at_most", "confidentiality_at_least")
_CDA_KEYS = ("patient_from", *_LEVELS, "unlabelled", "types", "authors", "custodians")
ATTACHMENT_KEYS = ("binary", "cda")


def document_type(reader: Reader, node: Node, text: str) -> frozenset[str]:
    """The resource type in which a kind of document is kept."""
    if text != CLINICAL_DOCUMENT:
        reader.problem(node, f"unknown kind of document '{text}'.{did_you_mean(text, [CLINICAL_DOCUMENT])}")
    return frozenset({"Binary"})


def with_attachments(
    reader: Reader,
    body: Mapping,
    where: Where,
    resources: frozenset[str] | None,
    effect: Effect,
    *,
    shared: bool,
) -> Where:
    """The conditions of a rule with those on Binaries and their content."""
    said = body.node("where")
    said = said if isinstance(said, Mapping) else None
    binary = None if said is None else _binary(reader, said, resources, effect)
    cda = None if said is None else _cda(reader, said, effect, has_binary=binary is not None)
    words = _words(body)
    if cda is not None and CLINICAL_DOCUMENT not in words and said is not None:
        reader.problem(said, f"'cda' is about documents: name '{CLINICAL_DOCUMENT}' in 'resources'")
    if cda is None and CLINICAL_DOCUMENT in words and "Binary" not in words:
        cda = CdaCondition()
    found = replace(where, binary=binary, cda=cda)
    if effect is Effect.PERMIT and cda is not None and binary is None and where.is_empty and not shared:
        said_at: Node = body if said is None else said
        reader.problem(
            said_at,
            "a permit must say whose documents it opens: give 'binary:', or 'shared: true' for those of no one patient",
        )
    others = sorted((resources or frozenset()) - {"Binary"})
    if said is not None and found != where and where.is_empty and others and not shared:
        reader.problem(
            said,
            f"of {', '.join(others)} this says nothing: give 'match:', or 'shared: true' in a rule of its own",
        )
    if said is not None and binary is not None and "Binary" in where.match:
        types = ", ".join(sorted(binary.through))
        reader.problem(said, f"with 'binary', match is about what leads to a Binary: name {types}")
    return found


def searched(resources: frozenset[str] | None, where: Where) -> frozenset[str] | None:
    """The types that a rule opens to searches: a Binary is found by what leads to it."""
    return resources if resources is None or where.binary is None else resources - {"Binary"}


def _words(body: Mapping) -> tuple[str, ...]:
    node = body.node("resources")
    said = [] if node is None else node.plain()
    return tuple(map(str, said if isinstance(said, list) else [said]))


def _binary(
    reader: Reader, where: Mapping, resources: frozenset[str] | None, effect: Effect
) -> BinaryCondition | None:
    body = reader.mapping(where.node("binary"), "binary")
    if body is None:
        return None
    reader.keys(body, "binary", ("through",))
    node = body.node("through")
    if node is None:
        reader.problem(body, "binary must say through what: 'through: [DocumentReference]'")
    found = set()
    for item in named(reader, node, "through") if node is not None else ():
        text = reader.text(item, "resource type")
        if text in THROUGH:
            found.add(text)
        elif text:
            said = f"R4 has no search parameter that finds a {text} by the address of its attachment"
            reader.problem(item, f"{said}: expected {' or '.join(THROUGH)}.{did_you_mean(text, THROUGH)}")
    if effect is Effect.DENY:
        reader.problem(
            body,
            "'binary' is for a permit or a require: close what leads to a Binary, and it is closed with it",
        )
    if resources is None or "Binary" not in resources:
        reader.problem(body, "'binary' is about Binaries: name Binary in 'resources'")
    return BinaryCondition(frozenset(found))


def _cda(reader: Reader, where: Mapping, effect: Effect, *, has_binary: bool) -> CdaCondition | None:
    body = reader.mapping(where.node("cda"), "cda")
    if body is None:
        return None
    reader.keys(body, "cda", _CDA_KEYS)
    of_patient = "patient_from" in body
    if of_patient:
        reader.word(body.node("patient_from"), "place of the patient", ("recordTarget",))
        if not has_binary:
            said = "'patient_from' compares with whom the resource is about that leads to the document"
            reader.problem(body, f"{said}: give 'binary: {{through: [DocumentReference]}}'")
    at_most = level(reader, body, "confidentiality_at_most", ORDER)
    unlabelled = level(reader, body, "unlabelled", (*ORDER, "deny"))
    if not any(key in body for key in _CDA_KEYS if key != "unlabelled"):
        words = ", ".join(f"'{key}'" for key in _CDA_KEYS if key != "unlabelled")
        reader.problem(body, f"cda must say one of {words}")
    if "unlabelled" in body and not any(level in body for level in _LEVELS):
        reader.problem(body, "'unlabelled' needs 'confidentiality_at_most' or 'confidentiality_at_least'")
    at_least = level(reader, body, "confidentiality_at_least", ORDER)
    if at_least is not None and at_most is not None and at_least > at_most:
        reader.problem(body, "'confidentiality_at_least' is above 'confidentiality_at_most': nothing passes")
    if effect is Effect.DENY:
        # A document that cannot be read is neither above a level nor below it.
        reader.problem(
            body, f"'cda' is for a permit or a require; a deny of '{CLINICAL_DOCUMENT}' closes them all"
        )
    return CdaCondition(
        of_patient,
        at_most,
        ABOVE_ALL if unlabelled is None else unlabelled,
        types=read_document_codes(reader, body, "types"),
        authors=_organizations(reader, body, "authors"),
        custodians=_organizations(reader, body, "custodians"),
        at_least=at_least,
    )


def _organizations(reader: Reader, body: Mapping, key: str) -> frozenset[InstanceIdentifier]:
    node = body.node(key)
    found = set()
    for item in named(reader, node, key) if node is not None else ():
        text = reader.text(item, "organisation")
        root, _, extension = text.removeprefix("urn:oid:").partition("|")
        if not text.startswith("urn:oid:") or not root:
            reader.problem(
                item, f"'{text}' is not an organisation: expected urn:oid:ROOT, or urn:oid:ROOT|EXTENSION"
            )
        else:
            found.add(InstanceIdentifier(root, extension))
    return frozenset(found)
