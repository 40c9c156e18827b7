"""Expat, fed block by block, without anything that reaches outside a document or multiplies it.

Not a tree: a document may be far larger than memory, and its header is decided on long before its end is there. Expat
is the parser that everything else in Python stands on, it is in the standard library, and all that was ever turned
against it (DTDs, entities) is refused by handlers before it acts. Two more things are bounded here:

- what expat keeps of a token whose end has not come: it holds the whole token, and reads its beginning again with
  every piece. So blocks have one size, whatever the chunks of the network, and a token has at most 64 KiB;
- the encoding: UTF-8 alone, with or without a byte order mark. What a document is cannot hang on who guesses.
"""

from collections.abc import Sequence
from typing import NoReturn
from xml.parsers import expat

MAX_DEPTH = 128
MAX_ATTRIBUTES = 64
MAX_TOKEN_BYTES = 64 * 1024
_MAX_NAMESPACES = 256
_BLOCK = 4096
_INCLUDE = "http://www.w3.org/2001/XInclude"
_ENCODINGS = ("utf-8", "us-ascii")


class DocumentError(Exception):
    """A document that is not taken. The text says why, and holds nothing of the document."""


class BlockParser:
    """Feeds a document to expat and refuses what no clinical document needs. To be extended by what reads elements.

    Names come as 'namespace local'. Every method but read_* raises DocumentError.
    """

    def __init__(self, *, stylesheets: bool) -> None:
        """stylesheets is whether an xml-stylesheet instruction may stand before the document; nobody follows it."""
        self._stylesheets = stylesheets
        self._pending = bytearray()
        self._fed = 0
        self._depth = 0
        self._has_root = False
        self._namespaces = 0
        self.stylesheets: list[int] = []
        """Where, in bytes, each xml-stylesheet instruction begins."""
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.ordered_attributes = True
        parser.buffer_text = False
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._doctype
        parser.ExternalEntityRefHandler = self._doctype
        parser.SkippedEntityHandler = self._doctype
        parser.ProcessingInstructionHandler = self._instruction
        parser.StartNamespaceDeclHandler = self._namespace
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        self._parser = parser

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes, in whatever pieces."""
        self._pending += chunk
        while len(self._pending) >= _BLOCK:
            block = bytes(self._pending[:_BLOCK])
            del self._pending[:_BLOCK]
            self._parse(block, final=False)

    def finish(self) -> None:
        """There are no more bytes."""
        rest = bytes(self._pending)
        self._pending.clear()
        self._parse(rest, final=True)

    @property
    def unread_bytes(self) -> int:
        """How many of the bytes that were taken are not looked at yet."""
        return len(self._pending)

    def read_start(self, name: str, attributes: Sequence[str], depth: int) -> None:
        """An element begins; attributes are names and values in turn, depth is 0 for the root."""

    def read_end(self, depth: int) -> None:
        """An element ends."""

    def read_block(self, fed: int) -> None:
        """A block was read, fed bytes in all."""

    def _parse(self, block: bytes, *, final: bool) -> None:
        if self._fed == 0 and block[:2] in (b"\xff\xfe", b"\xfe\xff", b"\x00<", b"<\x00", b"\x00\x00"):
            raise DocumentError("the document is not in UTF-8")
        self._fed += len(block)
        try:
            self._parser.Parse(block, final)
        except expat.ExpatError as error:
            raise DocumentError(f"the document is not well-formed XML, in line {error.lineno}") from error
        except ValueError as error:  # an encoding that Python does not know
            raise DocumentError("the document is not in UTF-8") from error
        if not final and self._fed - self._parser.CurrentByteIndex > MAX_TOKEN_BYTES:
            raise DocumentError(f"the document has a tag or a comment longer than {MAX_TOKEN_BYTES} bytes")
        self.read_block(self._fed)

    def _start(self, name: str, attributes: list[str]) -> None:
        if self._depth >= MAX_DEPTH:
            raise DocumentError(f"the document is nested deeper than {MAX_DEPTH} elements")
        if len(attributes) > 2 * MAX_ATTRIBUTES:
            raise DocumentError(f"an element of the document has more than {MAX_ATTRIBUTES} attributes")
        if name.startswith(_INCLUDE + " "):
            raise DocumentError("the document has an XInclude")
        self.read_start(name, attributes, self._depth)
        self._has_root = True
        self._depth += 1

    def _end(self, name: str) -> None:
        self._depth -= 1
        self.read_end(self._depth)

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if version != "1.0" or (encoding is not None and encoding.lower() not in _ENCODINGS):
            raise DocumentError("the document must be XML 1.0 in UTF-8")

    def _doctype(self, *_: object) -> NoReturn:
        raise DocumentError("the document has a DOCTYPE or an entity")

    def _instruction(self, target: str, data: str) -> None:
        if not self._stylesheets or target != "xml-stylesheet" or self._has_root:
            raise DocumentError("the document has a processing instruction")
        self.stylesheets.append(self._parser.CurrentByteIndex)

    def _namespace(self, prefix: str | None, uri: str | None) -> None:
        self._namespaces += 1
        if self._namespaces > _MAX_NAMESPACES:
            raise DocumentError(f"the document declares more than {_MAX_NAMESPACES} namespaces")
