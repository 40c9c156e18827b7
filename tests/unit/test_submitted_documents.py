"""What is looked at in a document that is to be filed: its structure, and the content that it carries."""

import base64
import gzip
import re
from pathlib import Path

import pytest

from gateway.cda.harmful import ContentWatch, Harm, RefusedContent
from gateway.cda.parser import DocumentError
from gateway.cda.submitted import SubmittedReader
from tests.support.documents import document

SAMPLES = sorted((Path(__file__).parents[1] / "data" / "cda").glob("*.xml.gz"))
EVERYTHING = frozenset(Harm)
EXE = b"MZ\x90\x00" + b"\x00" * 60 + b"This program cannot be run in DOS mode."
OFFICE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def read(
    content: bytes, *, refused: frozenset[Harm] = EVERYTHING, structure: bool = True, piece: int = 7
) -> None:
    reader = SubmittedReader(refused=refused, checks_structure=structure)
    for at in range(0, len(content), piece):
        reader.feed(content[at : at + piece])
    reader.finish()


def carrying(content: bytes, media_type: str, *, more: str = "", name: str = "text") -> bytes:
    text = base64.encodebytes(content).decode()
    inner = f'<{name} mediaType="{media_type}" representation="B64"{more}>{text}</{name}>'
    if name == "text":
        return document(body=f"<nonXMLBody>{inner}</nonXMLBody>")
    entry = f'<observationMedia classCode="OBS" moodCode="EVN">{inner}</observationMedia>'
    return document(
        body=f"<structuredBody><component><section><entry>{entry}</entry></section></component></structuredBody>"
    )


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_the_samples_of_hl7_are_as_they_should_be(path: Path) -> None:
    content = re.sub(rb"<\?xml-stylesheet.*?\?>", b"", gzip.decompress(path.read_bytes()))
    read(content, piece=4096)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('<typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>', ""),
        ('extension="POCD_HD000040"', 'extension="POCD_HD000020"'),
        ('<id root="1.2.3.4"/>', ""),
        ('<id root="1.2.3.4"/>', '<id root="1.2.3.4"/><id root="1.2.3.5"/>'),
        ('<effectiveTime value="20260102030405+0000"/>', ""),
        ('<time value="20260102"/>', ""),
        ("<assignedCustodian>", "<assigned>"),
        ("<recordTarget>", "<title>Late</title><recordTarget>"),
        ("<recordTarget>", "<setid/><recordTarget>"),
        ("<structuredBody/>", ""),
        ("<structuredBody/>", "<structuredBody/><nonXMLBody/>"),
    ],
)
def test_a_header_that_is_not_of_cda_r2_is_refused_where_structure_is_checked(old: str, new: str) -> None:
    whole = document().decode()
    content = whole.replace(old, new)
    if old == "<assignedCustodian>":
        content = content.replace("</assignedCustodian>", "</assigned>")
    assert content != whole
    with pytest.raises(DocumentError):
        read(content.encode())
    if "POCD" in old or "typeId" in old:
        read(content.encode(), structure=False)
    read(whole.encode())


def test_extensions_of_other_namespaces_stand_anywhere() -> None:
    content = document().replace(b"<recordTarget>", b'<x:y xmlns:x="urn:hl7-org:sdtc"/><recordTarget>')
    read(content)


@pytest.mark.parametrize("name", ["text", "value"])
@pytest.mark.parametrize(
    ("content", "media_type", "harm"),
    [
        (EXE, "application/pdf", Harm.EXECUTABLE),
        (b"\x7fELF" + b"\x02" * 40, "image/png", Harm.EXECUTABLE),
        (b"#!/bin/sh\nrm -r /\n", "text/plain", Harm.SCRIPT),
        (b"x" * 500 + b"<script src=//evil.example>", "text/plain", Harm.SCRIPT),
        (b"%PDF-1.7\n" + b"1" * 9000 + b"/S /JavaScript", "application/pdf", Harm.SCRIPT),
        (b"<!DOCTYPE html><p>x", "text/plain", Harm.MARKUP),
        ("\ufeff<svg onload='x'>".encode("utf-16-le"), "image/png", Harm.MARKUP),
        (b"PK\x03\x04" + b"\x00" * 50, "application/pdf", Harm.ARCHIVE),
        (b"\x1f\x8b\x08" + b"\x00" * 50, "image/jpeg", Harm.ARCHIVE),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 50, "application/msword", Harm.MACRO),
        (b"PK\x03\x04" + b"\x00" * 5000 + b"word/vbaProject.bin", OFFICE, Harm.MACRO),
        (b"{\\rtf1 " + b"a" * 3000 + b"\\objdata 01", "text/rtf", Harm.MACRO),
        (b"plain", "text/html", Harm.MARKUP),
        (b"plain", "application/javascript; charset=utf-8", Harm.SCRIPT),
        (b"plain", "application/vnd.ms-word.document.macroEnabled.12", Harm.MACRO),
    ],
    ids=range(15),
)
def test_content_that_runs_is_refused_wherever_it_stands(
    content: bytes, media_type: str, harm: Harm, name: str
) -> None:
    whole = carrying(content, media_type, name=name)
    with pytest.raises(RefusedContent, match=harm):
        read(whole)
    read(whole, refused=EVERYTHING - {harm})


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"%PDF-1.7\n" + b"1" * 9000, "application/pdf"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 5000, "image/png"),
        (b"PK\x03\x04" + b"\x00" * 5000 + b"word/document.xml", OFFICE),
        (b"{\\rtf1 plain}", "text/rtf"),
        (b"A letter, with 1 < 2 and the word script.", "text/plain"),
    ],
    ids=range(5),
)
def test_content_that_does_not_is_taken(content: bytes, media_type: str) -> None:
    for name in ("text", "value"):
        read(carrying(content, media_type, name=name))


def test_compressed_content_is_an_archive() -> None:
    with pytest.raises(RefusedContent, match="archive"):
        read(carrying(b"x", "text/plain", more=' compression="DF"'))


def test_base64_with_noise_is_read_as_its_readers_read_it() -> None:
    content = carrying(EXE, "application/pdf").replace(b"TVqQ", b"T.V..q Q")
    with pytest.raises(RefusedContent, match="executable"):
        read(content)


@pytest.mark.parametrize("text", ["QUJD=QUJD", "QQ===", "QU<x/>JD"])
def test_base64_with_two_readings_is_refused(text: str) -> None:
    body = f'<nonXMLBody><text mediaType="text/plain" representation="B64">{text}</text></nonXMLBody>'
    with pytest.raises(DocumentError):
        read(document(body=body))


def test_a_mark_is_found_across_pieces() -> None:
    watch = ContentWatch("application/pdf", EVERYTHING)
    watch.feed(b"%PDF" + b"1" * 2000 + b"/Java")
    with pytest.raises(RefusedContent, match="script"):
        watch.feed(b"Script")


def body_of(inner: str) -> bytes:
    return document(body=inner)


SECTION = "<component><section><code code='1'/><text>x</text><entry><act/></entry></section></component>"


@pytest.mark.parametrize(
    "inner",
    [
        f"<structuredBody><x/>{SECTION}</structuredBody>",
        "<structuredBody><section/></structuredBody>",
        "<structuredBody><component><section/><section/></component></structuredBody>",
        "<structuredBody><component><section><text/><title/></section></component></structuredBody>",
        "<structuredBody><component><section><text/><text/></section></component></structuredBody>",
        "<structuredBody><component><section><entry><act/><act/></entry></section></component></structuredBody>",
        "<structuredBody><component><section><entry><name/></entry></section></component></structuredBody>",
        f"<structuredBody><component><section>{SECTION}<entry/></section></component></structuredBody>",
        "<nonXMLBody><confidentialityCode code='N'/><text/></nonXMLBody>",
        "<nonXMLBody><text/><text/></nonXMLBody>",
    ],
)
def test_a_body_that_is_not_of_cda_r2_is_refused_where_structure_is_checked(inner: str) -> None:
    with pytest.raises(DocumentError, match="CDA R2"):
        read(body_of(inner))
    read(body_of(inner), structure=False)


def test_sections_within_sections_and_narrative_of_any_kind_are_taken() -> None:
    nested = f"<component><section><text><list><item/><item/></list></text>{SECTION}{SECTION}</section></component>"
    read(body_of(f"<structuredBody>{nested}{SECTION}</structuredBody>"))
