"""Distinguished names as text (RFC 4514) and how two of them are compared (RFC 5280 7.1, RFC 4518)."""

import re
import unicodedata

from cryptography import x509
from cryptography.x509.oid import NameOID

RelativeNames = list[frozenset[tuple[str, str | bytes]]]
"""Relative names from the most significant (country) to the least; each a set of (OID, value made comparable)."""

_TYPES = {
    "BUSINESSCATEGORY": NameOID.BUSINESS_CATEGORY,
    "C": NameOID.COUNTRY_NAME,
    "CN": NameOID.COMMON_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
    "DNQUALIFIER": NameOID.DN_QUALIFIER,
    "E": NameOID.EMAIL_ADDRESS,
    "EMAILADDRESS": NameOID.EMAIL_ADDRESS,
    "GIVENNAME": NameOID.GIVEN_NAME,
    "JURISDICTIONC": NameOID.JURISDICTION_COUNTRY_NAME,
    "JURISDICTIONL": NameOID.JURISDICTION_LOCALITY_NAME,
    "JURISDICTIONST": NameOID.JURISDICTION_STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "ORGANIZATIONIDENTIFIER": NameOID.ORGANIZATION_IDENTIFIER,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "POSTALCODE": NameOID.POSTAL_CODE,
    "SERIALNUMBER": NameOID.SERIAL_NUMBER,
    "SN": NameOID.SURNAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "STREET": NameOID.STREET_ADDRESS,
    "TITLE": NameOID.TITLE,
    "UID": NameOID.USER_ID,
}
_ATTRIBUTE = re.compile(
    r" *+(?P<type>[A-Za-z][A-Za-z0-9-]*+|[0-9]++(?:\.[0-9]++)++) *+= *+"
    r"(?P<value>#(?:[0-9A-Fa-f]{2})++ *+|(?!#)(?:[^\\,+\"<>;\x00]|\\[ \"#+,;<=>\\]|\\[0-9A-Fa-f]{2})*+)"
    r"(?P<separator>[,+]|\Z)"
)
_ESCAPE = re.compile(rb"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)
_TEXT_TAGS = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii", 0x1E: "utf-16-be"}  # UTF8, Printable, IA5, BMP


def parse_distinguished_name(text: str) -> RelativeNames:
    """The relative names of an RFC 4514 text. Raises ValueError.

    Types are keywords in any case or dotted OIDs; spaces around '=', ',' and '+' do not count. The text begins
    with the least significant name, as OpenSSL prints it with -nameopt RFC2253.
    """
    names: RelativeNames = []
    attributes: set[tuple[str, str | bytes]] = set()
    position, separator = 0, ","
    while separator:
        match = _ATTRIBUTE.match(text, position)
        if match is None:
            raise ValueError(f"not a distinguished name by RFC 4514 at character {position + 1}")
        attributes.add((_type(match["type"]), _value(match["value"])))
        position, separator = match.end(), match["separator"]
        if separator != "+":
            names.append(frozenset(attributes))
            attributes = set()
    names.reverse()
    return names


def relative_names(name: x509.Name) -> RelativeNames:
    """The relative names of a certificate's subject."""
    return [
        frozenset((each.oid.dotted_string, _comparable(each.value)) for each in relative)
        for relative in name.rdns
    ]


def _type(keyword: str) -> str:
    if keyword[0].isdigit():
        return keyword
    oid = _TYPES.get(keyword.upper())
    if oid is None:
        raise ValueError(f"no attribute type {keyword} is known, write its OID")
    return oid.dotted_string


def _value(text: str) -> str | bytes:
    if text.startswith("#"):
        return _comparable(_string_of(bytes.fromhex(text[1:].rstrip(" "))))
    return _comparable(_ESCAPE.sub(_unescape, text.encode("utf-8")).decode("utf-8"))


def _unescape(match: re.Match[bytes]) -> bytes:
    escaped = match[1]
    return bytes.fromhex(escaped.decode("ascii")) if len(escaped) == 2 else escaped


def _string_of(ber: bytes) -> str:
    """The text in a BER string (RFC 4514 2.4). Raises ValueError for other types and longer lengths."""
    if len(ber) < 2 or ber[0] not in _TEXT_TAGS or ber[1] > 127 or len(ber) != 2 + ber[1]:
        raise ValueError("a value after # must be a BER string of at most 127 bytes")
    return ber[2:].decode(_TEXT_TAGS[ber[0]])


def _comparable(value: str | bytes) -> str | bytes:
    """The value prepared as caseIgnoreMatch compares it (RFC 4518 2)."""
    if isinstance(value, bytes):
        return value
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).casefold()).split())
