"""Who asks, as registries want to hear it: a SAML 2.0 assertion made of the token's claims (IHE XUA, ITI-40), signed.

XML-DSig, enveloped, over exclusive C14N of exactly what is written: the writer writes nothing else.
"""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from authz.protocol.tokens import Caller
from gateway.document_services.xds.canonical_xml import Element, element, written
from gateway.xds_settings import AssertionSettings

_PURPOSES = "2.16.840.1.113883.5.8"  # HL7 v3 ActReason
_SYSTEMS = {"http://snomed.info/sct": "2.16.840.1.113883.6.96"}
_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
_ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
_RSA = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
_ECDSA = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
_UNSPECIFIED = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
_BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_CONTEXT = "urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified"
_EARLIER = 5  # seconds that clocks may differ
MAX_VALUES = 20


class Assertions:
    """Makes assertions with one key."""

    def __init__(self, settings: AssertionSettings) -> None:
        """Raises OSError, ValueError where key and certificate are not what they should be."""
        self._settings = settings
        key = load_pem_private_key(settings.key.read_bytes(), None)
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise ValueError("the key of assertions must be RSA or EC")
        certificate = x509.load_pem_x509_certificate(settings.certificate.read_bytes())
        if certificate.public_key() != key.public_key():
            raise ValueError("the certificate of assertions is not that of their key")
        self._key = key
        self._certificate = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()

    def about(self, caller: Caller, *, id_: str, now: int) -> Element:
        """A signed assertion about a caller. id_ is its ID, now seconds since 1970."""
        plain = self._plain(caller, id_, now)
        digest = base64.b64encode(sha256(written(plain)).digest()).decode()
        method = _RSA if isinstance(self._key, rsa.RSAPrivateKey) else _ECDSA
        signed = element(
            "ds:SignedInfo",
            element("ds:CanonicalizationMethod", Algorithm=_C14N),
            element("ds:SignatureMethod", Algorithm=method),
            element(
                "ds:Reference",
                element(
                    "ds:Transforms",
                    element("ds:Transform", Algorithm=_ENVELOPED),
                    element("ds:Transform", Algorithm=_C14N),
                ),
                element("ds:DigestMethod", Algorithm=_SHA256),
                element("ds:DigestValue", digest),
                URI=f"#{id_}",
            ),
        )
        signature = element(
            "ds:Signature",
            signed,
            element("ds:SignatureValue", base64.b64encode(self._sign(written(signed))).decode()),
            element("ds:KeyInfo", element("ds:X509Data", element("ds:X509Certificate", self._certificate))),
        )
        return plain.beginning_with(signature, after=1)  # SAML 2.0 core 2.3.3: behind the issuer

    def _sign(self, content: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(content, padding.PKCS1v15(), SHA256())
        r, s = decode_dss_signature(self._key.sign(content, ec.ECDSA(SHA256())))
        length = (self._key.key_size + 7) // 8
        return r.to_bytes(length, "big") + s.to_bytes(length, "big")  # XML-DSig 1.1 6.4.3

    def _plain(self, caller: Caller, id_: str, now: int) -> Element:
        settings = self._settings
        until = min(now + settings.lifetime_seconds, caller.expires_at)
        return element(
            "saml:Assertion",
            element("saml:Issuer", settings.issuer),
            element(
                "saml:Subject",
                element("saml:NameID", caller.subject, Format=_UNSPECIFIED, NameQualifier=caller.issuer),
                element(
                    "saml:SubjectConfirmation",
                    element("saml:SubjectConfirmationData", NotOnOrAfter=_instant(until)),
                    Method=_BEARER,
                ),
            ),
            element(
                "saml:Conditions",
                element("saml:AudienceRestriction", element("saml:Audience", settings.audience)),
                NotBefore=_instant(now - _EARLIER),
                NotOnOrAfter=_instant(until),
            ),
            element(
                "saml:AuthnStatement",
                element("saml:AuthnContext", element("saml:AuthnContextClassRef", _CONTEXT)),
                AuthnInstant=_instant(_signed_in(caller)),
            ),
            element("saml:AttributeStatement", *self._attributes(caller.claims, caller.subject)),
            ID=id_,
            IssueInstant=_instant(now),
            Version="2.0",
        )

    def _attributes(self, claims: Mapping[str, object], subject: str) -> list[Element]:
        names = self._settings.claims
        said = {word: _values(claims.get(names[word])) for word in names}
        texts = {
            "urn:oasis:names:tc:xspa:1.0:subject:subject-id": said["subject"] or [subject],
            "urn:oasis:names:tc:xspa:1.0:subject:organization": (
                said["organization"] or [self._settings.organization]
            ),
            "urn:oasis:names:tc:xspa:1.0:subject:organization-id": (
                said["organization_id"] or [self._settings.organization_id]
            ),
        }
        found = [_attribute(name, values) for name, values in texts.items() if any(values)]
        roles = [_coded("hl7:Role", value, "") for value in said["role"]]
        if roles:
            found.append(_attribute("urn:oasis:names:tc:xacml:2.0:subject:role", roles))
        purposes = [_coded("hl7:PurposeOfUse", each, _PURPOSES) for each in said["purpose"]]
        if not purposes and self._settings.purpose:
            purposes = [_coded("hl7:PurposeOfUse", self._settings.purpose, _PURPOSES)]
        if purposes:
            found.append(_attribute("urn:oasis:names:tc:xspa:1.0:subject:purposeofuse", purposes))
        return found


def _values(said: object) -> list[str]:
    listed = said if isinstance(said, list) else [said]
    return [each for each in listed[:MAX_VALUES] if isinstance(each, str) and each]


def _attribute(name: str, values: list[str] | list[Element]) -> Element:
    return element("saml:Attribute", *(element("saml:AttributeValue", each) for each in values), Name=name)


def _coded(name: str, text: str, system: str) -> Element:
    """A code as CE of HL7 v3; text is a code, or system and code with '|' between."""
    before, mark, code = text.rpartition("|")
    if mark:
        system = _SYSTEMS.get(before, before.removeprefix("urn:oid:"))
    said = {"code": code, "xsi__type": "hl7:CE"} | ({"codeSystem": system} if system else {})
    return element(name, **said)


def _signed_in(caller: Caller) -> int:
    at = caller.claims.get("auth_time")
    return at if isinstance(at, int) and not isinstance(at, bool) else caller.issued_at


def _instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
