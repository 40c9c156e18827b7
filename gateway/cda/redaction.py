"""A clinical document without what of its body is not shown, as its bytes come. The original is never touched.

A document that fits into what is held is looked at whole before anything goes out, and one of which nothing is cut
goes out byte for byte. A longer one streams, component by component of its body; that something was cut is then not
known when its header goes out, and the header says that it may have been.

A copy of which something was cut has an id of its own and names the original (relatedDocument XFRM, HL7 CDA R2
4.2.3.8); a comment says that a signature of the original does not cover it. An unstructured body is not looked into:
its header speaks for it.
"""

from collections.abc import Sequence
from hashlib import sha256
from xml.sax.saxutils import quoteattr

from gateway.cda.parser import DocumentError
from gateway.cda.section_condition import SectionCondition
from gateway.cda.section_cuts import Cut
from gateway.cda.sections import SectionReader

HELD_BYTES = 4 * 1024 * 1024
MAX_COMPONENT_BYTES = 16 * 1024 * 1024
_V3 = "urn:hl7-org:v3"
_NOTICE = b"<!-- Parts of the original were withheld from this copy. Signatures of the original do not cover it. -->"
_UNKNOWN = ' nullFlavor="UNK"'
_EMPTY = (
    b'<component xmlns="urn:hl7-org:v3"><section nullFlavor="MSK"><title>Withheld</title>'
    b"<text>Withheld</text></section></component>"
)


class Redaction:
    """One document on its way out: shown is what one of the conditions shows.

    feed() and finish() give what goes out by then and raise DocumentError. sections_cut and entries_cut are counts,
    is_signed is whether the original carries a signature; all is known when finish() has returned.
    """

    def __init__(
        self,
        conditions: Sequence[SectionCondition],
        *,
        held_bytes: int = HELD_BYTES,
        max_component_bytes: int = MAX_COMPONENT_BYTES,
    ) -> None:
        self._reader = SectionReader(conditions)
        self._conditions = tuple(conditions)
        self._held_bytes = held_bytes
        self._max_component_bytes = max_component_bytes
        self._streams = False
        self._has_marks = False

    @property
    def is_changed(self) -> bool:
        """Whether the copy differs from the original."""
        return self._has_marks

    @property
    def sections_cut(self) -> int:
        """How many sections went, those within others not counted."""
        return self._reader.sections_cut

    @property
    def entries_cut(self) -> int:
        """How many entries went from sections that are shown."""
        return self._reader.entries_cut

    @property
    def is_signed(self) -> bool:
        """Whether the original carries a signature."""
        return self._reader.is_signed

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes; what may go out."""
        reader = self._reader
        reader.feed(chunk)
        if not self._streams and reader.base + len(reader.held) > self._held_bytes:
            self._streams = True
            if reader.has_body is None:
                raise DocumentError(f"the header of the document is longer than {self._held_bytes} bytes")
            if reader.has_body:
                self._mark()
        if self._has_marks:
            reader.cut_comments()
        return self._taken() if self._streams else b""

    def finish(self) -> bytes:
        """There are no more bytes; the rest of what goes out."""
        reader = self._reader
        reader.finish()
        if not self._streams and reader.cuts:
            self._mark()
        if self._has_marks:
            reader.cut_comments()
        if reader.last_component_end and reader.sections_cut and not reader.components_left:
            self._put(Cut(reader.last_component_end, reader.last_component_end, _EMPTY))
        return self._out(reader.base + len(reader.held))

    def _taken(self) -> bytes:
        """What is decided on: all before the component that is being read, or before what is not read yet."""
        reader = self._reader
        if reader.component is None:
            # Where all went so far, one that says so may have to stand in its place.
            waits = reader.last_component_end if reader.sections_cut and not reader.components_left else None
            return self._out(reader.read_to if waits is None else waits)
        out = self._out(reader.component) if reader.base < reader.component else b""
        if reader.is_dropping or len(reader.held) > self._max_component_bytes:
            reader.drop_component()
            reader.let_go(reader.read_to)
        return out

    def _mark(self) -> None:
        """Give the copy an id of its own, and name the original in it."""
        reader = self._reader
        if reader.header_id is None or reader.header_end is None:
            raise DocumentError("the document has no id, or no body after its header")
        self._has_marks = True
        original = reader.id_of
        names = "".join(
            f" {name}={quoteattr(original[name])}" for name in ("root", "extension") if name in original
        )
        digest = sha256(f"{names} {sorted(each.text for each in self._conditions)}".encode()).digest()
        start, end = reader.header_id
        self._put(Cut(start, end, f'<id xmlns="{_V3}" root="{_uuid(digest)}"/>'.encode()))
        parent = f"<parentDocument><id{names or _UNKNOWN}/></parentDocument>"
        related = f'<relatedDocument xmlns="{_V3}" typeCode="XFRM">{parent}</relatedDocument>'
        self._put(Cut(reader.header_end, reader.header_end, _NOTICE + related.encode()))

    def _put(self, cut: Cut) -> None:
        self._reader.cuts = sorted([*self._reader.cuts, cut], key=lambda each: (each.start, each.end))

    def _out(self, upto: int) -> bytes:
        """The bytes before that place, without what was cut."""
        reader = self._reader
        out = bytearray()
        at = reader.base
        rest = []
        for cut in reader.cuts:
            if cut.end > upto:
                rest.append(cut)
                continue
            out += reader.held[at - reader.base : max(cut.start, at) - reader.base]
            out += cut.instead
            at = max(at, cut.end)
        out += reader.held[at - reader.base : max(upto, at) - reader.base]
        reader.let_go(max(upto, at))
        reader.cuts = rest
        return bytes(out)


def _uuid(digest: bytes) -> str:
    """A UUID of version 8 (RFC 9562 5.8) out of a digest: the same copy of a document has the same id."""
    value = int.from_bytes(digest[:16], "big")
    value = value & ~(0xF << 76) | 8 << 76
    value = value & ~(3 << 62) | 2 << 62
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
