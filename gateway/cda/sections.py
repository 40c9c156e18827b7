"""Finds what of a clinical document's body is not shown: sections and entries by their labels and codes.

HL7 CDA R2 4.3, with the privacy annotations of HL7 DS4P: a section says how confidential it is by confidentialityCode,
or else is as confidential as what it stands in; an entry carries the labels that stand anywhere inside it. An entry
goes with the narrative that it refers to. Where that cannot be told, the whole section goes: its narrative might hold
what the entry said.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from gateway.cda.header import CONFIDENTIALITY_SYSTEM
from gateway.cda.parser import BlockParser, DocumentError
from gateway.fhir.labels import CONFIDENTIALITY, Label, LabelCondition, label_of

_V3 = "urn:hl7-org:v3"
_ANNOTATIONS = frozenset({"2.16.840.1.113883.3.3251.1.4", "2.16.840.1.113883.3.3251.1.9"})
_ROWS = {"tr": b"<tr><td/></tr>", "item": b"<item/>", "paragraph": b"<paragraph/>"}
_CLASSIFICATION = "SECCLASSOBS"  # an observation of how confidential something is
_BODY = ("component", "structuredBody", "component")
_TAG = re.compile(rb"""<[^\s/>]+(?:[^>"']|"[^"]*"|'[^']*')*>""")
MAX_NARRATIVE_IDS = 20_000


@dataclass(frozen=True, slots=True)
class SectionCondition:
    """Which sections and entries are shown: those whose labels are as asked and whose code is none of these.

    codes are of sections, as labels of 'urn:oid:…' systems.
    """

    labels: LabelCondition
    codes: frozenset[Label] = frozenset()

    @property
    def text(self) -> str:
        """The condition as text, the same in every process."""
        wanted, without = self.labels, sorted((each.system, each.code) for each in self.labels.without)
        return (
            f"{wanted.at_most} {wanted.unlabelled} {without} {sorted((c.system, c.code) for c in self.codes)}"
        )

    def shows(self, labels: frozenset[Label], codes: Collection[Label]) -> bool:
        """Whether something with these labels is shown; codes are those of its section, translations among them."""
        return self.codes.isdisjoint(codes) and self.labels.holds_for(labels)


@dataclass(frozen=True, slots=True)
class Cut:
    """Bytes from start to end, of the whole document, that go; instead is what stands in their place."""

    start: int
    end: int
    instead: bytes = b""


@dataclass(slots=True)
class _Narrative:
    """A row, an item, or what carries an ID: it goes with an entry that refers to it."""

    start: int
    instead: bytes = b""
    end: int = 0


@dataclass(slots=True)
class _Entry:
    start: int
    labels: set[Label] = field(default_factory=set)
    refers: set[str] = field(default_factory=set)
    is_annotation: bool = False
    end: int = 0


@dataclass(slots=True)
class _Section:
    component: int  # where its component begins
    depth: int
    inherited: frozenset[Label]
    labels: set[Label] = field(default_factory=set)
    codes: set[Label] = field(default_factory=set)
    has_text: bool = False
    is_told: bool = False  # its narrative may say what an entry within it, that went, has said
    entries: list[_Entry] = field(default_factory=list)
    narrative: dict[str, list[_Narrative]] = field(default_factory=dict)

    @property
    def effective(self) -> frozenset[Label]:
        """Its labels, with the confidentiality of what it stands in where it has none of its own."""
        own = any(label.system == CONFIDENTIALITY for label in self.labels)
        return frozenset(self.labels) if own else frozenset(self.labels) | self.inherited


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
        self._sections: list[_Section] = []
        self._document: frozenset[Label] = frozenset()
        self._rows: list[tuple[int, _Narrative]] = []
        self._named: list[tuple[int, _Narrative]] = []
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
            self._sections.append(_Section(self._starts[-2], depth, inherited))
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
            self._add(self.comments)
            self.comments = []

    def _in_header(self, name: str, said: dict[str, str], at: int) -> None:
        if name == "id" and self.header_id is None:
            self.header_id, self.id_of = (at, 0), said
        elif name == "confidentialityCode":
            self._document = frozenset({_label(said)})
        elif name in ("authorization", "componentOf", "component") and self.header_end is None:
            self.header_end = at

    def _in_section(self, section: _Section, name: str, said: dict[str, str], depth: int, at: int) -> None:
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

    def _child(self, section: _Section, name: str, said: dict[str, str], at: int) -> None:
        match name:
            case "confidentialityCode":
                section.labels.add(_label(said))
            case "code":
                section.codes.add(label_of(_system(said), said.get("code", "")))
            case "text":
                section.has_text = True
            case "entry":
                section.entries.append(_Entry(at))
            case _:
                pass

    def _in_narrative(self, section: _Section, name: str, said: dict[str, str], depth: int, at: int) -> None:
        if name in _ROWS:
            self._rows.append((depth, _Narrative(at, _ROWS[name])))
        names = [said["ID"]] if "ID" in said else []
        names += said.get("referencedObject", "").split() if name == "renderMultiMedia" else []
        if not names or self._ids >= MAX_NARRATIVE_IDS:
            return
        self._ids += len(names)
        if self._rows:
            block = self._rows[-1][1]
        else:
            block = _Narrative(at)
            self._named.append((depth, block))
        for each in names:
            section.narrative.setdefault(each, []).append(block)

    def _in_entry(
        self, section: _Section, entry: _Entry, name: str, said: dict[str, str], depth: int
    ) -> None:
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

    def _decide(self, section: _Section, end: int) -> None:
        """Cut what of a section, whose component ends here, is not shown."""
        for entry in section.entries:
            if entry.is_annotation:
                section.labels |= entry.labels
        labels = section.effective
        if not self._shows(labels, section) or (section.is_told and section.has_text):
            self._cut_whole(section.component, end)
            return
        self._pass_on(section.is_told)
        cuts = []
        for entry in section.entries:
            if entry.is_annotation or not entry.labels:
                continue
            own = any(label.system == CONFIDENTIALITY for label in entry.labels)
            seen = frozenset(entry.labels) if own else frozenset(entry.labels) | labels
            if self._shows(seen, section):
                continue
            around = (section, *self._sections)
            told = [each.narrative.get(name, ()) for each in around for name in entry.refers]
            blocks = [block for found in told for block in found]
            if section.has_text and not blocks:
                self._cut_whole(section.component, end)
                return
            self._pass_on(not blocks)
            cuts.append(Cut(entry.start, entry.end))
            cuts += [Cut(block.start, block.end, block.instead) for block in blocks]
            self.entries_cut += 1
        self._add(cuts)

    def _pass_on(self, is_told: bool) -> None:
        """What has no narrative of its own may be told by that of the section around it."""
        if is_told and self._sections:
            self._sections[-1].is_told = True

    def _shows(self, labels: frozenset[Label], section: _Section) -> bool:
        return any(condition.shows(labels, section.codes) for condition in self._conditions)

    def _cut_whole(self, start: int, end: int) -> None:
        self.sections_cut += 1
        self._add([Cut(start, end)])

    def _add(self, cuts: list[Cut]) -> None:
        """Keep the outermost of cuts that lie within each other."""
        found: list[Cut] = []
        for cut in sorted({*self.cuts, *cuts}, key=lambda each: (each.start, -each.end)):
            if not found or cut.start >= found[-1].end:
                found.append(cut)
        self.cuts = found

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
