"""Reads the body of a clinical document: its sections and entries with their labels and codes, and so what goes.

HL7 CDA R2 4.3, with the privacy annotations of HL7 DS4P: a section says how confidential it is by confidentialityCode,
or else is as confidential as what it stands in; an entry carries the labels that stand anywhere inside it.
"""

import re
from collections.abc import Sequence

from gateway.cda.header import CONFIDENTIALITY_SYSTEM
from gateway.cda.parser import BlockParser, DocumentError
from gateway.cda.section_condition import SectionCondition
from gateway.cda.section_cuts import Cut, Entry, Narrative, Section, going_of, outermost
from gateway.fhir.labels import CONFIDENTIALITY, Label, label_of

_V3 = "urn:hl7-org:v3"
_ANNOTATIONS = frozenset({"2.16.840.1.113883.3.3251.1.4", "2.16.840.1.113883.3.3251.1.9"})
_ROWS = {"tr": b"<tr><td/></tr>", "item": b"<item/>", "paragraph": b"<paragraph/>"}
_CLASSIFICATION = "SECCLASSOBS"  # an observation of how confidential something is
_BODY = ("component", "structuredBody", "component")
_TAG = re.compile(rb"""<[^\s/>]+(?:[^>"']|"[^"]*"|'[^']*')*>""")
MAX_NARRATIVE_IDS = 20_000


class SectionReader(BlockParser):
    """Reads one document and holds its bytes. feed() and finish() raise DocumentError for what is not taken.

    held       the bytes from base on, until somebody takes them
    cuts       what goes, found so far, in the order of the document
    comments   those of the body: where something is cut they go as well, for they name what stood there
    component  where the component of the body that is being read begins: what goes in it is not known yet
    header_id  start and end of the id of the document; header_end is where an element after relatedDocument begins
    has_body   whether the document has sections at all
    """

    def __init__(self, conditions: Sequence[SectionCondition]) -> None:
        """What one of the conditions shows is shown."""
        super().__init__(stylesheets=True)
        self._conditions = tuple(conditions)
        self.held = bytearray()
        self.base = 0
        self.cuts: list[Cut] = []
        self.component: int | None = None
        self.header_id: tuple[int, int] | None = None
        self.header_end: int | None = None
        self.id_of: dict[str, str] = {}
        self.has_body: bool | None = None
        self.is_signed = False
        self.is_dropping = False
        self.sections_cut = self.entries_cut = self.components_left = 0
        self.last_component_end = 0
        self.comments: list[Cut] = []
        self._parser.CommentHandler = self._comment
        self._names: list[str] = []
        self._starts: list[int] = []
        self._sections: list[Section] = []
        self._document: frozenset[Label] = frozenset()
        self._rows: list[tuple[int, Narrative]] = []
        self._named: list[tuple[int, Narrative]] = []
        self._ids = 0
        self._observation: tuple[int, str] | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes, in whatever pieces."""
        self.held += chunk
        super().feed(chunk)

    @property
    def read_to(self) -> int:
        """Where what was not read yet begins."""
        return self._parser.CurrentByteIndex

    def drop_component(self) -> None:
        """The component that is being read is too large to be cut in parts: all of it goes."""
        self.is_dropping = True

    def let_go(self, upto: int) -> None:
        """Forget the bytes before that place."""
        if upto > self.base:
            del self.held[: upto - self.base]
            self.base = upto

    def read_start(self, name: str, attributes: Sequence[str], depth: int) -> None:
        """An element begins."""
        namespace, _, local = name.rpartition(" ")
        at = self._parser.CurrentByteIndex
        said = dict(zip(attributes[::2], attributes[1::2], strict=True))
        if local == "Signature" or local == "signatureText":
            self.is_signed = True
        name_here = local if namespace == _V3 else ""
        self._names.append(name_here)
        self._starts.append(at)
        if depth == 1:
            self._in_header(name_here, said, at)
        elif depth == 2 and self._names[1:] in (["component", "structuredBody"], ["component", "nonXMLBody"]):
            self.has_body = name_here == "structuredBody"
        elif depth == 3 and tuple(self._names[1:]) == _BODY:
            self.component = at
        elif self.is_dropping:
            pass
        elif self._sections and depth <= self._sections[-1].depth:
            raise DocumentError("a component of the body holds more than its section")
        elif name_here == "section":
            if not self._is_in_place(depth):
                raise DocumentError("a section stands outside of a component of the body")
            inherited = self._sections[-1].effective if self._sections else self._document
            self._sections.append(Section(self._starts[-2], depth, inherited))
        elif self._sections:
            self._in_section(self._sections[-1], name_here, said, depth, at)

    def _is_in_place(self, depth: int) -> bool:
        """Whether the section that begins is the child of a component of the body, or of a section's."""
        if self._names[-2] != "component":
            return False
        return (
            depth == self._sections[-1].depth + 2
            if self._sections
            else depth == 4 and self.component is not None
        )

    def read_end(self, depth: int) -> None:
        """An element ends."""
        name, start = self._names.pop(), self._starts.pop()
        end = None
        while self._rows and self._rows[-1][0] == depth:
            end = self._end_of(start)
            self._rows.pop()[1].end = end
        while self._named and self._named[-1][0] == depth:
            end = self._end_of(start)
            self._named.pop()[1].end = end
        if self._observation is not None and self._observation[0] == depth:
            self._observation = None
        if depth == 1 and name == "id" and self.header_id is not None and not self.header_id[1]:
            self.header_id = (start, self._end_of(start))
        section = self._sections[-1] if self._sections else None
        if section is None or self.is_dropping:
            pass
        elif name == "entry" and depth == section.depth + 1:
            section.entries[-1].end = self._end_of(start)
        elif name == "component" and depth == section.depth - 1:
            self._decide(self._sections.pop(), self._end_of(start))
        if depth == 3 and self.component is not None:
            self.last_component_end = self._end_of(start)
            if self.is_dropping:
                self._cut_whole(self.component, self.last_component_end)
                self._sections.clear()
                self.is_dropping = False
            self.components_left += not any(cut.start == self.component for cut in self.cuts)
            self.component = None

    def _comment(self, text: str) -> None:
        at = self._parser.CurrentByteIndex
        if self.header_end is not None and at >= self.base:
            end = self.held.index(b"-->", at - self.base) + 3 + self.base
            self.comments.append(Cut(at, end))

    def cut_comments(self) -> None:
        """Cut the comments of the body that were found so far."""
        if self.comments:
            self.cuts = outermost((*self.cuts, *self.comments))
            self.comments = []

    def _in_header(self, name: str, said: dict[str, str], at: int) -> None:
        if name == "id" and self.header_id is None:
            self.header_id, self.id_of = (at, 0), said
        elif name == "confidentialityCode":
            self._document = frozenset({_label(said)})
        elif name in ("authorization", "componentOf", "component") and self.header_end is None:
            self.header_end = at

    def _in_section(self, section: Section, name: str, said: dict[str, str], depth: int, at: int) -> None:
        below = depth - section.depth
        place = self._names[section.depth + 1]  # the child of the section that this stands in
        if below == 1:
            self._child(section, name, said, at)
        elif place == "code" and name == "translation":
            section.codes.add(label_of(_system(said), said.get("code", "")))
        elif place == "text":
            self._in_narrative(section, name, said, depth, at)
        elif place == "entry":
            self._in_entry(section, section.entries[-1], name, said, depth)

    def _child(self, section: Section, name: str, said: dict[str, str], at: int) -> None:
        match name:
            case "confidentialityCode":
                section.labels.add(_label(said))
            case "code":
                section.codes.add(label_of(_system(said), said.get("code", "")))
            case "text":
                section.has_text = True
            case "entry":
                section.entries.append(Entry(at))
            case _:
                pass

    def _in_narrative(self, section: Section, name: str, said: dict[str, str], depth: int, at: int) -> None:
        if name in _ROWS:
            self._rows.append((depth, Narrative(at, _ROWS[name])))
        names = [said["ID"]] if "ID" in said else []
        names += said.get("referencedObject", "").split() if name == "renderMultiMedia" else []
        if not names or self._ids >= MAX_NARRATIVE_IDS:
            return
        self._ids += len(names)
        if self._rows:
            block = self._rows[-1][1]
        else:
            block = Narrative(at)
            self._named.append((depth, block))
        for each in names:
            section.narrative.setdefault(each, []).append(block)

    def _in_entry(self, section: Section, entry: Entry, name: str, said: dict[str, str], depth: int) -> None:
        if "ID" in said:  # what a narrative shows of it
            entry.refers.add(said["ID"])
        match name:
            case "confidentialityCode":
                entry.labels.add(_label(said))
            case "reference" if said.get("value", "").startswith("#"):
                entry.refers.add(said["value"][1:])
            case "templateId" if said.get("root") in _ANNOTATIONS and depth == section.depth + 3:
                entry.is_annotation = True
            case "code" if self._names[-2] == "observation" and _is_of_security(said.get("code", "")):
                self._observation = depth - 1, said["code"]
            case "value" if self._observation is not None and self._observation[0] == depth - 1:
                says = self._observation[1]
                system = CONFIDENTIALITY if says == _CLASSIFICATION else _system(said)
                entry.labels.add(label_of(system, said.get("code", "").strip()))
            case _:
                pass

    def _decide(self, section: Section, end: int) -> None:
        """Cut what of a section, whose component ends here, is not shown."""
        going = going_of(section, self._sections, self._conditions, end)
        self.entries_cut += going.entries
        self.sections_cut += going.is_whole
        if going.is_told and self._sections:
            self._sections[-1].is_told = True
        self.cuts = outermost((*self.cuts, *going.cuts))

    def _cut_whole(self, start: int, end: int) -> None:
        self.sections_cut += 1
        self.cuts = outermost((*self.cuts, Cut(start, end)))

    def _end_of(self, start: int) -> int:
        """Where the element that began there, and of which expat says now that it ends, has its last byte."""
        at = self._parser.CurrentByteIndex
        tag = _TAG.match(self.held, start - self.base) if start >= self.base else None  # else it has content
        if tag is not None and tag.end() + self.base == at and tag[0].endswith(b"/>"):
            return at
        return self.held.index(b">", at - self.base) + 1 + self.base


def _label(said: dict[str, str]) -> Label:
    """A confidentialityCode; one that says nothing, or is of another system, is above every known one."""
    is_known = said.get("codeSystem", "").strip() in ("", CONFIDENTIALITY_SYSTEM)
    return label_of(CONFIDENTIALITY, said.get("code", "").strip() if is_known else "")


def _system(said: dict[str, str]) -> str:
    return f"urn:oid:{said.get('codeSystem', '').strip()}"


def _is_of_security(code: str) -> bool:
    """Whether an observation of this code says a label (v3-ActCode, SecurityObservationType)."""
    return code.startswith("SEC") and code.endswith("OBS")
