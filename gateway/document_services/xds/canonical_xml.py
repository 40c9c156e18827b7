"""Writes XML in the form of Exclusive XML Canonicalization 1.0 alone, so that what is signed is what goes out.

There is nothing to canonicalise: each prefix stands for one namespace, a declaration is written where an element first
makes visible use of it, attributes are in their order, and of the two ways to write a character one is known here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NAMESPACES: Mapping[str, str] = {
    "env": "http://www.w3.org/2003/05/soap-envelope",
    "wsa": "http://www.w3.org/2005/08/addressing",
    "wsse": "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd",
    "query": "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0",
    "rim": "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0",
    "rs": "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0",
    "lcm": "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0",
    "xds": "urn:ihe:iti:xds-b:2007",
    "xop": "http://www.w3.org/2004/08/xop/include",
    "saml": "urn:oasis:names:tc:SAML:2.0:assertion",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
    "hl7": "urn:hl7-org:v3",
    "xsi": "http://www.w3.org/2001/XMLSchema-instance",
}
_TEXT = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#xD;"}
_VALUE = {"&": "&amp;", "<": "&lt;", '"': "&quot;", "\t": "&#x9;", "\n": "&#xA;", "\r": "&#xD;"}


@dataclass(frozen=True, slots=True)
class Element:
    """An element with its attributes, by name with prefix, and what stands in it: elements and text."""

    name: str
    attributes: Mapping[str, str]
    content: Sequence["Element | str"]

    def beginning_with(self, *content: "Element | str", after: int = 0) -> "Element":
        """The same with more in it, after so many of its children."""
        return Element(self.name, self.attributes, (*self.content[:after], *content, *self.content[after:]))


def element(name: str, /, *content: "Element | str", **attributes: str) -> Element:
    """An element. Attributes with a prefix are written as 'prefix__name'."""
    return Element(name, {key.replace("__", ":"): value for key, value in attributes.items()}, content)


def written(value: Element) -> bytes:
    """The element with all in it, in UTF-8. Raises ValueError for a character that XML 1.0 cannot hold."""
    parts: list[str] = []
    _write(value, frozenset(), parts)
    return "".join(parts).encode()


def _write(value: Element, declared: frozenset[str], parts: list[str]) -> None:
    names = [value.name, *(name for name in value.attributes if ":" in name)]
    used = {name.partition(":")[0] for name in names} - declared
    parts.append(f"<{value.name}")
    parts.extend(f' xmlns:{prefix}="{NAMESPACES[prefix]}"' for prefix in sorted(used))
    for name in sorted(value.attributes, key=_place):  # xml-c14n 2.2: by namespace, then by local name
        parts.append(f' {name}="{_escaped(value.attributes[name], _VALUE)}"')
    parts.append(">")
    for each in value.content:
        if isinstance(each, str):
            parts.append(_escaped(each, _TEXT))
        else:
            _write(each, declared | used, parts)
    parts.append(f"</{value.name}>")


def _place(name: str) -> tuple[str, str]:
    prefix, mark, local = name.partition(":")
    return (NAMESPACES[prefix], local) if mark else ("", prefix)


def _escaped(text: str, escapes: Mapping[str, str]) -> str:
    for character in text:
        is_xml = character >= " " or character in "\t\n\r"
        if not is_xml or "\ud800" <= character <= "\udfff" or character in "\ufffe\uffff":
            raise ValueError("a character that XML cannot hold")
    return "".join([escapes.get(character, character) for character in text])
