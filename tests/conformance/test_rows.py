"""The ledger: every row of the FAPI 2.0 checklist has a test whose name carries its number.

A row is a clause, or an answer that certifiers ask for to the letter, of the FAPI 2.0 Security Profile and Message
Signing, RFC 9126, 9101, 9207, 9449, 8705, 7523, 7636, 9700, OpenID Connect Core or JARM. A test may carry several.
"""

import re
from importlib.util import find_spec

import pytest

from tests.support.ledger import names_of_tests

ROWS = {
    "M1": "one issuer in all documents",
    "M2": "no member that no registry lists",
    "M3": "what FAPI 2.0 wants announced",
    "M4": "the JWKS",
    "M5": "endpoints, claims, scopes and acr values of the features that are on",
    "T1": "TLS 1.2 or later, ciphers of BCP 195",
    "T2": "303 and never 307",
    "T3": "no-store on tokens and codes",
    "T4": "Date on every response",
    "T5": "405, forms only, no CORS at the authorization endpoint",
    "P1": "client authentication at PAR",
    "P2": "201 with request_uri and expires_in",
    "P3": "no request_uri inside a pushed request",
    "P4": "PKCE, S256 only",
    "P5": "redirect_uri exactly as registered",
    "P6": "response_type code",
    "P7": "request_uri bound to the client",
    "P8": "visited again, completed once",
    "P9": "only client_id and request_uri are read",
    "P10": "nothing without PAR",
    "P11": "dpop_jkt and the proof at PAR bind the code",
    "P12": "scope order",
    "P13": "state and nonce intact or absent",
    "P14": "duplicate parameters",
    "P15": "validated before any page",
    "C1": "algorithms of assertions",
    "C2": "aud is the issuer as a string",
    "C3": "iss and sub",
    "C4": "exp",
    "C5": "iat and nbf",
    "C6": "jti once",
    "C7": "how failure is answered",
    "C8": "client_id of somebody else",
    "C9": "one method, the registered one",
    "C10": "tls_client_auth",
    "C11": "self_signed_tls_client_auth",
    "C12": "certificates from a proxy",
    "A1": "iss in every answer",
    "A2": "the code: 128 bits, once, 60 seconds, bound",
    "A3": "second use revokes",
    "A4": "verifier, client, expiry",
    "A5": "access_denied",
    "A6": "JARM",
    "K1": "sender-constrained only",
    "K2": "access tokens and the token response",
    "K3": "refresh tokens",
    "K4": "refresh needs client authentication",
    "K5": "ID tokens",
    "K6": "client credentials give no refresh token",
    "D1": "one proof of the right form, key and signature",
    "D2": "claims of a proof",
    "D3": "htu",
    "D4": "freshness",
    "D5": "jti once, everywhere",
    "D6": "nonces",
    "D7": "bound tokens need their key",
    "D8": "errors say what was wrong",
    "D9": "the replay claim comes last",
    "D10": "the certificate on every request",
    "S1": "request objects",
    "S2": "only what is inside counts",
    "S3": "who must sign is refused without",
    "S4": "signed introspection",
    "S5": "HTTP message signatures",
    "I1": "introspection",
    "I2": "revocation",
    "I3": "registration",
    "E1": "identifying the client",
    "E2": "redirect URIs with a query, duplicates in the address",
    "E3": "randomness",
    "E4": "status and code",
    "E5": "expired means expired",
    "E6": "refresh: new key, old token, repeated scope",
    "E7": "nonces: the same things may be sent again",
    "E8": "private_key_jwt with certificate-bound tokens, proofs for aliases",
    "E9": "the gateway's refusals and headers",
    "E10": "the authorization response, plain and signed",
    "E11": "the token response and the ID token",
    "E12": "characters of error_description",
    "E13": "TLS 1.2 ciphers",
    "E14": "beyond what suites test",
}
"""Every row. E stands for the paragraphs of exact answers, in their order; the last of them, on registration, is I3's."""

OPTIONAL = {
    "S5": ("gateway.proxy.answers.signed_answers",),
    "I3": ("authz.endpoints.registration",),
}
"""Rows of features that a build may be without, with the modules that make the row due."""

_NUMBERED = re.compile(r"test_((?:[A-Z][0-9]{1,2}_)+)")


def rows_of(name: str) -> set[str]:
    """The rows that the name of a test carries."""
    match = _NUMBERED.match(name)
    return set(match[1].strip("_").split("_")) if match else set()


_OF_OTHER_LISTS = frozenset({"attacks", "model", "unit", "test_smart_scopes"})
"""Folders and files whose letters and numbers are those of another list."""

COVERED = {row for name in names_of_tests(without=_OF_OTHER_LISTS) for row in rows_of(name)}


def is_due(row: str) -> bool:
    """Whether what the row speaks of is part of this build."""
    return row not in OPTIONAL or any(exists(module) for module in OPTIONAL[row])


def exists(module: str) -> bool:
    """Whether the module is there; its packages may be missing too."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("row", [row for row in ROWS if is_due(row)])
def test_every_row_has_a_test(row: str) -> None:
    assert row in COVERED, f"no test carries {row}: {ROWS[row]}"


def test_rows_are_numbered_without_gaps() -> None:
    for letter in sorted({row[0] for row in ROWS}):
        numbers = [int(row[1:]) for row in ROWS if row[0] == letter]
        assert numbers == list(range(1, len(numbers) + 1))


def test_names_are_read_as_they_are_written() -> None:
    assert rows_of("test_P9_only_two") == {"P9"}
    assert rows_of("test_E5_P8_at_its_second") == {"E5", "P8"}
    assert rows_of("test_C10_each") == {"C10"}
    assert rows_of("test_RFC_9864_name") == rows_of("test_a_P9_name") == rows_of("test_P9") == set()
