"""Expat without anything that reaches outside the document or multiplies it: no DTD, no entity, no instruction.

XML 1.0 in UTF-8. What FHIR XML has no use for is refused as soon as it is seen, since each has been an attack on some
reader: DOCTYPE (external files, entities in entities), processing instructions, other encodings, CDATA aside, depth
and attributes without bound.
"""

from typing import NoReturn
from xml.parsers import expat
from xml.parsers.expat import XMLParserType

MAX_DEPTH = 64  # elements within elements
MAX_ATTRIBUTES = 32  # of one element
_BOM = b"\xef\xbb\xbf"
_MAX_NAMESPACES = 64  # declarations in a document


class XmlError(Exception):
    """A document that is not taken, and why."""


def secure_parser() -> XMLParserType:
    """A parser that raises XmlError for what is never taken. Names come as 'namespace local', attributes as a list.

    The whole document goes in by one call: of a long token in pieces, older versions of expat read the beginning
    again with each of them.
    """
    parser = expat.ParserCreate("utf-8", " ")
    parser.ordered_attributes = True
    parser.buffer_text = True
    parser.XmlDeclHandler = _declaration
    parser.StartDoctypeDeclHandler = _doctype
    parser.EntityDeclHandler = _doctype
    parser.ExternalEntityRefHandler = _doctype
    parser.SkippedEntityHandler = _doctype
    parser.ProcessingInstructionHandler = _instruction
    declared = 0

    def namespace(prefix: str | None, uri: str | None) -> None:
        nonlocal declared
        declared += 1
        if declared > _MAX_NAMESPACES:
            raise XmlError(f"the XML declares more than {_MAX_NAMESPACES} namespaces")

    parser.StartNamespaceDeclHandler = namespace
    return parser


def parse_whole(parser: XMLParserType, content: bytes) -> None:
    """Parse the document. Raises XmlError, what the handlers raise, and expat.ExpatError for what is not well-formed.

    Expat believes a UTF-16 mark, or a NUL behind the first '<', whatever encoding it was told: both are kept from it.
    """
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise XmlError("the XML is not UTF-8") from error
    if content.startswith(_BOM):
        raise XmlError("the XML begins with a byte order mark")
    if b"\0" in content:
        raise XmlError("the XML holds a NUL")
    parser.Parse(content, True)


def _declaration(version: str, encoding: str | None, standalone: int) -> None:
    if version != "1.0" or (encoding is not None and encoding.lower() != "utf-8"):
        raise XmlError("the XML must be version 1.0 in UTF-8")


def _doctype(*_: object) -> NoReturn:
    raise XmlError("the XML has a DOCTYPE or an entity, which FHIR has no use for")


def _instruction(*_: object) -> NoReturn:
    raise XmlError("the XML has a processing instruction, which FHIR has no use for")
