"""Decides what of a section goes: the section, or entries of it with the narrative that they refer to.

Where it cannot be told which narrative an entry refers to, the whole section goes: its narrative might hold what the
entry said.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gateway.cda.section_condition import SectionCondition
from gateway.fhir.labels import CONFIDENTIALITY, Label


@dataclass(frozen=True, slots=True)
class Cut:
    """Bytes from start to end, of the whole document, that go; instead is what stands in their place."""

    start: int
    end: int
    instead: bytes = b""


@dataclass(slots=True)
class Narrative:
    """A row, an item, or what carries an ID: it goes with an entry that refers to it."""

    start: int
    instead: bytes = b""
    end: int = 0


@dataclass(slots=True)
class Entry:
    """An entry of a section: the labels that stand anywhere inside it, and what it refers to of a narrative."""

    start: int
    labels: set[Label] = field(default_factory=set)
    refers: set[str] = field(default_factory=set)
    is_annotation: bool = False
    end: int = 0


@dataclass(slots=True)
class Section:
    """A section as far as it was read, with its entries and the blocks of its narrative by the IDs in them."""

    component: int  # where its component begins
    depth: int
    inherited: frozenset[Label]
    labels: set[Label] = field(default_factory=set)
    codes: set[Label] = field(default_factory=set)
    has_text: bool = False
    is_told: bool = False  # its narrative may say what an entry within it, that went, has said
    entries: list[Entry] = field(default_factory=list)
    narrative: dict[str, list[Narrative]] = field(default_factory=dict)

    @property
    def effective(self) -> frozenset[Label]:
        """Its labels, with the confidentiality of what it stands in where it has none of its own."""
        own = any(label.system == CONFIDENTIALITY for label in self.labels)
        return frozenset(self.labels) if own else frozenset(self.labels) | self.inherited


@dataclass(frozen=True, slots=True)
class Going:
    """What of a section goes.

    is_whole  all of it; entries are those that go alone, or were found to before
    is_told   the narrative of the section around it may say what goes: it has none of its own that is cut with it
    """

    cuts: tuple[Cut, ...]
    is_whole: bool = False
    entries: int = 0
    is_told: bool = False


def going_of(
    section: Section, around: Sequence[Section], conditions: Sequence[SectionCondition], end: int
) -> Going:
    """What goes of a section whose component ends there. What one of the conditions shows is shown."""

    def shows(labels: frozenset[Label]) -> bool:
        return any(condition.shows(labels, section.codes) for condition in conditions)

    for entry in section.entries:
        if entry.is_annotation:
            section.labels |= entry.labels
    whole, labels = Cut(section.component, end), section.effective
    if not shows(labels) or (section.is_told and section.has_text):
        return Going((whole,), is_whole=True)
    cuts: list[Cut] = []
    is_told, entries = section.is_told, 0
    for entry in section.entries:
        if entry.is_annotation or not entry.labels:
            continue
        own = any(label.system == CONFIDENTIALITY for label in entry.labels)
        if shows(frozenset(entry.labels) if own else frozenset(entry.labels) | labels):
            continue
        told = [each.narrative.get(name, ()) for each in (section, *around) for name in entry.refers]
        blocks = [block for found in told for block in found]
        if section.has_text and not blocks:
            return Going((whole,), is_whole=True, entries=entries)
        is_told = is_told or not blocks
        cuts.append(Cut(entry.start, entry.end))
        cuts += [Cut(block.start, block.end, block.instead) for block in blocks]
        entries += 1
    return Going(tuple(cuts), entries=entries, is_told=is_told)


def outermost(cuts: Iterable[Cut]) -> list[Cut]:
    """Of cuts that lie within each other the outermost, in the order of the document."""
    found: list[Cut] = []
    for cut in sorted(set(cuts), key=lambda each: (each.start, -each.end)):
        if not found or cut.start >= found[-1].end:
            found.append(cut)
    return found
