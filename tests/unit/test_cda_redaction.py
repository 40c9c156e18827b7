"""Sections and entries of a clinical document that are not shown: they go from narrative, entries and what is embedded."""

import base64
import gzip
import random
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from gateway.cda.header_reader import header_of
from gateway.cda.parser import DocumentError
from gateway.cda.redaction import Redaction
from gateway.cda.section_condition import SectionCondition
from gateway.fhir.labels import ORDER, LabelCondition, label_of, read_label
from tests.support.documents import document

SAMPLES = sorted((Path(__file__).parents[1] / "data" / "cda").glob("*.xml.gz"))
V3 = "{urn:hl7-org:v3}"
LOINC = "2.16.840.1.113883.6.1"
NORMAL = SectionCondition(LabelCondition(at_most=ORDER.index("N"), unlabelled=ORDER.index("N")))
NO_PSY = SectionCondition(LabelCondition(without=frozenset({read_label("v3-ActCode|PSY")})))
SECRET = "MARKER-7f3a"
NORMAL_CODE = '<confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/>'
HIDDEN = base64.b64encode(SECRET.encode()).decode()


def cut(
    content: bytes, condition: SectionCondition = NORMAL, *, pieces: int = 1 << 20, **more: int
) -> tuple[bytes, Redaction]:
    """The copy, from pieces of that size."""
    redaction = Redaction([condition], **more)
    out = b"".join(redaction.feed(content[at : at + pieces]) for at in range(0, len(content), pieces))
    return out + redaction.finish(), redaction


def section(inner: str, *, label: str = "", code: str = "48765-2") -> str:
    """A component with one section."""
    said = f'<confidentialityCode code="{label}" codeSystem="2.16.840.1.113883.5.25"/>' if label else ""
    coded = f'<code code="{code}" codeSystem="{LOINC}"/>'
    return f"<component><section>{coded}<title>t</title>{inner}{said}</section></component>"


def body(*sections: str) -> bytes:
    """A document of these sections."""
    return document(body=f"<structuredBody>{''.join(sections)}</structuredBody>")


def security(kind: str, code: str, system: str) -> str:
    """A privacy annotation as DS4P writes it."""
    return (
        f'<entryRelationship typeCode="SUBJ"><observation classCode="OBS" moodCode="EVN"><code code="{kind}"/>'
        f'<value code="{code}" codeSystem="{system}"/></observation></entryRelationship>'
    )


def entry(refers: str, inner: str = "") -> str:
    """An entry that refers to narrative."""
    text = f'<text><reference value="#{refers}"/></text>' if refers else ""
    return f'<entry><observation classCode="OBS" moodCode="EVN">{text}{inner}</observation></entry>'


def holds_secret(content: bytes) -> bool:
    return SECRET.encode() in content or HIDDEN.encode() in content


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
@pytest.mark.parametrize("pieces", [17, 4096, 1 << 20])
def test_a_document_of_which_all_is_shown_goes_out_byte_for_byte(path: Path, pieces: int) -> None:
    content = gzip.decompress(path.read_bytes())
    out, redaction = cut(content, pieces=pieces)
    assert out == content
    assert not redaction.is_changed


@pytest.mark.parametrize("label", ["R", "V", "X", ""])
def test_a_section_above_the_ceiling_goes_with_all_that_is_in_it(label: str) -> None:
    said = f'<confidentialityCode code="{label}" codeSystem="2.16.840.1.113883.5.25"/>'
    open_ = section("<text>shown</text>")
    closed = (
        f"<component><section><text>{SECRET}</text>{said}<entry><observationMedia><value>{HIDDEN}</value>"
        f"</observationMedia></entry></section></component>"
    )
    out, redaction = cut(body(open_, closed))
    assert not holds_secret(out)
    assert b"shown" in out
    assert redaction.sections_cut == 1
    ElementTree.fromstring(out)


@pytest.mark.parametrize("label", ["U", "L", "M", "N"])
def test_a_section_within_the_ceiling_stays(label: str) -> None:
    content = body(section("<text>shown</text>", label=label))
    assert cut(content)[0] == content


def test_a_confidentiality_of_another_code_system_is_above_every_known_one() -> None:
    said = '<confidentialityCode code="N" codeSystem="1.2.3"/>'
    assert not holds_secret(cut(body(section(f"<text>{SECRET}</text>{said}")))[0])


def test_a_section_that_says_nothing_is_as_confidential_as_what_it_stands_in() -> None:
    inner = section(f"<text>{SECRET}</text>")
    outer = section(f"<text>{SECRET}</text>{inner}", label="R")
    assert not holds_secret(cut(body(outer))[0])
    restricted = document(
        confidentiality='<confidentialityCode code="R" codeSystem="2.16.840.1.113883.5.25"/>',
        body=f"<structuredBody>{section(f'<text>{SECRET}</text>')}</structuredBody>",
    )
    assert not holds_secret(cut(restricted)[0])


def test_a_restricted_section_inside_another_goes_alone() -> None:
    inner = section(f"<text>{SECRET}</text>", label="R")
    out, redaction = cut(body(section(f"<text>shown</text>{inner}", label="N")))
    assert not holds_secret(out)
    assert b"shown" in out
    assert redaction.sections_cut == 1


@pytest.mark.parametrize(
    "inner",
    [
        f"<component>{{}}<section>{NORMAL_CODE}<text>shown</text></section></component><!-- {SECRET} -->",
        f"<component>{{}}<id root='1.9'/></component><!-- {SECRET} -->",
        "{}",
        "<component><section><text>shown</text>{}</section></component>",
    ],
)
def test_a_section_that_shares_its_component_or_has_none_is_refused(inner: str) -> None:
    closed = f'<section><confidentialityCode code="R"/><title>{SECRET}</title><text>{SECRET}</text></section>'
    with pytest.raises(DocumentError, match="component"):
        cut(body(inner.format(closed)))


def test_a_section_is_closed_by_its_code() -> None:
    condition = SectionCondition(LabelCondition(), frozenset({label_of(f"urn:oid:{LOINC}", "29762-2")}))
    out, _ = cut(
        body(section(f"<text>{SECRET}</text>", code="29762-2"), section("<text>shown</text>")), condition
    )
    assert not holds_secret(out)
    assert b"shown" in out


@pytest.mark.parametrize(
    ("kind", "code", "system", "condition"),
    [
        ("SECCLASSOBS", "R", "2.16.840.1.113883.5.25", NORMAL),
        ("SECCLASSOBS", "", "2.16.840.1.113883.5.25", NORMAL),
        ("SECCLASSOBS", "R", "1.2.3", NORMAL),
        ("SECCATOBS", "PSY", "2.16.840.1.113883.5.4", NO_PSY),
    ],
)
def test_a_labelled_entry_goes_with_the_row_that_it_refers_to(
    kind: str, code: str, system: str, condition: SectionCondition
) -> None:
    rows = f'<table><tbody><tr><td ID="a">{SECRET}</td><td>{SECRET}</td></tr><tr><td ID="b">shown</td></tr></tbody></table>'
    content = body(
        section(
            f"<text>{rows}</text>{entry('a', security(kind, code, system))}" + entry("b", '<id root="1.9"/>')
        )
    )
    out, redaction = cut(content, condition)
    assert not holds_secret(out)
    assert b"shown" in out
    assert b'root="1.9"' in out
    assert (redaction.sections_cut, redaction.entries_cut) == (0, 1)
    ElementTree.fromstring(out)


def test_an_entry_whose_narrative_cannot_be_told_takes_its_section_along() -> None:
    labelled = security("SECCLASSOBS", "R", "2.16.840.1.113883.5.25")
    for refers in ("", "elsewhere"):
        out, redaction = cut(body(section(f"<text>{SECRET}</text>{entry(refers, labelled)}")))
        assert not holds_secret(out)
        assert redaction.sections_cut == 1


def test_a_picture_goes_with_its_entry() -> None:
    labelled = security("SECCLASSOBS", "V", "2.16.840.1.113883.5.25")
    media = f'<entry><observationMedia ID="m1"><value>{HIDDEN}</value>{labelled}</observationMedia></entry>'
    shown = '<paragraph>shown</paragraph><paragraph><renderMultiMedia referencedObject="m1"/></paragraph>'
    out, _ = cut(body(section(f"<text>{shown}</text>{media}")))
    assert not holds_secret(out)
    assert b"renderMultiMedia" not in out
    assert b"shown" in out


def test_a_privacy_annotation_speaks_for_its_section() -> None:
    annotation = (
        '<entry><organizer classCode="CLUSTER" moodCode="EVN"><templateId root="2.16.840.1.113883.3.3251.1.4"/><component>'
        '<observation classCode="OBS" moodCode="EVN"><code code="SECCLASSOBS"/><value code="R"/></observation>'
        "</component></organizer></entry>"
    )
    out, redaction = cut(body(section(f"<text>{SECRET}</text>{annotation}{entry('')}")))
    assert not holds_secret(out)
    assert redaction.sections_cut == 1


def test_a_copy_has_an_id_of_its_own_names_the_original_and_takes_back_its_signature() -> None:
    content = body(section(f"<text>{SECRET}</text>", label="R"), section("<text>shown</text>")).replace(
        b'<id root="1.2.3.4"/>', b'<id root="1.2.3.4" extension="d&amp;1"/>'
    )
    out, redaction = cut(content)
    tree = ElementTree.fromstring(out)
    own = tree.findall(f"{V3}id")
    assert len(own) == 1
    assert own[0].get("root") not in ("1.2.3.4", None)
    (related,) = tree.findall(f"{V3}relatedDocument")
    assert related.get("typeCode") == "XFRM"
    (named,) = related.findall(f"{V3}parentDocument/{V3}id")
    assert (named.get("root"), named.get("extension")) == ("1.2.3.4", "d&1")
    assert [child.tag for child in tree][-2:] == [f"{V3}relatedDocument", f"{V3}component"]
    assert b"do not cover it" in out
    assert redaction.is_changed
    assert cut(content)[0] == out
    before, after = header_of(content), header_of(out)
    assert before is not None
    assert after is not None
    assert after == replace(before, id=after.id)


@pytest.mark.parametrize(
    "mark", ["<sdtc:signatureText xmlns:sdtc='urn:hl7-org:sdtc'/>", "<ds:Signature xmlns:ds='u'/>"]
)
def test_a_signature_is_told(mark: str) -> None:
    content = document(
        before=f"<legalAuthenticator>{mark}</legalAuthenticator>",
        body=f"<structuredBody>{section(f'<text>{SECRET}</text>', label='R')}</structuredBody>",
    )
    assert cut(content)[1].is_signed


def test_where_nothing_is_left_the_body_says_so() -> None:
    out, _ = cut(body(section(f"<text>{SECRET}</text>", label="R")))
    tree = ElementTree.fromstring(out)
    (left,) = tree.findall(f"{V3}component/{V3}structuredBody/{V3}component/{V3}section")
    assert left.get("nullFlavor") == "MSK"


def test_an_unstructured_body_is_passed_as_it_is() -> None:
    content = document(
        body=f'<nonXMLBody><text mediaType="application/pdf">{HIDDEN * 1000}</text></nonXMLBody>'
    )
    out, redaction = cut(content, held_bytes=8000, pieces=1000)
    assert out == content
    assert not redaction.is_changed


def drawn(seed: int) -> bytes:
    """A document whose sections hold the secret where they are closed, and nowhere else."""
    draw = random.Random(seed)
    number = iter(range(10_000))

    def one(depth: int, closed: bool) -> str:
        label = draw.choice(["", "", "N", "R", "V"])
        is_closed = label in "RV" if label else closed
        word = SECRET if is_closed else f"shown-{next(number)}-"
        rows, entries = "", ""
        for each in range(draw.randint(0, 3)):
            hides = draw.random() < 0.3
            name = f"n{next(number)}"
            said = SECRET if hides or is_closed else f"shown-{next(number)}-"
            rows += draw.choice(
                [
                    f'<paragraph><content ID="{name}">{said}</content></paragraph>',
                    f'<list><item ID="{name}">{said}</item></list>',
                ]
            )
            entries += entry(name, security("SECCLASSOBS", "R", "1") if hides else f'<id root="1.{each}"/>')
        inner = "".join(one(depth + 1, is_closed) for _ in range(draw.randint(0, 2))) if depth < 2 else ""
        return section(f"<text><paragraph>{word}</paragraph>{rows}</text>{entries}{inner}", label=label)

    return body(*(one(0, False) for _ in range(draw.randint(1, 4))))


@pytest.mark.parametrize("seed", range(60))
def test_nothing_closed_is_left_and_nothing_open_is_lost_from_whatever_pieces(seed: int) -> None:
    content = drawn(seed)
    out, redaction = cut(content)
    assert not holds_secret(out)
    assert {w for w in content.split() if w.startswith(b"shown")} == {
        w for w in out.split() if w.startswith(b"shown")
    }
    assert redaction.is_changed is holds_secret(content)
    ElementTree.fromstring(out)
    for pieces in (1, 7, 64, 5000):
        assert cut(content, pieces=pieces)[0] == out


@pytest.mark.parametrize("seed", range(60))
def test_a_long_document_streams_and_says_that_it_may_have_been_cut(seed: int) -> None:
    content = drawn(seed).replace(b"<structuredBody>", b"<structuredBody>" + b" " * 20_000)
    out, redaction = cut(content, held_bytes=6000, pieces=500)
    assert not holds_secret(out)
    assert redaction.is_changed
    whole = [line for line in ElementTree.fromstring(cut(content)[0]).itertext() if line.strip()]
    assert [line for line in ElementTree.fromstring(out).itertext() if line.strip()] == whole


def test_a_component_that_is_too_large_to_be_cut_goes_and_is_not_kept() -> None:
    large = section(f"<text>{SECRET}{'<br/>' * 100_000}</text>", label="N")
    content = body(section("<text>first</text>"), large, section("<text>last</text>"))
    redaction = Redaction([NORMAL], held_bytes=10_000, max_component_bytes=50_000)
    out = bytearray()
    for at in range(0, len(content), 2000):
        out += redaction.feed(content[at : at + 2000])
        assert len(redaction._reader.held) < 60_000
    out += redaction.finish()
    assert not holds_secret(bytes(out))
    texts = "".join(ElementTree.fromstring(bytes(out)).itertext())
    assert "first" in texts
    assert "last" in texts


def test_what_is_no_document_for_certain_raises() -> None:
    with pytest.raises(DocumentError):
        cut(body(section("<text>x</text>")).replace(b"</section>", b"</sect>"))
    with pytest.raises(DocumentError, match="header"):
        cut(document(before="<informant/>" * 2000), held_bytes=6000, pieces=500)


def test_a_section_goes_by_a_translation_of_its_code_as_by_the_code() -> None:
    hidden = SectionCondition(
        LabelCondition(unlabelled=ORDER.index("N")), frozenset({label_of(f"urn:oid:{LOINC}", "29762-2")})
    )
    codes = (
        f'<code code="SOC" codeSystem="1.2.3"><translation code="29762-2" codeSystem="{LOINC}"/></code>',
        f'<code code="29762-2" codeSystem="{LOINC}"/><code code="48765-2" codeSystem="{LOINC}"/>',
    )
    for code in codes:
        component = f"<component><section>{code}<text>{SECRET}</text></section></component>"
        out, redaction = cut(body(section("<text>shown</text>"), component), hidden)
        assert not holds_secret(out)
        assert redaction.sections_cut == 1
        assert b"shown" in out


@pytest.mark.parametrize("refers", ["p1", "", "elsewhere"])
def test_an_entry_goes_with_what_the_section_around_its_own_tells_of_it(refers: str) -> None:
    label = '<confidentialityCode code="R" codeSystem="2.16.840.1.113883.5.25"/>'
    inner = f"<component><section>{entry(refers, label)}</section></component>"
    deeper = f"<component><section>{inner}</section></component>"
    for within in (inner, deeper):
        told = f'<text><paragraph>first</paragraph><paragraph ID="p1">{SECRET}</paragraph></text>{within}'
        out, redaction = cut(body(section("<text>shown</text>"), section(told)))
        assert not holds_secret(out)
        assert b"shown" in out
        assert (b"first" in out) is (refers == "p1")
        assert redaction.sections_cut + redaction.entries_cut >= 1
        ElementTree.fromstring(out)


@pytest.mark.parametrize("held", [1 << 20, 6000])
def test_comments_of_the_body_go_where_something_is_cut(held: int) -> None:
    named = f"<!-- {SECRET} -->"
    inner = section(f"<text>shown{named}</text>{named}")
    content = body(f"{named}{section('<text>x</text>', label='R')}{named}", f"{inner}{named}" + " " * 8000)
    out, _ = cut(content, held_bytes=held, pieces=500)
    assert not holds_secret(out)
    assert b"shown" in out
    ElementTree.fromstring(out)
    whole = body(f"{named}{section('<text>x</text>')}{named}")
    assert cut(whole)[0] == whole
