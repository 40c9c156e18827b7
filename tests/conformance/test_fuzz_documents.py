"""Clinical documents under a fuzzer: header, redaction and page against a parser that makes a tree (ElementTree).

Documents are made at random, with words of their own in every section and entry, and then cut, doubled, moved and
spoilt. What the header reader takes, the tree says too. A copy is always well-formed, and no word that stands only
where nothing is shown is in it: raw, by reference, in CDATA, in a comment, in an attribute, or in base64.
"""

import base64
import re
from copy import deepcopy
from random import Random
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cda.header import CONFIDENTIALITY_SYSTEM, Code, DocumentOrganization, Header, InstanceIdentifier
from gateway.cda.header_reader import HeaderReader
from gateway.cda.parser import DocumentError
from gateway.cda.redaction import Redaction
from gateway.cda.section_condition import SectionCondition
from gateway.cda.view import View
from gateway.fhir.labels import ORDER, LabelCondition
from tests.support.documents import document
from tests.unit.test_cda_view import Page

V3 = "{urn:hl7-org:v3}"
NORMAL = SectionCondition(LabelCondition(at_most=ORDER.index("N"), unlabelled=ORDER.index("N")))
OPEN = ("U", "L", "M", "N")
SPOILS = (
    b"<!--", b"-->", b"<![CDATA[", b"]]>", b"&#0;", b"&x;", b"\0", b"\xef\xbb\xbf", b"<?x?>", b"<!DOCTYPE x>", b"/>", b"<",
    b">", b'"', b"'", b"</section>", b"</component>", b"<component><section>", b"<entry>", b' xmlns="urn:x"', b' ID="n1"',
    b"<recordTarget>", b"</recordTarget>", b'<id root="1.2.3" extension="9"/>', b"<confidentialityCode code='R'/>",
    b"<confidentialityCode code='N'/>", b"&lt;", b"\xff", b"<x:id xmlns:x='urn:hl7-org:v3' root='1.9'/>",
)  # fmt: skip
WORD = re.compile(rb"mk[0-9]+x")


class Maker:
    """Makes documents; each place in one has a word of its own."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.count = 0

    def word(self) -> str:
        """A word that stands nowhere else, in one of the forms that XML has for it."""
        self.count += 1
        word = f"mk{self.count}x"
        return self.random.choice(
            (
                word,
                f"&#109;k{self.count}x",
                f"m&#x6b;{self.count}x",
                f"<![CDATA[{word}]]>",
                f"<content ID='w{self.count}' styleCode='{word}'>{word}</content>",
                f"<!-- {word} -->{word}",
                f"<observationMedia><value>{base64.b64encode(f'..{word}..'.encode()).decode()}</value></observationMedia>",
            )
        )

    def label(self) -> str:
        """A label of a section or an entry, or none."""
        code = self.random.choice(("", "", "N", "L", "R", "V", "X"))
        system = self.random.choice((CONFIDENTIALITY_SYSTEM,) * 5 + ("1.2.3",))
        return f'<confidentialityCode code="{code}" codeSystem="{system}"/>' if code else ""

    def entry(self) -> tuple[str, str]:
        """An entry, and the part of the narrative that it refers to."""
        self.count += 1
        name = f"n{self.count}"
        refers = self.random.choice((f'<text><reference value="#{name}"/></text>', ""))
        row = f'<tr><td ID="{name}">{self.word()}</td></tr>'
        return f"<entry><act>{refers}{self.label()}{self.word()}</act></entry>", row

    def component(self, depth: int) -> str:
        """A section, with entries and sections in it."""
        entries = [self.entry() for _ in range(self.random.randrange(3))]
        rows = "".join(row for _, row in entries)
        text = (
            f"<text>{self.word()}<table><tbody>{rows}<tr><td>{self.word()}</td></tr></tbody></table></text>"
        )
        inner = "".join(self.component(depth + 1) for _ in range(self.random.randrange(3 - depth)))
        parts = [f"<title>{self.word()}</title>", text, *(entry for entry, _ in entries)]
        parts.insert(self.random.randrange(len(parts) + 1), self.label())
        return f"<component><section>{''.join(parts)}{inner}</section></component>"

    def document(self) -> bytes:
        """A whole document."""
        sections = "".join(self.component(0) for _ in range(self.random.randrange(1, 4)))
        level = self.random.choice(("N", "N", "R"))
        return document(
            confidentiality=f'<confidentialityCode code="{level}" codeSystem="{CONFIDENTIALITY_SYSTEM}"/>',
            body=f"<structuredBody>{sections}</structuredBody>",
        )

    def reshaped(self, content: bytes) -> bytes:
        """The same, still well-formed, with one to three elements moved, doubled, left out or renamed."""
        random, root = self.random, tree_of(content)
        for _ in range(random.randrange(1, 4)):
            parents = [each for each in root.iter() if len(each)]
            parent, other = random.choice(parents), random.choice(parents)
            child = parent[random.randrange(len(parent))]
            if parent is root and child.tag == f"{V3}component":
                continue
            match random.randrange(5):
                case 0:
                    parent.remove(child)
                case 1 if other not in list(child.iter()):
                    parent.remove(child)
                    other.insert(random.randrange(len(other) + 1), child)
                case 2 if other not in list(child.iter()):
                    other.insert(random.randrange(len(other) + 1), deepcopy(child))
                case 3 if child.tag is not ElementTree.Comment:
                    child.tag = random.choice([each.tag for each in parents])
                case _ if child.attrib:
                    child.attrib.pop(random.choice(sorted(child.attrib)))
                case _:
                    pass
        return ElementTree.tostring(root)

    def spoilt(self, content: bytes) -> bytes:
        """The same with one to three things gone wrong."""
        random = self.random
        if random.random() < 0.7:
            return self.reshaped(content)
        for _ in range(random.randrange(1, 4)):
            at, other = sorted(random.randrange(len(content) + 1) for _ in range(2))
            end = min(other, at + random.choice((1, 20, 400)))
            piece = content[at:end]
            if random.random() < 0.5:  # between tags, where it does not break at once
                at = content.find(b"<", at) if content.find(b"<", at) >= 0 else at
            match random.randrange(4):
                case 0:
                    content = content[:at] + content[at + len(piece) :]
                case 1:
                    content = content[:at] + piece + content[at:]
                case 2:
                    content = content[:at] + random.choice(SPOILS) + content[at:]
                case _:
                    tags = re.findall(rb"<[^<>]+>[^<>]*", content)
                    content = content[:at] + random.choice(tags) + content[at:]
        return content


def pieces(random: Random, content: bytes) -> list[bytes]:
    """The content in pieces."""
    size = random.choice((1, 7, 1000, 4096, 5000, 1 << 20))
    return [content[at : at + size] for at in range(0, len(content), size)]


def tree_of(content: bytes) -> ElementTree.Element:
    """The tree, with comments. Raises ParseError."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    return ElementTree.fromstring(content, parser)


def header_in(root: ElementTree.Element) -> Header:
    """What the tree says of the header."""

    def identifiers(parent: ElementTree.Element) -> tuple[InstanceIdentifier, ...]:
        found = [
            (e.get("root", "").strip(), e.get("extension", "").strip()) for e in parent.findall(f"{V3}id")
        ]
        return tuple(InstanceIdentifier(*each) for each in found if each[0])

    def organization(parent: ElementTree.Element) -> DocumentOrganization:
        name = parent.find(f"{V3}name")
        text = "" if name is None else "".join(_texts(name))
        return DocumentOrganization(identifiers(parent), text.strip())

    def code(name: str) -> Code | None:
        found = root.find(f"{V3}{name}")
        return (
            None
            if found is None
            else Code(found.get("code", "").strip(), found.get("codeSystem", "").strip())
        )

    bodies = [e for e in root.findall(f"{V3}component/*") if e.tag is not ElementTree.Comment]
    time, language = root.find(f"{V3}effectiveTime"), root.find(f"{V3}languageCode")
    custodians = root.findall(f"{V3}custodian/{V3}assignedCustodian/{V3}representedCustodianOrganization")
    return Header(
        record_targets=tuple(
            tuple(i for role in target.findall(f"{V3}patientRole") for i in identifiers(role))
            for target in root.findall(f"{V3}recordTarget")
        ),
        confidentiality=code("confidentialityCode"),
        code=code("code"),
        authors=tuple(
            organization(each)
            for each in root.findall(f"{V3}author/{V3}assignedAuthor/{V3}representedOrganization")
        ),
        custodian=organization(custodians[-1]) if custodians else None,
        effective_time="" if time is None else time.get("value", "").strip(),
        id=next(iter(identifiers(root)), None),
        language="" if language is None else language.get("code", "").strip(),
        consents=tuple(
            i for each in root.findall(f"{V3}authorization/{V3}consent") for i in identifiers(each)
        ),
        is_unstructured=bool(bodies) and bodies[0].tag == f"{V3}nonXMLBody",
    )


def _texts(element: ElementTree.Element) -> list[str]:
    """The text in an element; what stands in comments is none."""
    found = [element.text or ""] if element.tag is not ElementTree.Comment else []
    for child in element:
        found += [*_texts(child), child.tail or ""]
    return found


def read(parts: list[bytes]) -> Header | None:
    """What the header reader takes. Raises DocumentError."""
    reader = HeaderReader()
    for part in parts:
        reader.feed(part)
    reader.finish()
    return reader.header


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_a_header_that_is_taken_is_the_one_in_the_tree(random: Random) -> None:
    maker = Maker(random)
    whole = maker.document()
    assert read(pieces(random, whole)) == header_in(tree_of(whole))
    content = maker.spoilt(whole)
    try:
        found = read(pieces(random, content))
    except DocumentError:
        return
    root = tree_of(content)
    assert found is not None
    assert found == header_in(root)


# What is not shown


def words_in(element: ElementTree.Element) -> set[bytes]:
    """The words in everything of an element: text, attributes, comments, base64."""
    found = set()
    for each in element.iter():
        for text in (each.text or "", *(child.tail or "" for child in each), *each.attrib.values()):
            content = text.encode()
            found |= set(WORD.findall(content)) | set(WORD.findall(_decoded(content)))
    return found


def _decoded(content: bytes) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except ValueError:
        return b""


def is_closed(codes: list[ElementTree.Element]) -> bool:
    """Whether one of these confidentiality codes is above N, or of nobody knows what."""
    return any(
        each.get("code", "").strip() not in OPEN or each.get("codeSystem", "").strip() not in ("", CONFIDENTIALITY_SYSTEM)
        for each in codes
    )  # fmt: skip


def hidden_words(root: ElementTree.Element) -> set[bytes]:
    """The words that stand where nothing may be shown, and nowhere else."""
    hidden: set[bytes] = set()
    removed: list[tuple[ElementTree.Element, ElementTree.Element]] = []

    def look(component: ElementTree.Element, parent: ElementTree.Element, above: bool) -> None:
        for section in component.findall(f"{V3}section"):
            own = section.findall(f"{V3}confidentialityCode")
            closed = is_closed(own) if own else above
            if closed:
                removed.append((component, section))
                continue
            for entry in section.findall(f"{V3}entry"):
                if is_closed(list(entry.iter(f"{V3}confidentialityCode"))):
                    removed.append((section, entry))
            for child in section.findall(f"{V3}component"):
                look(child, section, closed)

    top = is_closed(root.findall(f"{V3}confidentialityCode"))
    for body in root.findall(f"{V3}component/{V3}structuredBody"):
        for component in body.findall(f"{V3}component"):
            look(component, body, top)
    for parent, child in removed:
        hidden |= words_in(child)
        parent.remove(child)
    return hidden - words_in(root)


def copy_of(random: Random, content: bytes) -> bytes:
    """The copy, in whatever pieces and with whatever is held. Raises DocumentError."""
    held = random.choice((1 << 22, 9000, 4200))
    largest = random.choice((1 << 24, 9000, 4200))
    redaction = Redaction([NORMAL], held_bytes=held, max_component_bytes=largest)
    return b"".join(redaction.feed(part) for part in pieces(random, content)) + redaction.finish()


def check_copy(content: bytes, copy: bytes) -> None:
    """The copy is a document, and has nothing that is hidden, nor a word that the original has not."""
    hidden = hidden_words(tree_of(content))
    root = tree_of(copy)
    assert words_in(root) <= words_in(tree_of(content))
    assert not words_in(root) & hidden
    for word in hidden:
        assert word not in copy
        assert base64.b64encode(b".." + word + b"..") not in copy


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_a_copy_is_well_formed_and_has_no_word_of_what_is_hidden(random: Random) -> None:
    maker = Maker(random)
    whole = maker.document()
    check_copy(whole, copy_of(random, whole))
    content = maker.spoilt(whole)
    try:
        read([content])  # which comes first: what it refuses is not copied
        copy = copy_of(random, content)
    except DocumentError:
        return
    check_copy(content, copy)


def test_the_fuzzer_would_tell_of_a_word_that_slips_through() -> None:
    hidden = "<component><section><confidentialityCode code='R'/><text>mk1x</text></section></component>"
    content = document(body=f"<structuredBody>{hidden}</structuredBody>")
    assert hidden_words(tree_of(content)) == {b"mk1x"}
    with pytest.raises(AssertionError):
        check_copy(content, content)


# The page


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_a_page_is_well_made_and_shows_what_the_copy_shows(random: Random) -> None:
    maker = Maker(random)
    content = maker.document() if random.random() < 0.3 else maker.spoilt(maker.document())
    try:
        read([content])
        copy = copy_of(random, content)
    except DocumentError:
        return
    view = View()
    out = b"".join(view.feed(part) for part in pieces(random, copy)) + view.finish()
    found = set(WORD.findall(Page(out).text.encode()))
    assert found <= words_in(tree_of(copy))
    assert not found & hidden_words(tree_of(content))
