"""C10, C11, C12: certificates of clients: chain, subject, registered key, header forms of proxies (RFC 8705, 9440)."""

import contextlib
import hashlib
import ipaddress
from base64 import b64encode
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from authz.protocol import certificates
from authz.protocol.certificate_headers import HEADER_FORMS, from_header
from authz.protocol.certificates import jwk_holds, subject_matches, verify_chain
from authz.protocol.clients import CertificateSubject
from authz.protocol.distinguished_names import parse_distinguished_name, relative_names
from authz.protocol.errors import ErrorCode, OAuthError
from tests.support.jose import (
    DEFAULT_NOW,
    Authority,
    b64,
    certificate_authority,
    distinguished_name,
    ec_key,
    ed_key,
    issue_certificate,
    pem,
    public_jwk,
    rsa_key,
    self_signed_certificate,
)

ROOT = certificate_authority("Root")
INTERMEDIATE = certificate_authority("Intermediate", parent=ROOT)
LEAF = issue_certificate(ROOT)
LEAF_BELOW = issue_certificate(INTERMEDIATE)


def refused(
    leaf: bytes, chain: list[bytes], anchors: tuple[bytes, ...], now: int = DEFAULT_NOW
) -> OAuthError:
    with pytest.raises(OAuthError) as caught:
        verify_chain(leaf, chain, anchors, now)
    assert caught.value.code is ErrorCode.INVALID_CLIENT
    return caught.value


def test_C10_a_chain_to_an_anchor_is_accepted() -> None:
    verify_chain(LEAF, [], (ROOT.der,), DEFAULT_NOW)
    verify_chain(LEAF_BELOW, [INTERMEDIATE.der], (certificate_authority("Other").der, ROOT.der), DEFAULT_NOW)
    verify_chain(LEAF_BELOW, [], (INTERMEDIATE.der,), DEFAULT_NOW)


def test_C10_keys_of_every_accepted_type_may_be_certified() -> None:
    for key in (rsa_key(), ed_key()):
        verify_chain(issue_certificate(ROOT, key), [], (ROOT.der,), DEFAULT_NOW)


def test_C10_a_chain_to_no_anchor_is_refused() -> None:
    refused(LEAF, [], (certificate_authority("Root").der,))  # same name, other key
    refused(LEAF_BELOW, [], (ROOT.der,))
    refused(LEAF, [ROOT.der], ())
    refused(self_signed_certificate(ec_key()), [], (ROOT.der,))


def test_C10_an_anchor_that_the_client_sends_is_no_anchor() -> None:
    own = certificate_authority("Own")
    refused(issue_certificate(own), [own.der], (ROOT.der,))


def test_C10_dates_are_checked_to_the_second_and_named() -> None:
    leaf = issue_certificate(ROOT, not_before=DEFAULT_NOW, not_after=DEFAULT_NOW + 10)
    verify_chain(leaf, [], (ROOT.der,), DEFAULT_NOW)
    verify_chain(leaf, [], (ROOT.der,), DEFAULT_NOW + 10)
    assert "expired 1 s ago" in refused(leaf, [], (ROOT.der,), DEFAULT_NOW + 11).description
    assert "not valid for another 1 s" in refused(leaf, [], (ROOT.der,), DEFAULT_NOW - 1).description


def test_C10_an_expired_authority_is_refused() -> None:
    expired = certificate_authority("Expired", not_after=DEFAULT_NOW - 1)
    refused(issue_certificate(expired), [], (expired.der,))
    between = certificate_authority("Between", parent=ROOT, not_after=DEFAULT_NOW - 1)
    refused(issue_certificate(between), [between.der], (ROOT.der,))


def test_C10_a_certificate_for_servers_is_refused_and_one_without_purpose_is_not() -> None:
    for_servers = issue_certificate(ROOT, usages=[ExtendedKeyUsageOID.SERVER_AUTH])
    assert "clientAuth" in refused(for_servers, [], (ROOT.der,)).description
    for_any = issue_certificate(ROOT, usages=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
    refused(for_any, [], (ROOT.der,))
    verify_chain(issue_certificate(ROOT, usages=[]), [], (ROOT.der,), DEFAULT_NOW)


def key_usage(**named: bool) -> x509.KeyUsage:
    none = dict.fromkeys(
        [
            "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
            "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
        ],
        False,
    )  # fmt: skip
    return x509.KeyUsage(**(none | named))


CA = (x509.BasicConstraints(ca=True, path_length=None), True)


@pytest.mark.parametrize(
    "extensions",
    [
        [],
        [(x509.BasicConstraints(ca=False, path_length=None), True)],
        [CA, (key_usage(digital_signature=True), True)],
        [CA, (x509.NameConstraints([x509.DNSName("hospital.example")], None), True)],
        [CA, (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)],
    ],
    ids=["no-basic-constraints", "not-a-ca", "may-not-sign", "name-constraint", "unknown-critical"],
)
def test_C10_an_issuer_that_may_not_issue_this_is_refused(extensions: list[Any]) -> None:
    between = certificate_authority("Between", parent=ROOT, extensions=extensions)
    leaf = issue_certificate(between, names=[x509.DNSName("elsewhere.example")])
    refused(leaf, [between.der], (ROOT.der,))


def test_C10_path_length_holds() -> None:
    short = certificate_authority(
        "Short", parent=ROOT, extensions=[(x509.BasicConstraints(ca=True, path_length=0), True)]
    )
    verify_chain(issue_certificate(short), [short.der], (ROOT.der,), DEFAULT_NOW)
    below = certificate_authority("Below", parent=short)
    refused(issue_certificate(below), [below.der, short.der], (ROOT.der,))


def test_C10_a_client_certificate_issues_no_other() -> None:
    key = ec_key()
    middle = x509.load_der_x509_certificate(issue_certificate(ROOT, key))
    forged = issue_certificate(Authority(key, middle))
    refused(forged, [issue_certificate(ROOT, key)], (ROOT.der,))


def test_C10_an_authority_or_an_unknown_critical_extension_is_no_client() -> None:
    refused(INTERMEDIATE.der, [], (ROOT.der,))
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    refused(issue_certificate(ROOT, extensions=[(unknown, True)]), [], (ROOT.der,))
    verify_chain(issue_certificate(ROOT, extensions=[(unknown, False)]), [], (ROOT.der,), DEFAULT_NOW)


def test_C10_a_flood_of_intermediates_and_garbage_are_refused() -> None:
    flood = [certificate_authority(f"C{number}", parent=ROOT).der for number in range(9)]
    assert "at most 8" in refused(LEAF, flood, (ROOT.der,)).description
    refused(LEAF[:-1], [], (ROOT.der,))
    refused(LEAF + b"\0", [], (ROOT.der,))
    refused(LEAF, [b"junk"], (ROOT.der,))


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(
    st.binary(max_size=300)
    | st.integers(0, len(LEAF) - 1).map(lambda at: LEAF[:at] + b"\xff" + LEAF[at + 1 :])
)
def test_C10_damaged_certificates_raise_nothing_but_OAuthError(der: bytes) -> None:
    if der == LEAF:
        return
    with pytest.raises(OAuthError):
        verify_chain(der, [], (ROOT.der,), DEFAULT_NOW)
    subject_matches(der, CertificateSubject("subject_dn", "CN=client"))
    subject_matches(der, CertificateSubject("san_dns", "a"))
    assert not jwk_holds(der, [])


def of(subject: x509.Name | None = None, *names: x509.GeneralName) -> bytes:
    return issue_certificate(ROOT, subject=subject, names=names)


HOSPITAL = distinguished_name(
    ("country_name", "DE"), ("organization_name", "Klinik, Nord + Süd"), ("common_name", "Portal  One")
)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        (r"CN=Portal One,O=Klinik\, Nord \+ Süd,C=DE", True),
        (r"cn = portal one , o = KLINIK\2C nord \2B s\C3\BCd , c = de", True),
        (r"2.5.4.3=Portal One,2.5.4.10=Klinik\, Nord \+ Süd,2.5.4.6=#13024445", True),
        (r"CN=#0c0a506f7274616c204f6e65,O=Klinik\, Nord \+ Süd,C=DE", True),
        (r"C=DE,O=Klinik\, Nord \+ Süd,CN=Portal One", False),  # the wrong way round
        (r"CN=Portal One,C=DE", False),
        (r"CN=Portal One,OU=Klinik\, Nord \+ Süd,C=DE", False),
        (r"CN=Portal One,O=Klinik\, Nord \+ Süd,C=DE,C=DE", False),
        (r"CN=Portal One+O=Klinik\, Nord \+ Süd,C=DE", False),
        (r"CN=PortalOne,O=Klinik\, Nord \+ Süd,C=DE", False),
        ("", False),
        ("CN=Portal One,O=Klinik, Nord", False),
    ],
)
def test_C10_subject_dn_is_compared_as_names_not_as_text(text: str, matches: bool) -> None:
    assert subject_matches(of(HOSPITAL), CertificateSubject("subject_dn", text)) is matches


def test_C10_a_value_that_is_no_text_is_kept_apart() -> None:
    bits = x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"lab", x509.name._ASN1Type.BitString)
    assert relative_names(x509.Name([bits])) == [frozenset({("2.5.4.45", b"lab")})]
    assert not subject_matches(of(x509.Name([bits])), CertificateSubject("subject_dn", "2.5.4.45=lab"))


def test_C10_an_empty_subject_matches_nothing() -> None:
    assert not subject_matches(of(x509.Name([])), CertificateSubject("subject_dn", ""))


def test_C10_a_name_of_several_parts_has_no_order() -> None:
    parts = [
        x509.NameAttribute(NameOID.COMMON_NAME, "lab"),
        x509.NameAttribute(NameOID.ORGANIZATION_IDENTIFIER, "NTRDE-1"),
    ]
    subject = x509.Name([x509.RelativeDistinguishedName(parts)])
    for text in ("CN=lab+organizationIdentifier=NTRDE-1", "2.5.4.97=ntrde-1 + cn=lab"):
        assert subject_matches(of(subject), CertificateSubject("subject_dn", text))
    assert not subject_matches(of(subject), CertificateSubject("subject_dn", "CN=lab,2.5.4.97=NTRDE-1"))


@pytest.mark.parametrize(
    "text",
    [
        "CN", "CN=a,", ",CN=a", "CN=a;O=b", 'CN="a"', "XX=a", "CN=a\\", "CN=a\\zz", "CN=<a>", "CN=#zz", "CN=#0c0261",
        "CN=#030100", "CN=a++CN=b", "2.=a", "CN=\\ff", "/C=DE/CN=a", "CN=a\0b",
    ],
)  # fmt: skip
def test_C10_a_text_that_is_no_distinguished_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_distinguished_name(text)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["common_name", "organization_name", "locality_name", "user_id"]),
            st.text(
                st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=20
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
@example([("common_name", "# a\\,b ")])
def test_C10_a_name_that_another_program_prints_is_read_back(pairs: list[tuple[str, str]]) -> None:
    name = distinguished_name(*pairs)
    assert parse_distinguished_name(name.rfc4514_string()) == relative_names(name)


@given(st.text(max_size=60))
def test_C10_reading_a_name_never_fails_otherwise(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_distinguished_name(text)


@pytest.mark.parametrize(
    ("kind", "value", "matches"),
    [
        ("san_dns", "lab.example", True),
        ("san_dns", "LAB.Example", True),
        ("san_dns", "x.wild.example", False),
        ("san_dns", "example", False),
        ("san_dns", "10.0.0.1", False),
        ("san_uri", "https://lab.example/Fhir", True),
        ("san_uri", "https://lab.example/fhir", False),
        ("san_uri", "lab.example", False),
        ("san_ip", "10.0.0.1", True),
        ("san_ip", "2001:0DB8:0::1", True),
        ("san_ip", "10.0.0.2", False),
        ("san_ip", "not-an-address", False),
        ("san_email", "Ops@LAB.example", True),
        ("san_email", "ops@lab.example", False),
        ("san_ip", "lab.example", False),
        ("subject_dn", "CN=lab.example", False),
        ("san_other", "lab.example", False),
    ],
)
def test_C10_alternative_names_are_compared_by_the_rules_of_their_kind(
    kind: str, value: str, matches: bool
) -> None:
    der = of(
        None,
        x509.DNSName("lab.example"),
        x509.DNSName("*.wild.example"),
        x509.UniformResourceIdentifier("https://lab.example/Fhir"),
        x509.IPAddress(ipaddress.ip_address("10.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
        x509.RFC822Name("Ops@lab.example"),
    )
    assert subject_matches(der, CertificateSubject(kind, value)) is matches


def test_C10_without_alternative_names_none_matches() -> None:
    subject = distinguished_name(("common_name", "lab.example"))
    assert not subject_matches(of(subject), CertificateSubject("san_dns", "lab.example"))


@pytest.mark.parametrize("key", [ec_key(), rsa_key(), ed_key()], ids=["EC", "RSA", "OKP"])
def test_C11_a_self_signed_certificate_is_found_by_its_registered_key(key: Any) -> None:
    der = self_signed_certificate(key)
    assert jwk_holds(der, [public_jwk(ec_key()), public_jwk(key, kid="1", use="sig")])
    assert not jwk_holds(der, [public_jwk(ec_key()), public_jwk(rsa_key(1)), public_jwk(ed_key())])
    assert not jwk_holds(der, [])


def test_C11_a_registered_certificate_fits_itself_only() -> None:
    key = ec_key()
    registered, other = self_signed_certificate(key), self_signed_certificate(key)
    for jwk in (
        public_jwk(key, x5c=[b64encode(registered).decode()]),
        public_jwk(key, **{"x5t#S256": b64(hashlib.sha256(registered).digest())}),
    ):
        assert jwk_holds(registered, [jwk])
        assert not jwk_holds(other, [jwk])
    foreign = public_jwk(ec_key(), x5c=[b64encode(registered).decode()])
    assert not jwk_holds(registered, [foreign])  # members and x5c disagree: RFC 7517 4.7


@pytest.mark.parametrize("x5c", [[], "", None, [1], ["%"], ["AAAA"]])
def test_C11_a_broken_x5c_fits_nothing(x5c: object) -> None:
    key = ec_key()
    assert not jwk_holds(self_signed_certificate(key), [public_jwk(key, x5c=x5c)])


def test_C11_a_short_RSA_key_fits_nothing() -> None:
    key = rsa_key(bits=1024)
    assert not jwk_holds(self_signed_certificate(key), [public_jwk(key)])


def test_thumbprint_is_that_of_the_bytes() -> None:
    assert certificates.thumbprint(LEAF) == b64(hashlib.sha256(LEAF).digest())


PEM = pem(LEAF_BELOW)
CHAIN_PEM = pem(INTERMEDIATE.der)
B64 = b64encode(LEAF_BELOW).decode()
CHAIN_B64 = b64encode(INTERMEDIATE.der).decode()
HASH = hashlib.sha256(LEAF_BELOW).hexdigest()
BODY = (
    PEM.replace("-----BEGIN CERTIFICATE-----", "").replace("-----END CERTIFICATE-----", "").replace("\n", "")
)


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("nginx", quote(PEM, safe="")),
        ("nginx", quote(PEM, safe="+/=")),
        ("aws-alb", quote(PEM, safe="+=/")),
        ("apache", PEM.replace("\n", " ")),
        ("haproxy", B64),
        ("haproxy", f'"{B64}"'),
        ("traefik", BODY),
        ("traefik", quote(BODY, safe="")),
        ("envoy", f'Hash={HASH};Cert="{quote(PEM, safe="")}"'),
        (
            "envoy",
            f'By=spiffe://a/b;Hash={HASH};Cert="{quote(PEM, safe="")}";Subject="CN=a\\"b,O=c;d";URI=;DNS=a;DNS=b',
        ),
        ("rfc9440", f":{B64}:"),
    ],
)
def test_C12_the_leaf_is_read_from_the_form_of_each_proxy(form: str, value: str) -> None:
    assert from_header(form, value) == (LEAF_BELOW, ())


@pytest.mark.parametrize(
    ("form", "value", "chain"),
    [
        ("aws-alb", quote(PEM + CHAIN_PEM, safe="+=/"), None),
        ("traefik", f"{B64},{CHAIN_B64}", None),
        ("envoy", f'Cert="{quote(PEM)}";Chain="{quote(PEM + CHAIN_PEM)}"', None),
        ("envoy", f'Chain="{quote(PEM + CHAIN_PEM)}"', None),
        ("rfc9440", f":{B64}:", f" :{CHAIN_B64}: "),
    ],
)
def test_C12_the_chain_is_read_and_leads_to_the_anchor(form: str, value: str, chain: str | None) -> None:
    leaf, others = from_header(form, value, chain)
    assert (leaf, others) == (LEAF_BELOW, (INTERMEDIATE.der,))
    verify_chain(LEAF_BELOW, others, (ROOT.der,), DEFAULT_NOW)


@pytest.mark.parametrize("value", ["", " ", "(null)", '""'])
@pytest.mark.parametrize("form", HEADER_FORMS)
def test_C12_a_client_without_a_certificate_is_not_an_error(form: str, value: str) -> None:
    assert from_header(form, value) == (None, ())


def test_C12_a_chain_without_a_certificate_is_refused() -> None:
    with pytest.raises(OAuthError):
        from_header("rfc9440", "", f":{CHAIN_B64}:")


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("nginx", PEM.replace("\n", "%0")),
        ("nginx", quote(PEM) + "x"),
        ("nginx", quote(PEM).replace("MII", "MI")),
        ("nginx", B64),
        ("apache", B64),
        ("haproxy", PEM.replace("\n", " ")),
        ("haproxy", f'"{B64}'),
        ("haproxy", B64 + "\x20" + B64),
        ("haproxy", b64(LEAF_BELOW) + "_"),
        ("traefik", f"{B64},"),
        ("envoy", f'Cert="{quote(PEM)}",Cert="{quote(PEM)}"'),  # an element of somebody else in front
        ("envoy", f'Cert="{quote(PEM)}";Cert="{quote(PEM)}"'),
        ("envoy", f'Cert="{quote(PEM)}";CERT="{quote(PEM)}"'),
        ("envoy", f'Hash={"0" * 64};Cert="{quote(PEM)}"'),
        ("envoy", f'Cert="{quote(PEM)}";Chain="{quote(CHAIN_PEM)}"'),
        ("envoy", f'Hash={HASH};Subject="CN=a"'),
        ("envoy", f'Cert="{quote(PEM)}";'),
        ("envoy", f'Cert="{quote(PEM)}'),
        ("envoy", f'Cert="{quote(PEM + CHAIN_PEM)}"'),
        ("rfc9440", B64),
        ("rfc9440", f":{B64}:;a=1"),
        ("rfc9440", f":{B64}:, :{CHAIN_B64}:"),
        ("rfc9440", "::"),
        ("unknown", B64),
    ],
)
def test_C12_what_is_not_exactly_the_form_is_refused(form: str, value: str) -> None:
    with pytest.raises(OAuthError) as caught:
        from_header(form, value)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


def test_C12_only_the_form_of_RFC_9440_has_a_header_for_the_chain() -> None:
    with pytest.raises(OAuthError):
        from_header("nginx", quote(PEM), f":{CHAIN_B64}:")


def test_C12_a_flood_of_certificates_is_refused() -> None:
    from_header("rfc9440", f":{B64}:", ",".join([f":{CHAIN_B64}:"] * 8))
    with pytest.raises(OAuthError):
        from_header("rfc9440", f":{B64}:", ",".join([f":{CHAIN_B64}:"] * 9))


@given(st.sampled_from(HEADER_FORMS), st.text(st.characters(max_codepoint=255), max_size=80))
@example("nginx", "%FF")
@example("traefik", "é")
@example("envoy", "Cert=" + '"' * 50)
def test_C12_hostile_values_raise_nothing_but_OAuthError(form: str, value: str) -> None:
    try:
        leaf, chain = from_header(form, value)
    except OAuthError:
        return
    assert leaf is None
    assert chain == ()


def test_C12_remembered_values_are_told_apart() -> None:
    assert from_header("nginx", quote(pem(LEAF))) == (LEAF, ())
    assert from_header("nginx", quote(PEM)) == (LEAF_BELOW, ())
