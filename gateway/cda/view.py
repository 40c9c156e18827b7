"""A clinical document as a page that people read, made as its bytes come: header, sections, what else its body is.

Nothing of the document runs or loads anything: its stylesheet is not followed, its elements become ours (narrative),
its text becomes text. The page has a bound, whatever the document is: what is longer is said to be left out.
"""

import binascii
import codecs
import re
from collections.abc import Sequence

from gateway.cda.parser import BlockParser, DocumentError
from gateway.cda.view_facts import MAX_VALUE, Facts
from gateway.cda.view_narrative import Narrative
from gateway.cda.view_page import WITHHELD, beginning, ending, shown

MAX_VIEW_BYTES = 8 * 1024 * 1024
_V3 = "urn:hl7-org:v3"
_BODY = ("component", "structuredBody", "component")
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,127}", re.I)
_LEFT_OUT = "Something in this document is not written as its format asks, and is not shown here. It is in the document."
_TOO_LONG = "This document is too long to be shown whole. The rest is in the document."


class View:
    """One document. feed() and finish() give the page by then, in UTF-8, and raise DocumentError.

    is_withheld may be set until the header is read, and before finish(): parts of the original are not in this copy.
    """

    def __init__(self, *, max_bytes: int = MAX_VIEW_BYTES) -> None:
        self._reader = _Reader(max_bytes)
        self.is_withheld = False

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes."""
        self._reader.is_withheld = self.is_withheld
        self._reader.feed(chunk)
        return self._reader.take()

    def finish(self) -> bytes:
        """There are no more bytes; the rest of the page."""
        self._reader.is_withheld = self.is_withheld
        self._reader.finish()
        return self._reader.take()


class _Section:
    """A section that is open: how deep it stands, how it closes, and what its heading will be."""

    def __init__(self, depth: int, closing: str) -> None:
        self.depth = depth
        self.closing = closing
        self.name = ""
        self.has_heading = False


class _Attached:
    """A body that is not structured: plain text is shown, of everything else it is said what it is."""

    def __init__(self, attributes: dict[str, str]) -> None:
        said = attributes.get("mediaType", "text/plain").strip()
        self.media_type = said.lower() if _MEDIA_TYPE.fullmatch(said) else "an unknown type"
        self.is_base64 = attributes.get("representation") == "B64"
        self.is_shown = self.media_type == "text/plain"
        self.is_broken = False
        self.size = 0
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def text(self, text: str) -> str:
        """The next text of the element: what it says."""
        if not self.is_base64:
            self.size += len(text.encode())
            return text
        said = "".join(text.split())
        if not self.is_shown:
            self.size += len(said.rstrip("="))
            return ""
        said = self._rest + said
        whole = len(said) // 4 * 4
        self._rest = said[whole:]
        try:
            return self._decoder.decode(binascii.a2b_base64(said[:whole].encode(), strict_mode=whole > 0))
        except ValueError:
            self.is_broken = True
            return ""

    @property
    def is_cut_off(self) -> bool:
        """Whether its base64 ended in the middle of a group."""
        return bool(self._rest)

    def told(self) -> str:
        """What is said of a body that is not shown."""
        size = self.size * 3 // 4 if self.is_base64 else self.size
        return f"The body of this document is {self.media_type}, {size} bytes. It is in the document."


class _Reader(BlockParser):
    """Makes the page. take() gives what is new of it."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(stylesheets=True)
        self.is_withheld = False
        self._room = max_bytes
        self._is_full = self._has_left_out = self._is_begun = self._was_told = False
        self._page: list[bytes] = []
        self._closing = ""  # of what holds the narrative, or the text of a body that is not structured
        self._facts = Facts()
        self._names: list[str] = []
        self._sections: list[_Section] = []
        self._title: list[str] | None = None
        self._narrative: tuple[int, Narrative] | None = None
        self._attached: tuple[int, _Attached] | None = None
        self._parser.CharacterDataHandler = self._text

    def take(self) -> bytes:
        """What came to the page since."""
        found = b"".join(self._page)
        self._page.clear()
        return found

    def finish(self) -> None:
        """There are no more bytes."""
        super().finish()
        if not self._is_begun:
            self._begin()
        notices = [WITHHELD] if self.is_withheld and not self._was_told else []
        notices += [_LEFT_OUT] if self._has_left_out else []
        notices += [_TOO_LONG] if self._is_full else []
        self._close(ending(notices))

    def read_start(self, name: str, attributes: Sequence[str], depth: int) -> None:
        """An element begins."""
        namespace, _, local = name.rpartition(" ")
        said = dict(zip(attributes[::2], attributes[1::2], strict=True))
        here = local if namespace == _V3 else ""
        if depth == 0 and here != "ClinicalDocument":
            raise DocumentError("the document is no ClinicalDocument")
        self._names.append(here)
        if self._narrative is not None:
            self._narrative[1].start(here, said)
        elif depth == 1 and here == "component" and not self._is_begun:
            self._begin()
        elif not self._is_begun:
            self._facts.start(tuple(self._names[1:]), said)
        elif self._names[1:] == ["component", "nonXMLBody", "text"]:
            self._attached = depth, _Attached(said)
            if self._attached[1].is_shown:
                self._closing = "</pre>" if self._put("<pre>") else ""
        elif self._attached is not None:
            self._has_left_out = True  # a reference to a body that is somewhere else
        elif self._is_section(depth):
            self._open_heading()
            self._sections.append(_Section(depth, "</section>" if self._put("<section>") else ""))
        elif self._sections and depth == self._sections[-1].depth + 1:
            self._in_section(self._sections[-1], here, said, depth)

    def read_end(self, depth: int) -> None:
        """An element ends."""
        path = tuple(self._names[1:])
        self._names.pop()
        if self._narrative is not None:
            self._end_narrative(*self._narrative, depth)
        elif not self._is_begun:
            self._facts.end(path)
        elif self._attached is not None and depth == self._attached[0]:
            self._end_attached(self._attached[1])
        elif self._sections and depth == self._sections[-1].depth + 1 and self._title is not None:
            self._sections[-1].name = " ".join("".join(self._title).split()) or self._sections[-1].name
            self._title = None
        elif self._sections and depth == self._sections[-1].depth:
            self._open_heading()
            self._close(self._sections.pop().closing)

    def _begin(self) -> None:
        self._is_begun, self._was_told = True, self.is_withheld
        facts = self._facts
        self._close(beginning(facts.title, facts.language, facts.rows(), is_withheld=self.is_withheld))

    def _is_section(self, depth: int) -> bool:
        if self._names[-1] != "section":
            return False
        is_first = depth == len(_BODY) + 1 and tuple(self._names[1:-1]) == _BODY
        is_inner = (
            bool(self._sections) and depth == self._sections[-1].depth + 2 and self._names[-2] == "component"
        )
        return is_first or is_inner

    def _in_section(self, section: _Section, name: str, said: dict[str, str], depth: int) -> None:
        match name:
            case "code":
                section.name = section.name or said.get("displayName", "")[:MAX_VALUE]
            case "title" if not section.has_heading:
                self._title = []
            case "text":
                self._open_heading()
                self._closing = "</div>" if self._put("<div>") else ""
                self._narrative = depth, Narrative(self._put, self._close)
            case _:
                pass

    def _open_heading(self) -> None:
        """The heading of the section that is open, once all is known of it."""
        if not self._sections or self._sections[-1].has_heading:
            return
        section = self._sections[-1]
        section.has_heading = True
        level = min(len(self._sections) + 1, 6)
        self._put(f"<h{level}>{shown(section.name) or 'Section without a title'}</h{level}>")

    def _end_narrative(self, depth: int, narrative: Narrative, ended: int) -> None:
        if ended > depth:
            narrative.end()
            return
        self._has_left_out |= narrative.has_left_out
        self._narrative = None
        self._close(self._closing)

    def _end_attached(self, attached: _Attached) -> None:
        if attached.is_shown:
            self._close(self._closing)
        else:
            self._put(f'<p lang="en">{shown(attached.told())}</p>')
        self._has_left_out |= attached.is_broken or attached.is_cut_off
        self._attached = None

    def _text(self, text: str) -> None:
        if self._narrative is not None:
            self._narrative[1].text(text)
        elif self._attached is not None:
            said = self._attached[1].text(text)
            if self._attached[1].is_shown and said:
                self._put(shown(said))
        elif self._title is not None:
            if sum(map(len, self._title)) < MAX_VALUE:
                self._title.append(text[:MAX_VALUE])
        elif not self._is_begun:
            self._facts.text(text)

    def _put(self, html: str) -> bool:
        """Write it where there is room, with all that it opens."""
        said = html.encode()
        self._is_full = self._is_full or len(said) > self._room
        if not self._is_full:
            self._room -= len(said)
            self._page.append(said)
        return not self._is_full

    def _close(self, html: str) -> None:
        """Write what there is always room for: what closes is no more than what was opened."""
        self._page.append(html.encode())
