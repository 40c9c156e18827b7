"""The narrative: XHTML as a string in JSON and as elements in XML, in one spelling (FHIR R4 2.4.0, rules txt-1, txt-2).

One spelling, so that the same narrative is the same string by whichever way it came: attributes as written in double
quotes, no prefix, no comment, no CDATA, empty elements as <br/>. What is stored through this gateway has the elements
and attributes that R4 lists, and no address that runs: applications show it, and trust it. What others stored is passed
on as it is.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.parsers import expat

from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.xml_parser import XmlError, parse_whole, secure_parser
from gateway.fhir.xml_shapes import XHTML

_ELEMENTS = frozenset(
    {
        "a", "abbr", "acronym", "b", "big", "blockquote", "br", "caption", "cite", "code", "col", "colgroup", "dd",
        "dfn", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "li", "ol", "p", "pre",
        "q", "samp", "small", "span", "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr",
        "tt", "ul", "var",
    }
)  # fmt: skip
_ATTRIBUTES = frozenset(
    {
        "abbr", "accesskey", "align", "alt", "axis", "bgcolor", "border", "cellhalign", "cellpadding", "cellspacing",
        "cellvalign", "char", "charoff", "charset", "cite", "class", "colspan", "compact", "coords", "dir", "frame",
        "headers", "height", "href", "hreflang", "hspace", "id", "lang", "longdesc", "name", "nowrap", "rel", "rev",
        "rowspan", "rules", "scope", "shape", "span", "src", "start", "style", "summary", "tabindex", "title", "type",
        "valign", "value", "vspace", "width", "xml:lang",
    }
)  # fmt: skip
_ADDRESSES = frozenset({"href", "src", "cite", "longdesc"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_SCHEMES = frozenset({"http", "https", "mailto", "tel", "ftp", "urn", "cid"})
_STYLE = re.compile(r"expression|javascript|url\s*\(|@import|behaviou?r|-moz-binding|\\", re.I)
_XML = "http://www.w3.org/XML/1998/namespace "


class Narrative:
    """Writes one div from the parser's events. Raises XmlError, with strict for all that R4 2.4.0 does not list."""

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._parts: list[str] = []
        self._is_open = False  # the last start tag still lacks its '>'
        self.depth = 0

    def start(self, name: str, attributes: Sequence[str]) -> None:
        """An element begins. attributes are names and values in turn."""
        uri, _, local = name.rpartition(" ")
        if uri != XHTML or (self.depth == 0 and local != "div"):
            raise XmlError("a narrative is one div, in the namespace of XHTML")
        if self._strict and local not in _ELEMENTS:
            raise XmlError("a narrative holds the elements of FHIR R4 2.4.0 only, none that is active")
        self._close()
        self._parts.append(f"<{local}" if self.depth else f'<div xmlns="{XHTML}"')
        for attribute, value in zip(attributes[::2], attributes[1::2], strict=True):
            self._attribute(attribute.replace(_XML, "xml:"), value)
        self._is_open = True
        self.depth += 1

    def text(self, content: str) -> None:
        """Text between tags."""
        self._close()
        self._parts.append(_element_text(content))

    def end(self, name: str) -> None:
        """An element ends."""
        self.depth -= 1
        if self._is_open:
            self._parts.append("/>")
            self._is_open = False
        else:
            self._parts.append(f"</{name.rpartition(' ')[2]}>")

    def whole(self) -> str:
        """The div, once it has ended."""
        return "".join(self._parts)

    def _close(self) -> None:
        if self._is_open:
            self._parts.append(">")
            self._is_open = False

    def _attribute(self, name: str, value: str) -> None:
        if " " in name:
            raise XmlError("a narrative has attributes of XHTML only")
        if self._strict:
            if name not in _ATTRIBUTES:
                raise XmlError("a narrative has the attributes of FHIR R4 2.4.0 only, none that is active")
            if name in _ADDRESSES and not _is_at_rest(value):
                raise XmlError("an address in a narrative must be one that does not run")
            if name == "style" and _STYLE.search(value):
                raise XmlError("a style in a narrative must be plain")
        self._parts.append(f' {name}="{attribute_text(value)}"')


def attribute_text(value: str) -> str:
    """The text of an attribute's value, white space kept (XML 1.0 3.3.3 turns it into spaces otherwise)."""
    if value.isalnum():
        return value
    text = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return text.replace("\t", "&#9;").replace("\n", "&#10;").replace("\r", "&#13;")


def _element_text(content: str) -> str:
    text = content.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("\r", "&#13;")


def one_spelling(div: str, *, strict: bool = False) -> str:
    """The same narrative in the spelling of this file. Raises XmlError when it is not one div of XHTML."""
    narrative = Narrative(strict=strict)
    parser = secure_parser()
    parser.StartElementHandler = narrative.start
    parser.EndElementHandler = narrative.end
    parser.CharacterDataHandler = narrative.text
    try:
        parse_whole(parser, div.encode("utf-8"))
    except (expat.ExpatError, UnicodeEncodeError) as error:
        raise XmlError("a narrative is not well-formed") from error
    return narrative.whole()


def check_narratives(value: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> None:
    """Refuse a resource with a narrative that R4 2.4.0 does not allow; one that stands in before is nobody's news.

    Raises FhirError(INVALID_BODY).
    """
    found = set(_divs(value))
    if before is not None:
        found -= set(_divs(before))
    for div in found:
        try:
            one_spelling(div, strict=True)
        except XmlError as error:
            raise FhirError(Reason.INVALID_BODY, str(error)) from error


def _divs(value: Any) -> Iterator[str]:
    """Every narrative within; in R4 no other element has this name."""
    level = [value]
    while level:
        one = level.pop()
        if isinstance(one, Mapping):
            if isinstance(one.get("div"), str):
                yield one["div"]
            level.extend(inner for inner in one.values() if isinstance(inner, Mapping | list))
        else:
            level.extend(inner for inner in one if isinstance(inner, Mapping | list))


def _is_at_rest(address: str) -> bool:
    text = re.sub(r"[\x00-\x20]", "", address)  # browsers skip these within a scheme
    scheme = _SCHEME.match(text)
    return scheme is None or scheme[1].lower() in _SCHEMES or text.lower().startswith("data:image/")
