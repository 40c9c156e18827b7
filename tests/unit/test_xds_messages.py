"""Messages of XDS.b: what is written is canonical and signed as others verify it, what is read is bounded."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from signxml import XMLVerifier  # type: ignore[attr-defined]
from signxml.exceptions import InvalidSignature

from authz.protocol.tokens import Binding, Caller
from gateway.cda.header import InstanceIdentifier
from gateway.document_services.xds import entries, envelopes
from gateway.document_services.xds.assertion import Assertions
from gateway.document_services.xds.canonical_xml import NAMESPACES, Element, element, written
from gateway.document_services.xds.multipart import Parts, parameters_of
from gateway.document_services.xds.submission import unique_id
from gateway.fhir.outcome import FhirError
from gateway.xds_settings import AssertionSettings

NOW = 1_800_000_000
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
)
MORE_TEXT = st.one_of(TEXT, st.sampled_from(["\r\n", "\t", "&amp;", "]]>", "<a>", '"', "'"]))
NAMES = st.sampled_from([f"{prefix}:{local}" for prefix in NAMESPACES for local in ("a", "b")])
ATTRIBUTES = st.dictionaries(st.one_of(NAMES, st.sampled_from(["a", "b", "Z", "id"])), MORE_TEXT, max_size=4)
ELEMENTS = st.recursive(
    st.builds(Element, NAMES, ATTRIBUTES, st.lists(MORE_TEXT, max_size=2)),
    lambda inner: st.builds(Element, NAMES, ATTRIBUTES, st.lists(st.one_of(MORE_TEXT, inner), max_size=4)),
    max_leaves=8,
)


@given(ELEMENTS)
def test_what_is_written_is_its_own_exclusive_canonical_form(value: Element) -> None:
    content = written(value)
    root = etree.fromstring(content)
    assert etree.tostring(root, method="c14n", exclusive=True, with_comments=False) == content


@given(ELEMENTS)
def test_a_part_is_canonical_by_itself_wherever_it_stands(value: Element) -> None:
    whole = etree.fromstring(written(element("env:Envelope", element("saml:Assertion", value))))
    part = whole[0][0]
    assert etree.tostring(part, method="c14n", exclusive=True) == written(value)


@pytest.mark.parametrize("character", ["\x00", "\x0b", "\ufffe", "\ud800"])
def test_a_character_that_xml_cannot_hold_is_not_written(character: str) -> None:
    with pytest.raises(ValueError, match="XML cannot hold"):
        written(element("env:Body", f"a{character}"))


def signing_key(folder: Path, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> AssertionSettings:
    """Settings with this key and a certificate of its own."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "saml.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "saml.key").write_bytes(pem)
    return AssertionSettings("urn:gateway", "urn:registry", folder / "saml.key", folder / "saml.pem")


def caller(**claims: object) -> Caller:
    return Caller(
        issuer="https://as.example",
        subject="dr1",
        client_id="c",
        scope=(),
        audience=(),
        binding=Binding("jkt", "x"),
        token_id="t",
        grant_id=None,
        issued_at=NOW - 10,
        expires_at=NOW + 60,
        claims=claims,
    )


@pytest.mark.parametrize("kind", ["rsa", "p256", "p384"])
def test_an_assertion_is_verified_by_others_where_it_stands_and_not_once_it_was_changed(
    tmp_path: Path, kind: str
) -> None:
    made: dict[str, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey] = {
        "rsa": rsa.generate_private_key(65537, 2048),
        "p256": ec.generate_private_key(ec.SECP256R1()),
        "p384": ec.generate_private_key(ec.SECP384R1()),
    }
    settings = signing_key(tmp_path, made[kind])
    assertion = Assertions(settings).about(caller(name="Ada", roles=["a|b", 1, ""]), id_="_1", now=NOW)
    content = envelopes.envelope("urn:a", "http://x.example", "urn:uuid:1", assertion, element("query:a"))
    certificate = settings.certificate.read_text()
    verified = XMLVerifier().verify(content, x509_cert=certificate, id_attribute="ID")
    assert not isinstance(verified, list)
    assert verified.signed_xml is not None
    assert verified.signed_xml.get("ID") == "_1"
    # No longer than the token itself.
    condition = verified.signed_xml.find("{urn:oasis:names:tc:SAML:2.0:assertion}Conditions")
    assert condition is not None
    assert condition.get("NotOnOrAfter") == datetime.fromtimestamp(NOW + 60, UTC).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
    with pytest.raises(InvalidSignature):
        XMLVerifier().verify(content.replace(b"Ada", b"Eve"), x509_cert=certificate, id_attribute="ID")


def test_a_key_with_the_certificate_of_another_one_is_refused(tmp_path: Path) -> None:
    settings = signing_key(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    other = ec.generate_private_key(ec.SECP256R1())
    pem = other.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    settings.key.write_bytes(pem)
    with pytest.raises(ValueError, match="not that of their key"):
        Assertions(settings)


PARTS = (
    b"preamble\r\n--b\r\nContent-Type: a/b\r\n\r\none\r\n--b  \r\nContent-ID: <2>\r\n\r\n"
    b"two\r\n--c\r\n-\r\n\r\n--b\r\n\r\n\r\n--b--\r\nepilogue"
)


def read_parts(content: bytes, length: int) -> tuple[list[bytes], int]:
    """What the parts hold, and how much was held at most, where the content comes in pieces of this length."""
    most = 0

    async def work() -> list[bytes]:
        nonlocal most

        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(content), length):
                yield content[at : at + length]

        parts, found = Parts(pieces(), "b"), []
        while await parts.head() is not None:
            whole = b""
            async for piece in parts.content():
                most = max(most, len(parts._held))
                whole += piece
            found.append(whole)
        return found

    return asyncio.run(work()), most


@pytest.mark.parametrize("length", range(1, 40))
def test_parts_are_the_same_in_whatever_pieces_they_come(length: int) -> None:
    found, _ = read_parts(PARTS, length)
    assert found == [b"one", b"two\r\n--c\r\n-\r\n", b""]


def test_of_a_long_part_no_more_is_held_than_a_piece_of_it() -> None:
    long = b"\r\n-" * 400_000
    found, most = read_parts(b"--b\r\n\r\n" + long + b"\r\n--b--", 4096)
    assert found == [long]
    assert most <= 2 * 4096


@pytest.mark.parametrize(
    "content",
    [
        b"", b"--b", b"--b\r\nA: b\r\n", b"--b\r\n\r\nabc", b"--b\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ==\r\n--b--",
        b"--b\r\nA: b\r\nA: c\r\n\r\nx\r\n--b--", b"--b\r\nA: b\r\n c\r\n\r\nx\r\n--b--", b"--bx\r\n\r\nx\r\n--b--",
        b"--b\r\n" + b"A" * 20_000 + b"\r\n\r\nx\r\n--b--", b"A" * 20_000 + b"\r\n--b--",
    ],
)  # fmt: skip
def test_what_is_no_multipart_in_one_reading_is_refused(content: bytes) -> None:
    with pytest.raises(FhirError):
        read_parts(content, 100)


def test_parameters_of_a_type_are_read_in_one_way() -> None:
    said = 'Multipart/Related; Boundary="a; b=c";type=application/xop+xml; start="<x\\"y>"'
    assert parameters_of(said) == (
        "multipart/related",
        {"boundary": "a; b=c", "type": "application/xop+xml", "start": '<x"y>'},
    )
    for wrong in ("a/b; c", "a/b; c=d; C=e", 'a/b; c="d'):
        with pytest.raises(FhirError):
            parameters_of(wrong)


def test_a_search_by_date_becomes_a_time_of_creation() -> None:
    begin, stop = "$XDSDocumentEntryCreationTimeFrom", "$XDSDocumentEntryCreationTimeTo"
    for date, expected in {
        "2026-01-02": {begin: "'20260102000000'", stop: "'20260103000000'"},
        "ge2026-01-02": {begin: "'20260102000000'"},
        "gt2026-12-31": {begin: "'20270101000000'"},
        "le2026-01-02T00:30:00+01:00": {stop: "'20260101233001'"},
        "lt2026-01-02T00:00:00Z": {stop: "'20260102000000'"},
    }.items():
        asked = entries.parameters({"date": date}, "x")
        assert {name: value for name, value in asked.items() if "Time" in name} == expected
    for wrong in ("2026", "ne2026-01-01", "2026-01-02,2026-01-03", "'; drop"):
        with pytest.raises(FhirError):
            entries.parameters({"date": wrong}, "x")


def test_a_value_of_a_query_cannot_end_it() -> None:
    asked = entries.parameters({"type": "http://loinc.org|a') ('b"}, "o'neill^^^&1.2&ISO")
    assert asked["$XDSDocumentEntryPatientId"] == "'o''neill^^^&1.2&ISO'"
    assert asked["$XDSDocumentEntryTypeCode"] == "('a'') (''b^^2.16.840.1.113883.6.1')"


def test_the_id_of_a_document_is_an_oid() -> None:
    name = UUID("0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0")
    assert unique_id(InstanceIdentifier("1.2", "x")) == "1.2^x"
    assert unique_id(InstanceIdentifier(str(name).upper())) == f"2.25.{name.int}"
    for wrong in (
        None,
        InstanceIdentifier("abc"),
        InstanceIdentifier("1.2", "a^b"),
        InstanceIdentifier("1" * 200),
    ):
        with pytest.raises(FhirError):
            unique_id(wrong)
