"""The header of clinical documents: what is read, from whatever pieces, and everything that is refused."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from gateway.cda.header import Code, DocumentOrganization, Header, InstanceIdentifier
from gateway.cda.header_reader import HeaderReader, header_of
from gateway.cda.parser import DocumentError
from gateway.cda.patients import is_about
from tests.support.documents import document

SAMPLES = sorted((Path(__file__).parents[1] / "data" / "cda").glob("*.xml.gz"))
SSN = "2.16.840.1.113883.4.1"
V3 = "urn:hl7-org:v3"


def read(content: bytes, *pieces: int) -> Header | None:
    """The header, from pieces of these sizes in turn."""
    reader = HeaderReader()
    at, turn = 0, 0
    while at < len(content):
        size = pieces[turn % len(pieces)]
        reader.feed(content[at : at + size])
        at, turn = at + size, turn + 1
    reader.finish()
    return reader.header


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_sample_document_has_a_patient_a_label_and_a_kind(path: Path) -> None:
    found = header_of(gzip.decompress(path.read_bytes()))
    assert found is not None
    assert found.record_targets
    assert all(found.record_targets)
    assert found.confidentiality == Code("N", "2.16.840.1.113883.5.25")
    assert found.code is not None
    assert found.code.system == "2.16.840.1.113883.6.1"
    assert found.custodian is not None
    assert found.custodian.name
    assert found.effective_time[:2] == "20"


def test_a_header_is_read_as_it_stands() -> None:
    path = next(p for p in SAMPLES if p.name.startswith("CCD_2"))
    author = DocumentOrganization(
        (InstanceIdentifier("1.3.6.1.4.1.22812.3.99930.3", "3"),), "The Doctors Together Physician Group"
    )
    assert header_of(gzip.decompress(path.read_bytes())) == Header(
        record_targets=(
            (InstanceIdentifier("1.3.6.1.4.1.16517.1", "98765432"), InstanceIdentifier(SSN, "12345679")),
        ),
        confidentiality=Code("N", "2.16.840.1.113883.5.25"),
        code=Code("34133-9", "2.16.840.1.113883.6.1"),
        authors=(author,),
        custodian=DocumentOrganization(
            (InstanceIdentifier("1.1.1.1.1.1.1.1.3", "321CX"),), "Good Health HIE"
        ),
        effective_time="20141015103026-0500",
        id=InstanceIdentifier("be84a8e4-a22e-4210-a4a6-b3c48273e84c", "EHRVersion2.0"),
        language="en-US",
    )


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_fact_of_a_header_is_what_lxml_finds(path: Path) -> None:
    content = gzip.decompress(path.read_bytes())
    root = etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))

    def of(node: Any, path: str) -> list[Any]:
        return list(node.xpath(path, namespaces={"v": V3}))

    def ids(node: Any) -> tuple[InstanceIdentifier, ...]:
        named = [(each.get("root", ""), each.get("extension", "")) for each in of(node, "v:id")]
        return tuple(InstanceIdentifier(*each) for each in named if each[0])

    def code(path: str) -> Code:
        (found,) = of(root, path)
        return Code(found.get("code", ""), found.get("codeSystem", ""))

    def organization(node: Any) -> DocumentOrganization:
        names = ["".join(each.itertext()) for each in of(node, "v:name")]
        return DocumentOrganization(ids(node), names[0].strip() if names else "")

    keeper = "v:custodian/v:assignedCustodian/v:representedCustodianOrganization"
    assert header_of(content) == Header(
        record_targets=tuple(map(ids, of(root, "v:recordTarget/v:patientRole"))),
        confidentiality=code("v:confidentialityCode"),
        code=code("v:code"),
        authors=tuple(map(organization, of(root, "v:author/v:assignedAuthor/v:representedOrganization"))),
        custodian=organization(of(root, keeper)[0]),
        effective_time=of(root, "v:effectiveTime/@value")[0],
        id=ids(root)[0],
        language=(of(root, "v:languageCode/@code") or [""])[0],
        consents=tuple(each for node in of(root, "v:authorization/v:consent") for each in ids(node)),
        is_unstructured=bool(of(root, "v:component/v:nonXMLBody")),
    )


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_P6_byte_by_byte_gives_the_same_header(path: Path) -> None:
    content = gzip.decompress(path.read_bytes())
    assert read(content, 1) == header_of(content)


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=8), st.integers(0, 300))
@settings(max_examples=50, deadline=None)
def test_P6_chunk_boundaries_never_change_what_is_read_or_refused(pieces: list[int], filler: int) -> None:
    whole = document(before=f"<!--{'x' * filler * 50}-->")
    assert read(whole, *pieces) == header_of(whole)
    for broken in (whole.replace(b"</custodian>", b"</custodian><custodian/>"), whole[: len(whole) // 2]):
        with pytest.raises(DocumentError) as by_pieces:
            read(broken, *pieces)
        with pytest.raises(DocumentError) as at_once:
            header_of(broken)
        assert str(by_pieces.value) == str(at_once.value)


def test_a_byte_order_mark_of_utf_8_is_taken() -> None:
    assert header_of(b"\xef\xbb\xbf" + document()) == header_of(document())


@pytest.mark.parametrize(
    "content", [b"", b"%PDF-1.7", b"\x89PNG\r\n", b'{"resourceType": "Binary"}', b"plain words"]
)
def test_other_content_is_no_document(content: bytes) -> None:
    assert header_of(content) is None


@pytest.mark.parametrize(
    "content", [b"<html/>", b"<Patient xmlns='http://hl7.org/fhir'/>", b"<x xmlns='urn:hl7-org:v3'/>"]
)
def test_other_xml_is_no_document(content: bytes) -> None:
    assert header_of(content) is None


BILLION = (
    '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>'
)
TARGET = "<recordTarget><patientRole><id root='1.2' extension='A'/></patientRole></recordTarget>"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (document(prolog='<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'), "DOCTYPE"),
        (document(prolog='<!DOCTYPE ClinicalDocument SYSTEM "http://169.254.169.254/">'), "DOCTYPE"),
        (document(prolog=BILLION), "DOCTYPE"),
        (document(prolog="<!DOCTYPE x>"), "DOCTYPE"),
        (document(before="<title>&unknown;</title>"), "well-formed"),
        (document(prolog="<?php system('id')?>"), "processing instruction"),
        (document(before="<?xml-stylesheet href='http://evil.example/'?>"), "processing instruction"),
        (document(before="<i:include xmlns:i='http://www.w3.org/2001/XInclude' href='file:///etc/passwd'/>"), "XInclude"),
        (document(declaration='<?xml version="1.1"?>'), "XML 1.0 in UTF-8"),
        (document(declaration='<?xml version="1.0" encoding="UTF-7"?>'), "UTF-8"),
        (document(declaration='<?xml version="1.0" encoding="ISO-8859-1"?>'), "UTF-8"),
        (document(declaration='<?xml version="1.0" encoding="utf-16"?>'), "UTF-8"),
        (document(declaration="").decode().encode("utf-16"), "UTF-8"),
        (document(declaration="").decode().encode("utf-16-le"), "UTF-8"),
        (document(declaration="").decode().encode("utf-16-be"), "UTF-8"),
        (document(declaration="").decode().encode("utf-32"), "UTF-8"),
        (document(declaration="").replace(b"<", b"+ADw-"), "well-formed"),
        (document(before="<title>\udcff</title>", errors="surrogateescape"), "well-formed"),
        (document(before="<a>" * 200 + "</a>" * 200), "nested deeper"),
        (document(before="<a " + " ".join(f"a{n}=''" for n in range(65)) + "/>"), "more than 64 attributes"),
        (document(before="<a x='" + "y" * 70_000 + "'/>"), "longer than 65536 bytes"),
        (document(before="<!--" + "y" * 70_000 + "-->"), "longer than 65536 bytes"),
        (document(before=("<b>" + "z" * 60_000 + "</b>") * 5), "header of the document is longer"),
        (document(before="<a " + " ".join(f"xmlns:a{n}='urn:{n}'" for n in range(300)) + "/>"), "256 namespaces"),
        (document(before=TARGET * 17), "more than 16 record targets"),
        (document(ids="<id root='1.2' extension='A'/>" * 65), "more than 64 identifiers"),
        (document(ids="<id extension='A'/>"), "no root"),
        (document(ids=f"<id root='1.2' extension='{'x' * 2000}'/>"), "longer than 1024"),
        (document(before="<code code='x'/>"), "more than one code"),
        (document(before="<confidentialityCode code='V'/>"), "more than one confidentialityCode"),
        (document(before="<x:recordTarget xmlns:x='urn:evil'/>"), "recordTarget of another namespace"),
        (document(before="<confidentialityCode xmlns='' code='N'/>"), "confidentialityCode of another namespace"),
        (document(ids="<x:id xmlns:x='urn:evil' root='1.2' extension='B'/>"), "id of another namespace"),
        (document(after_role="<patientRole><id root='1.2' extension='B'/></patientRole>"), "more than one patient role"),
        (document(after_role="<patientRole xmlns='urn:evil'/>"), "patientRole of another namespace"),
        (document(after="<recordTarget/>"), "after the body"),
        (document(after="<confidentialityCode code='V'/>"), "after the body"),
        (document(after="<component/>"), "after the body"),
        (document(root="<ClinicalDocument>"), "another namespace"),
        (document(root="<ClinicalDocument xmlns='urn:evil'>"), "another namespace"),
        (document()[:-5], "well-formed"),
        (document() + b"<x/>", "well-formed"),
        (document() + document(), "well-formed"),
    ],
)  # fmt: skip
def test_237_what_no_document_needs_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(DocumentError, match=why):
        header_of(content)


def test_a_stylesheet_is_found_by_its_place_or_refused() -> None:
    content = document(prolog='<?xml-stylesheet type="text/xsl" href="CDA.xsl"?>')
    reader = HeaderReader()
    reader.feed(content)
    reader.finish()
    assert [content[at : at + 16] for at in reader.stylesheets] == [b"<?xml-stylesheet"]
    with pytest.raises(DocumentError, match="processing instruction"):
        header_of(content, stylesheets=False)


def test_the_body_is_watched_but_not_kept() -> None:
    reader = HeaderReader()
    reader.feed(document(body="<nonXMLBody><text>").partition(b"<text>")[0] + b"<text>")
    for _ in range(64):
        reader.feed(b"QUJD" * 16 * 1024)
    assert reader.header is not None
    with pytest.raises(DocumentError, match="well-formed"):
        reader.finish()


PATIENT = {("https://ssn.example", "111"), (f"urn:oid:{SSN}", "222"), ("urn:mrn", "7")}
MAP = {f"urn:oid:{SSN}": "https://ssn.example"}


def about(*targets: tuple[tuple[str, str], ...]) -> bool:
    header = Header(tuple(tuple(InstanceIdentifier(*each) for each in ids) for ids in targets))
    return is_about(header, PATIENT, MAP)


def test_236_every_record_target_must_be_the_patient() -> None:
    mine, other = ((SSN, "111"),), ((SSN, "999"),)
    assert about(mine)
    assert about(mine, ((SSN, "222"),))
    assert not about(other)
    assert not about(mine, other)
    assert not about(other, mine)
    assert not about()
    assert not about(mine, ())


def test_236_an_identifier_of_another_authority_does_no_harm_unless_it_says_somebody_else() -> None:
    assert about(((SSN, "111"), ("1.2.3", "whoever")))
    assert not about(((SSN, "111"), (SSN, "999")))
    assert not about((("1.2.3", "111"),))


def test_a_root_alone_is_a_uri_of_fhir() -> None:
    header = Header(((InstanceIdentifier("2.16.1"),),))
    assert is_about(header, {("urn:ietf:rfc:3986", "urn:oid:2.16.1")}, {})
    header = Header(((InstanceIdentifier("0F5C6BC2-1A2B-4B3C-8D4E-5F6A7B8C9D0E"),),))
    assert is_about(header, {("urn:ietf:rfc:3986", "urn:uuid:0f5c6bc2-1a2b-4b3c-8d4e-5f6a7b8c9d0e")}, {})


def test_the_consents_that_a_document_names_and_the_kind_of_its_body_are_read() -> None:
    named = '<authorization><consent><id root="1.9" extension="c1"/></consent></authorization>'
    structured = header_of(document(before=named))
    file = header_of(document(before=named, body="<!-- x --><nonXMLBody><text>x</text></nonXMLBody>"))
    assert structured is not None
    assert file is not None
    assert structured.consents == file.consents == (InstanceIdentifier("1.9", "c1"),)
    assert (structured.is_unstructured, file.is_unstructured) == (False, True)
