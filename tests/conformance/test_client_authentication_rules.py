"""C1 to C5: the rules of private_key_jwt (RFC 7523, FAPI 2.0 5.3.2.1). Single use and methods are the door's."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.protocol import client_authentication
from authz.protocol.client_authentication import Assertion, check_assertion, read_assertion
from authz.protocol.client_profiles import PROFILES
from authz.protocol.clients import AuthenticationMethod, Client, GrantType, ProfileName
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.jose import import_jwks
from tests.support.jose import (
    ABSENT,
    DEFAULT_NOW,
    PrivateKey,
    algorithm,
    ec_key,
    ed_key,
    make_assertion,
    make_jws,
    make_proof,
    public_jwk,
    rsa_key,
)

NOW = DEFAULT_NOW
ISSUER = "https://as.example"
TOKEN_URL = "https://as.example/token"
KEY = ec_key()
KEYS: list[PrivateKey] = [KEY, rsa_key(), ed_key()]
CLIENT = Client(
    client_id="portal",
    name="Portal",
    authentication_method=AuthenticationMethod.PRIVATE_KEY_JWT,
    scope=(),
    grant_types=frozenset({GrantType.CLIENT_CREDENTIALS}),
    jwks=tuple(public_jwk(key) for key in KEYS),
)


def accept(assertion: str, *, client: Client = CLIENT, now: int = NOW) -> Assertion:
    return check_assertion(
        assertion,
        client=client,
        keys=import_jwks(client.jwks),
        issuer=ISSUER,
        token_urls=(TOKEN_URL,),
        now=now,
    )


def refuse(assertion: str, **options: Any) -> str:
    """The description of the refusal."""
    with pytest.raises(OAuthError) as caught:
        accept(assertion, **options)
    assert (caught.value.code, caught.value.status) == (ErrorCode.INVALID_CLIENT, 401)
    return caught.value.description


def made(key: PrivateKey = KEY, **overrides: Any) -> str:
    return make_assertion(key, "portal", overrides.pop("aud", ISSUER), NOW, **overrides)


@pytest.mark.parametrize("key", KEYS, ids=["ES256", "PS256", "EdDSA"])
def test_C1_a_right_assertion_is_accepted_with_each_algorithm(key: PrivateKey) -> None:
    assert accept(made(key, jti="one")).jti == "one"
    claims = {"iss": "portal", "sub": "portal", "aud": ISSUER, "exp": NOW + 60, "jti": "two"}
    assert accept(jwt.encode(claims, key, algorithm(key))).jti == "two"


def test_C1_Ed25519_is_another_name_of_EdDSA() -> None:
    accept(made(KEYS[2], header={"alg": "Ed25519"}))


def test_C1_RS256_is_refused_and_the_accepted_ones_are_named() -> None:
    claims = {"iss": "portal", "sub": "portal", "aud": ISSUER, "exp": NOW + 60, "jti": "x"}
    said = refuse(jwt.encode(claims, KEYS[1], "RS256"))
    assert "alg is RS256, expected one of ES256, Ed25519, EdDSA, PS256" in said


@pytest.mark.parametrize("alg", ["none", "None", "", None, "HS256", "ES384", ABSENT])
def test_C1_none_and_others_are_refused(alg: object) -> None:
    assertion = made(header={"alg": alg})
    refuse(assertion)
    refuse(assertion.rsplit(".", 1)[0] + ".")


def test_C1_a_key_of_another_client_is_refused() -> None:
    assert "signature" in refuse(made(ec_key()))
    refuse(made(header={"jwk": public_jwk(KEY)}), client=dataclasses.replace(CLIENT, jwks=()))


def test_C1_the_registered_key_is_found_by_kid() -> None:
    client = dataclasses.replace(CLIENT, jwks=(public_jwk(ec_key(), kid="old"), public_jwk(KEY, kid="new")))
    accept(made(kid="new"), client=client)
    assert "no key has kid other" in refuse(made(kid="other"), client=client)
    refuse(made(kid="old"), client=client)


@pytest.mark.parametrize(
    "typ", ["JWT", "jwt", "client-authentication+jwt", "application/Client-Authentication+JWT"]
)
def test_C1_an_assertion_needs_no_typ_and_may_have_its_own(typ: str) -> None:
    accept(made(header={"typ": typ}))


@pytest.mark.parametrize("typ", ["dpop+jwt", "oauth-authz-req+jwt", "at+jwt", "", 1, None])
def test_C1_what_says_that_it_is_something_else_is_no_assertion(typ: object) -> None:
    assert "typ" in refuse(made(header={"typ": typ}))


@pytest.mark.parametrize(
    "audience",
    [
        TOKEN_URL,
        "https://as.example/par",
        "https://as.example/",
        "https://AS.example",
        "https://other.example",
        [ISSUER],
        [ISSUER, TOKEN_URL],
        [],
        "",
        None,
        ABSENT,
        1,
        {"aud": ISSUER},
        "é",
    ],
)
def test_C2_aud_is_the_issuer_as_a_string(audience: object) -> None:
    assert refuse(made(aud=audience)) == "aud of the client_assertion must be the string https://as.example"


def test_C2_the_token_url_counts_only_where_the_profile_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lenient = dataclasses.replace(PROFILES[ProfileName.FAPI2], token_url_audience_allowed=True)
    profiles: Mapping[ProfileName, Any] = {ProfileName.FAPI2: lenient}
    monkeypatch.setattr(client_authentication, "PROFILES", profiles)
    accept(made(aud=TOKEN_URL))
    accept(made())
    refuse(made(aud=[TOKEN_URL]))


def test_C2_a_profile_without_rules_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_authentication, "PROFILES", {})
    assert "profile" in refuse(made())


@pytest.mark.parametrize("name", ["iss", "sub"])
@pytest.mark.parametrize("value", [ABSENT, None, "", "Portal", "portal ", "other", 1, ["portal"]])
def test_C3_iss_and_sub_are_the_client_id(name: str, value: object) -> None:
    assertion = made(**{name: value})
    assert f"{name} of the client_assertion must be the client_id" in refuse(assertion)
    with pytest.raises(OAuthError) as caught:
        read_assertion(assertion)
    assert caught.value.code is ErrorCode.INVALID_CLIENT


def test_C3_another_client_cannot_speak_for_this_one() -> None:
    refuse(made(iss="other", sub="other"))


def test_C3_the_client_is_found_in_the_assertion() -> None:
    assert read_assertion(made(ec_key())).client_id == "portal"


@pytest.mark.parametrize("exp", [NOW + 1, NOW + 300, NOW + 310, NOW + 60.5])
def test_C4_exp_is_at_most_5_minutes_ahead_with_10_s_for_the_clocks(exp: float) -> None:
    assert accept(made(exp=exp)).expires_at == int(exp) + 30


@pytest.mark.parametrize(
    "exp", [ABSENT, None, "1800000060", True, NOW, NOW - 1, NOW + 311, NOW + 3600, -1, 2**53, [1]]
)
def test_C4_a_missing_expired_or_distant_exp_is_refused(exp: object) -> None:
    assert "exp" in refuse(made(exp=exp))


def test_C4_expired_means_expired() -> None:
    assertion = made(exp=NOW + 60)
    accept(assertion, now=NOW + 59)
    assert refuse(assertion, now=NOW + 60) == "the client_assertion expired 0 s ago"


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_C5_iat_and_nbf_may_be_10_s_ahead_and_no_more(name: str) -> None:
    for accepted in (NOW - 3600, NOW, NOW + 10, NOW + 10.9, ABSENT, None):
        accept(made(**{name: accepted}))
    for refused in (NOW + 11, NOW + 61, "1800000000", False):
        refuse(made(**{name: refused}))
    assert f"{name} is 61 s in the future, at most 10 s is accepted" in refuse(made(**{name: NOW + 61}))


@pytest.mark.parametrize("jti", [ABSENT, None, "", 1, ["x"], "x" * 257])
def test_C6_without_a_jti_an_assertion_cannot_be_used_once(jti: object) -> None:
    accept(made(jti="x" * 256))
    assert "jti" in refuse(made(jti=jti))


def test_C7_a_proof_or_text_is_no_assertion() -> None:
    for text in ("", "a.b.c", "é", make_proof(KEY), made() + ".", made() + " ", "x" * 9000):
        refuse(text)
        with pytest.raises(OAuthError):
            read_assertion(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "jwk"]), JSON),
    st.dictionaries(st.sampled_from(["iss", "sub", "aud", "exp", "iat", "nbf", "jti"]), JSON, min_size=1),
)
def test_hostile_members_raise_nothing_but_OAuthError(header: dict[str, Any], claims: dict[str, Any]) -> None:
    assertion = make_assertion(KEY, "portal", ISSUER, NOW, header=header, **claims)
    try:
        read_assertion(assertion)
        accept(assertion)
    except OAuthError:
        return


@given(st.binary(max_size=80))
def test_hostile_payloads_raise_nothing_but_OAuthError(payload: bytes) -> None:
    assertion = make_jws(KEY, {"alg": "ES256"}, payload)
    refuse(assertion)
    with pytest.raises(OAuthError):
        read_assertion(assertion)


def test_errors_quote_nothing_that_an_error_may_not_hold() -> None:
    refuse(made(header={"alg": 'x"\\\n'}))
    named = dataclasses.replace(CLIENT, jwks=(public_jwk(KEY, kid="1"),))
    assert "no key has kid x????" in refuse(made(header={"kid": 'x"\\\né'}), client=named)
    refuse(make_jws(KEY, {"alg": "ES256", "crit": ['"']}, json.dumps({}).encode()))
