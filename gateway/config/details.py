"""The authorization details of gateway.yaml: which types apps may ask for (RFC 9396), each made of FHIR's own words.

A type that the gateway could not enforce cannot be written: its actions are interactions, its datatypes resource types.
"""

import re

from authz.protocol.authorization_details import DetailType
from gateway.config.schema import Section
from gateway.fhir.definitions import RESOURCE_TYPES
from gateway.policy.details_layer import ACTIONS, FHIR_ACCESS
from gateway.yaml_source import Mapping, Scalar, Sequence, did_you_mean

_KEY = "authorization_details"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._/-]{0,99}")


def read_detail_types(top: Section) -> tuple[DetailType, ...]:
    """The types that are offered: those listed, the shipped one by its name; without the key the shipped one alone."""
    node = top.node.node(_KEY)
    if node is None:
        return (FHIR_ACCESS,)
    if not isinstance(node, Sequence):
        top.report(node.place, f"{_KEY} must be a list, such as [{FHIR_ACCESS.name}], or [] to offer none")
        return ()
    found: dict[str, DetailType] = {}
    for number, item in enumerate(node):
        if isinstance(item, Scalar) and isinstance(item.value, str):
            kind = FHIR_ACCESS
            if item.value != kind.name:
                hint = did_you_mean(item.value, [kind.name])
                top.report(item.place, f"no type named '{item.value}' is shipped.{hint}")
                continue
        elif isinstance(item, Mapping):
            path = f"{_KEY}[{number}]"
            kind = _type(Section(item, path, top.problems, top.folder, top.environ))
        else:
            top.report(item.place, f"{_KEY}[{number}] must be the name of the shipped type, or a mapping")
            continue
        if kind.name in found:
            top.report(item.place, f"the type '{kind.name}' is there twice")
        found[kind.name] = kind
    return tuple(found.values())


def _type(section: Section) -> DetailType:
    section.known("name", "words", "actions", "datatypes")
    name = section.text("name", expected="a name such as lab-results")
    if name and not _NAME.fullmatch(name):
        section.report(
            section.place("name"), f"'{name}' is not a name of letters, digits, ':', '.', '_', '/' and '-'"
        )
    elif name == FHIR_ACCESS.name:
        section.report(section.place("name"), f"'{name}' is the shipped type: give your own another name")
    return DetailType(
        name=name,
        actions=_words(section, "actions", "an action", frozenset(ACTIONS)),
        datatypes=_words(section, "datatypes", "a resource type", frozenset(RESOURCE_TYPES)),
        words=section.text("words", expected="what the consent page calls it"),
    )


def _words(section: Section, key: str, what: str, known: frozenset[str]) -> frozenset[str]:
    """The values of a list; without the key all that are known. An empty list would be a type that allows nothing."""
    if not section.has(key):
        return known
    found = section.texts(key)
    if not found:
        section.report(section.place(key), f"{section.path}.{key} names nothing: leave it out to allow all")
    for text in found:
        if text not in known:
            section.report(section.place(key), f"'{text}' is not {what}.{did_you_mean(text, known)}")
    return frozenset(found) & known
