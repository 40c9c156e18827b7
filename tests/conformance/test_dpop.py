"""D1 to D8: the rules of DPoP proofs and server nonces (RFC 9449). Replay claims and answers are the doors'."""

import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import assume, given
from hypothesis import strategies as st
from joserfc import jws as joserfc_jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from authz.protocol import dpop
from authz.protocol.dpop import Nonces, Proof, ath_of, check, replay_key
from authz.protocol.errors import ErrorCode, OAuthError
from tests.support.jose import (
    ABSENT,
    DEFAULT_NOW,
    PrivateKey,
    algorithm,
    b64,
    ec_key,
    ed_key,
    make_jws,
    make_proof,
    private_jwk,
    public_jwk,
    raw_signature,
    rsa_key,
    thumbprint,
)

NOW = DEFAULT_NOW
URL = "https://fhir.example/fhir/r4/Patient/A"
KEY = ec_key()
KEYS = [KEY, rsa_key(), ed_key()]
IDS = ["ES256", "PS256", "EdDSA"]
NONCES = Nonces(b"s" * 32, "resource-server", 300)


def accept(proof: str | None, *, access_token: str | None = None, **options: Any) -> Proof:
    options["ath"] = None if access_token is None else ath_of(access_token)
    return check(
        proof,
        **{"method": "GET", "url": URL, "now": NOW, "nonces": NONCES, "nonce_required": False} | options,
    )


def refuse(proof: str | None, code: ErrorCode = ErrorCode.INVALID_DPOP_PROOF, **options: Any) -> str:
    """The description of the refusal."""
    with pytest.raises(OAuthError) as caught:
        accept(proof, **options)
    assert caught.value.code is code
    assert caught.value.status == 400
    return caught.value.description


def made(key: PrivateKey = KEY, url: str = URL, **overrides: Any) -> str:
    return make_proof(key, overrides.pop("method", "GET"), url, overrides.pop("now", NOW), **overrides)


# D1: structure, typ, alg, jwk, signature


@pytest.mark.parametrize("key", KEYS, ids=IDS)
def test_D1_a_right_proof_is_accepted_with_each_algorithm(key: PrivateKey) -> None:
    proof = accept(made(key, jti="one"))
    assert (proof.thumbprint, proof.jti, proof.issued_at, proof.nonce) == (thumbprint(key), "one", NOW, None)


def test_D1_Ed25519_is_another_name_of_EdDSA() -> None:
    key = ed_key()
    assert accept(made(key, header={"alg": "Ed25519"})).thumbprint == thumbprint(key)


@pytest.mark.parametrize("key", KEYS, ids=IDS)
def test_D1_proofs_of_other_libraries_are_accepted(key: PrivateKey) -> None:
    claims = {"jti": "x", "htm": "GET", "htu": URL, "iat": NOW}
    header = {"typ": "dpop+jwt", "jwk": public_jwk(key)}
    accept(jwt.encode(claims, key, algorithm(key), headers=header))
    kinds: dict[str, Any] = {"ES256": ECKey, "PS256": RSAKey, "Ed25519": OKPKey}
    name = algorithm(key).replace("EdDSA", "Ed25519")  # RFC 9864
    imported = kinds[name].import_key(private_jwk(key))
    accept(
        joserfc_jws.serialize_compact(
            {**header, "alg": name}, json.dumps(claims), imported, algorithms=[name]
        )
    )


def test_D1_the_example_of_RFC_9449_is_accepted_at_its_time() -> None:
    proof = (  # RFC 9449 4.1, figure 1
        "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpD"
        "a0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6"
        "IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGU"
        "uY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NV"
        "Y-FNyJK70nfbV37xRZT3Lg"
    )
    found = accept(proof, method="POST", url="https://server.example.com/token", now=1562262616)
    assert found.jti == "-BwC3ESc6acc2lTc"
    assert found.thumbprint == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"  # RFC 9449 6.1


def test_D1_the_example_of_RFC_9449_for_a_resource_carries_ath() -> None:
    proof = (  # RFC 9449 7.1, figure 12
        "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpD"
        "a0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6"
        "IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGx"
        "lLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk"
        "1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJp"
        "LjA"
    )
    token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
    options = {"url": "https://resource.example.org/protectedresource", "now": 1562262618}
    assert accept(proof, access_token=token, **options).jti == "e1j3V_bKic8-LAEB"
    refuse(proof, access_token=token + "x", **options)


def test_D1_a_missing_proof_is_invalid_dpop_proof_and_never_use_dpop_nonce() -> None:
    for nonce_required in (True, False):
        assert "required" in refuse(None, nonce_required=nonce_required)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda proof: "",
        lambda proof: proof + ", " + proof,
        lambda proof: proof + "," + made(),
        lambda proof: proof.rsplit(".", 1)[0],
        lambda proof: proof.rsplit(".", 1)[0] + ".",
        lambda proof: proof + ".",
        lambda proof: proof + "=",
        lambda proof: " " + proof,
        lambda proof: proof + "\n",
        lambda proof: proof.replace(".", ". ", 1),
        lambda proof: proof + "é",
        lambda proof: "." + proof.split(".", 1)[1],
        lambda proof: "W10." + proof.split(".", 1)[1],
        lambda proof: proof.split(".")[0] + "..",
        lambda proof: json.dumps({"payload": proof.split(".")[1], "signatures": []}),
        lambda proof: "a" * 5000,
    ],
)
def test_D1_what_is_not_one_compact_JWS_is_refused(spoil: Callable[[str], str]) -> None:
    refuse(spoil(made()))


@pytest.mark.parametrize("typ", ["dpop+jwt", "DPoP+JWT", "application/dpop+jwt"])
def test_D1_typ_has_no_case(typ: str) -> None:
    accept(made(header={"typ": typ}))


@pytest.mark.parametrize("typ", [ABSENT, None, "", "JWT", "at+jwt", "dpop+jwt ", 1, ["dpop+jwt"]])
def test_D1_another_typ_is_refused(typ: object) -> None:
    assert "typ" in refuse(made(header={"typ": typ}))


@pytest.mark.parametrize(
    "alg",
    [ABSENT, None, "none", "None", "", "RS256", "HS256", "ES384", "ES256K", "PS512", "es256", 256, ["ES256"]],
)
def test_D1_another_alg_is_refused(alg: object) -> None:
    assert "alg" in refuse(made(header={"alg": alg}))


@pytest.mark.parametrize("key", KEYS, ids=IDS)
def test_D1_alg_must_be_that_of_the_key(key: PrivateKey) -> None:
    for other in {"ES256", "PS256", "EdDSA"} - {algorithm(key)}:
        refuse(made(key, header={"alg": other}))


def test_D1_a_secret_that_is_the_public_key_signs_nothing() -> None:
    """The confusion of algorithms: HS256 with the public key as the secret."""
    header = {"typ": "dpop+jwt", "jwk": public_jwk(KEY)}
    claims = {"jti": "x", "htm": "GET", "htu": URL, "iat": NOW}
    refuse(jwt.encode(claims, "x" * 64, "HS256", headers=header))


def test_D1_RS256_of_the_same_key_is_refused() -> None:
    key = rsa_key()
    header = {"typ": "dpop+jwt", "jwk": public_jwk(key)}
    refuse(jwt.encode({"jti": "x", "htm": "GET", "htu": URL, "iat": NOW}, key, "RS256", headers=header))


@pytest.mark.parametrize(
    "jwk", [ABSENT, None, "", {}, [], "https://keys.example/jwk", {"kty": "oct", "k": "AA"}]
)
def test_D1_a_missing_or_unusable_jwk_is_refused(jwk: object) -> None:
    refuse(
        made(header={"jwk": jwk, "jku": "https://keys.example", "x5u": "https://keys.example", "kid": "1"})
    )


@pytest.mark.parametrize("key", KEYS, ids=IDS)
def test_D1_a_jwk_with_its_private_members_is_refused(key: PrivateKey) -> None:
    assert "must be public" in refuse(made(key, header={"jwk": private_jwk(key)}))


@pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "oth", "k"])
def test_D1_any_private_member_is_enough(member: str) -> None:
    refuse(made(header={"jwk": public_jwk(KEY, **{member: "AA"})}))


@pytest.mark.parametrize(
    "more", [{"use": "enc"}, {"key_ops": ["sign"]}, {"key_ops": "verify"}, {"alg": "ES384"}, {"alg": "PS256"}]
)
def test_D1_a_jwk_for_another_purpose_is_refused(more: dict[str, object]) -> None:
    refuse(made(header={"jwk": public_jwk(KEY, **more)}))


def test_D1_a_jwk_as_browsers_export_it_is_accepted() -> None:
    jwk = public_jwk(KEY, key_ops=["verify"], ext=True, use="sig", alg="ES256", kid="k")
    assert accept(made(header={"jwk": jwk})).thumbprint == thumbprint(KEY)


@pytest.mark.parametrize("member", ["crit", "b64"])
def test_D1_critical_extensions_are_refused_and_other_members_ignored(member: str) -> None:
    accept(made(header={"kid": "x", "x5c": ["y"], "jku": "https://keys.example", "future": {"a": [1]}}))
    refuse(made(header={member: ["future"], "future": 1}))


def test_D1_a_short_RSA_key_is_refused_with_its_length() -> None:
    assert "1024 bits" in refuse(made(rsa_key(bits=1024)))


def test_D1_a_signature_of_another_key_or_payload_is_refused() -> None:
    header, payload, signature = made().split(".")
    assert "signature" in refuse(made(header={"jwk": public_jwk(ec_key())}))
    assert "signature" in refuse(f"{header}.{made().split('.')[1]}.{signature}")
    assert "signature" in refuse(f"{header}.{payload}.{'A' * 86}")
    assert "signature" in refuse(f"{header}.{payload}.{signature[:-4]}")


def test_D1_an_ES256_signature_in_DER_is_refused() -> None:
    signing_input = made().rsplit(".", 1)[0]
    der = KEY.sign(signing_input.encode(), ec.ECDSA(hashes.SHA256()))
    assert "signature" in refuse(f"{signing_input}.{b64(der)}")


def test_D1_a_remembered_header_does_not_vouch_for_the_next_proof() -> None:
    """Headers are cached by their bytes; signature and claims never are."""
    proof = made()
    accept(proof)
    header, payload, _ = proof.split(".")
    forged = b64(json.dumps({"jti": "x", "htm": "GET", "htu": URL, "iat": NOW}).encode())
    refuse(f"{header}.{forged}.{b64(raw_signature(ec_key(), f'{header}.{forged}'.encode()))}")
    refuse(f"{header}.{payload}.{'A' * 86}")


def test_D1_remembered_headers_are_bounded_and_only_those_that_signed() -> None:
    remembered = dpop._Headers(at_most=2)
    for encoded in ("a", "b", "b", "c"):
        remembered.keep(encoded, ("ES256", dpop.jose.import_public_jwk(public_jwk(KEY))))
    assert list(remembered._known) == ["b", "c"]
    unsigned = make_proof(KEY, header={"unsigned": 1}).rsplit(".", 1)[0] + "." + "A" * 86
    refuse(unsigned, method="POST", url="https://as.example/token")
    assert unsigned.split(".")[0] not in dpop._HEADERS._known


# D2: claims


@pytest.mark.parametrize("name", ["htm", "htu", "iat", "jti"])
@pytest.mark.parametrize("value", [ABSENT, None, "", True, [], {}, ["GET"]])
def test_D2_every_claim_is_required_with_its_type(name: str, value: object) -> None:
    assert name in refuse(made(**{name: value}))


@pytest.mark.parametrize("value", ["1800000000", 1e300, -(2**60), 10**30])
def test_D2_iat_is_a_number_of_seconds(value: object) -> None:
    refuse(made(iat=value))


def test_D2_iat_with_a_fraction_is_a_number_of_seconds_too() -> None:
    assert accept(made(iat=NOW - 0.5)).issued_at == NOW - 1


def test_D2_unknown_claims_are_ignored() -> None:
    accept(made(iss="x", sub=["y"], aud="https://elsewhere.example", future={"a": 1}))


def test_D2_jti_has_at_most_128_characters() -> None:
    accept(made(jti="x" * 128))
    assert "128" in refuse(made(jti="x" * 129))


def test_D2_nbf_and_exp_are_honoured() -> None:
    accept(made(exp=NOW + 1, nbf=NOW + 10))
    assert "exp of the proof passed 0 s ago" in refuse(made(exp=NOW))
    assert "nbf is 11 s in the future" in refuse(made(nbf=NOW + 11))
    refuse(made(exp="never"))
    refuse(made(nbf=True))


def test_D2_ath_is_required_with_an_access_token_and_that_of_this_token() -> None:
    accept(made(access_token="token"), access_token="token")
    accept(made(access_token="token"))  # at the authorization server it says nothing
    assert "ath" in refuse(made(), access_token="token")
    assert "ath" in refuse(made(access_token="token2"), access_token="token")
    assert "ath" in refuse(made(ath=None), access_token="token")
    assert "ath" in refuse(made(ath="é"), access_token="token")


def test_D2_a_nonce_that_is_no_text_is_refused() -> None:
    refuse(made(nonce=1), nonce_required=True)


@pytest.mark.parametrize(
    "payload",
    [b"", b"null", b"[]", b'"x"', b"{}", b'{"htm":"GET","htm":"GET"}', b"\xff", b"{" * 50, b'{"iat":NaN}'],
)
def test_D2_a_payload_that_is_no_JSON_object_is_refused(payload: bytes) -> None:
    refuse(make_jws(KEY, {"typ": "dpop+jwt", "alg": "ES256", "jwk": public_jwk(KEY)}, payload))


def test_D2_a_claim_that_is_named_twice_is_refused() -> None:
    claims = json.dumps({"jti": "x", "htm": "GET", "htu": URL, "iat": NOW})
    twice = claims[:-1] + f', "htu": "{URL}"}}'
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": public_jwk(KEY)}
    accept(make_jws(KEY, header, claims.encode()))
    refuse(make_jws(KEY, header, twice.encode()))


# D3: htm and htu


@pytest.mark.parametrize("method", ["get", "POST", "GET ", "HEAD"])
def test_D3_htm_is_compared_exactly(method: str) -> None:
    assert "expected GET" in refuse(made(method=method))


@pytest.mark.parametrize(
    "htu",
    [
        URL,
        "HTTPS://FHIR.Example/fhir/r4/Patient/A",
        "https://fhir.example:443/fhir/r4/Patient/A",
        "https://fhir.example:/fhir/r4/Patient/A",
        f"{URL}?_summary=true",
        f"{URL}#top",
        f"{URL}?a=b?c#d#e",
        f"{URL}#a?b",
    ],
)
def test_D3_htu_is_compared_without_query_and_fragment_case_of_host_and_default_port(htu: str) -> None:
    accept(made(url=htu))


@pytest.mark.parametrize(
    "htu",
    [
        "https://fhir.example/fhir/r4/Patient/a",
        "https://fhir.example/fhir/r4/Patient/A/",
        "https://fhir.example/fhir/r4/Patient//A",
        "https://fhir.example/fhir/r4/Patient/B/../A",
        "https://fhir.example/fhir/r4/./Patient/A",
        "https://fhir.example/fhir/r4/Patient/%41",
        "https://fhir.example/FHIR/r4/Patient/A",
        "https://fhir.example/fhir/r4/Patient/A;v=1",
        "https://fhir.example/fhir/r4/Patient/A%3F",
        "http://fhir.example/fhir/r4/Patient/A",
        "http://fhir.example:443/fhir/r4/Patient/A",
        "https://fhir.example:8443/fhir/r4/Patient/A",
        "https://fhir.example:99999/fhir/r4/Patient/A",
        "https://fhir.example:x/fhir/r4/Patient/A",
        "https://fhir.example./fhir/r4/Patient/A",
        "https://evil.example/fhir/r4/Patient/A",
        "https://fhir.example@evil.example/fhir/r4/Patient/A",
        "https://user@fhir.example/fhir/r4/Patient/A",
        "https://@fhir.example/fhir/r4/Patient/A",
        "https://fhir.example\\@evil.example/fhir/r4/Patient/A",
        "//fhir.example/fhir/r4/Patient/A",
        "/fhir/r4/Patient/A",
        "fhir.example/fhir/r4/Patient/A",
        "https:/fhir.example/fhir/r4/Patient/A",
        "https://[fhir.example/fhir/r4/Patient/A",
        "https://fhir.example/fhir/r4/Patient/A ",
        " https://fhir.example/fhir/r4/Patient/A",
        "https://fhir.example/fhir/r4/Pat\tient/A",
        "https://fhir.éxample/fhir/r4/Patient/A",
        "?",
    ],
)
def test_D3_any_other_htu_is_refused(htu: str) -> None:
    assert "htu" in refuse(made(url=htu))


def test_D3_an_empty_path_is_the_root() -> None:
    accept(made(url="https://fhir.example"), url="https://fhir.example/")
    refuse(made(url="https://fhir.example//"), url="https://fhir.example/")


def test_D3_the_port_of_the_listener_counts() -> None:
    accept(made(url="https://localhost:8443/token"), url="https://localhost:8443/token")
    refuse(made(url="https://localhost/token"), url="https://localhost:8443/token")
    accept(made(url="http://[::1]:80/token"), url="http://[::1]/token")


# D4, D6: freshness


@pytest.mark.parametrize(
    ("offset", "fresh"), [(-61, False), (-60, True), (0, True), (10, True), (11, False), (61, False)]
)
def test_D4_without_a_nonce_iat_is_at_most_60_s_old_and_10_s_ahead(offset: int, fresh: bool) -> None:
    proof = made(iat=NOW + offset)
    if fresh:
        accept(proof)
    else:
        assert f"iat is {abs(offset)} s in the {'past' if offset < 0 else 'future'}" in refuse(proof)


def test_D4_the_age_is_configurable() -> None:
    accept(made(iat=NOW - 120), max_age_seconds=120)
    refuse(made(iat=NOW - 121), max_age_seconds=120)


@pytest.mark.parametrize("offset", [-300, -61, 0, 61, 300])
@pytest.mark.parametrize("nonce_required", [True, False])
def test_D4_with_a_valid_nonce_iat_may_be_5_minutes_off(offset: int, nonce_required: bool) -> None:
    nonce = NONCES.current(NOW)
    found = accept(made(iat=NOW + offset, nonce=nonce), nonce_required=nonce_required)
    assert found.nonce == nonce


@pytest.mark.parametrize("offset", [-3600, -301, 301, 3600])
@pytest.mark.parametrize("nonce", [None, "current", "stale"])
def test_D4_an_hour_off_is_refused_before_a_nonce_is_asked_for(offset: int, nonce: str | None) -> None:
    sent = NONCES.current(NOW) if nonce == "current" else nonce
    said = refuse(made(iat=NOW + offset, nonce=sent), nonce_required=True)
    assert f"{abs(offset)} s in the {'past' if offset < 0 else 'future'}" in said


@pytest.mark.parametrize("nonce", [None, "", "stale", NONCES.current(NOW - 400), "é" * 28, "A" * 28])
def test_D6_without_a_valid_nonce_use_dpop_nonce_is_answered(nonce: str | None) -> None:
    refuse(made(nonce=nonce), ErrorCode.USE_DPOP_NONCE, nonce_required=True)


def test_D6_use_dpop_nonce_says_that_all_the_rest_is_right() -> None:
    required = {"nonce_required": True}
    refuse(made(url="https://evil.example/"), **required)
    refuse(made(method="POST"), **required)
    refuse(made(), access_token="token", **required)
    refuse(made(), expected_thumbprint=thumbprint(ec_key()), **required)
    refuse(made(exp=NOW), **required)
    refuse(made().rsplit(".", 1)[0] + "." + "A" * 86, **required)


def test_D6_where_nonces_are_optional_one_that_expired_leaves_iat_to_decide() -> None:
    stale = NONCES.current(NOW - 400)
    assert accept(made(nonce=stale)).nonce is None
    refuse(made(nonce=stale, iat=NOW - 61))


def test_D6_nonces_live_for_their_lifetime_and_no_longer() -> None:
    start = NOW - NOW % 30
    nonce = NONCES.current(start)
    assert nonce == NONCES.current(start + 29) != NONCES.current(start + 30)
    assert [NONCES.check(nonce, start + age) for age in (-31, -30, 0, 299, 300)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert NONCES.expires_at(nonce, start) == start + 300
    assert [NONCES.is_ageing(nonce, start + age) for age in (0, 149, 150, 400)] == [False, False, True, True]
    assert NONCES.is_ageing("foreign", start)


def test_D6_nonces_of_another_purpose_or_secret_are_foreign() -> None:
    nonce = NONCES.current(NOW)
    assert Nonces(b"s" * 32, "resource-server", 300).check(nonce, NOW)  # another node
    assert not Nonces(b"s" * 32, "authorization-server", 300).check(nonce, NOW)
    assert not Nonces(b"t" * 32, "resource-server", 300).check(nonce, NOW)


@given(
    st.integers(0, 27), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
)
def test_D6_a_changed_nonce_is_refused(at: int, character: str) -> None:
    nonce = NONCES.current(NOW)
    changed = nonce[:at] + character + nonce[at + 1 :]
    assume(changed != nonce)
    assert not NONCES.check(changed, NOW)


@given(st.text(max_size=40))
def test_D6_any_text_can_be_asked_about(nonce: str) -> None:
    assert not NONCES.check(nonce, NOW)
    NONCES.is_ageing(nonce, NOW)


def test_D6_weak_secrets_and_empty_lifetimes_are_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Nonces(b"s" * 15, "p", 300)
    with pytest.raises(ValueError, match="1 s"):
        Nonces(b"s" * 16, "p", 0)
    short = Nonces(b"s" * 16, "p", 1)
    assert short.check(short.current(NOW), NOW)
    assert not short.check(short.current(NOW), NOW + 1)


# D5, D7, D8


def test_D5_the_replay_key_tells_purposes_keys_and_jtis_apart() -> None:
    proof = accept(made(jti="one"))
    same = accept(made(jti="one", iat=NOW - 1))
    keys = {
        replay_key(proof, "a"),
        replay_key(proof, "b"),
        replay_key(accept(made(jti="two")), "a"),
        replay_key(accept(made(ed_key(), jti="one")), "a"),
    }
    assert len(keys) == 4
    assert {len(key) for key in keys} == {16}
    assert replay_key(same, "a") == replay_key(proof, "a")


@given(
    offset=st.integers(-300, 300),
    handed_out=st.none() | st.integers(-400, 30),
    nonce_required=st.booleans(),
    later=st.integers(0, 1000),
    behind=st.integers(-30, 30),
)
def test_D5_no_node_accepts_a_proof_after_its_claim_has_ended(
    offset: int, handed_out: int | None, nonce_required: bool, later: int, behind: int
) -> None:
    """Accepted here and now: wherever it is accepted later, by a clock up to 30 s off, the claim still stands."""
    nonce = None if handed_out is None else NONCES.current(NOW + handed_out)
    token = made(iat=NOW + offset, nonce=nonce)
    try:
        proof = accept(token, nonce_required=nonce_required)
        accept(token, nonce_required=nonce_required, now=NOW + later - behind)
    except OAuthError:
        return
    assert NOW + later < proof.accept_until


def test_D7_another_key_than_the_expected_is_refused() -> None:
    accept(made(), expected_thumbprint=thumbprint(KEY))
    assert "key" in refuse(made(), expected_thumbprint=thumbprint(ec_key()))


def test_D8_errors_say_what_was_expected() -> None:
    said = refuse(made(url="https://fhir.example/fhir/r4/Patient/B"))
    assert (
        said
        == "htu is https://fhir.example/fhir/r4/Patient/B, expected https://fhir.example/fhir/r4/Patient/A"
    )
    assert refuse(made(iat=NOW - 94)) == "iat is 94 s in the past, at most 60 s is accepted"
    assert refuse(made(iat=NOW + 94)) == "iat is 94 s in the future, at most 10 s is accepted"
    assert refuse(made(htm='PU"T\\\n')) == "htm is PU?T??, expected GET"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(["typ", "alg", "jwk", "kid", "crit", "x"]), JSON),
    st.dictionaries(st.sampled_from(["jti", "htm", "htu", "iat", "nonce", "ath", "exp", "nbf"]), JSON),
    st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "use", "key_ops", "alg", "kid"]), JSON
    ),
)
def test_hostile_members_raise_nothing_but_OAuthError(
    header: dict[str, Any], claims: dict[str, Any], jwk: dict[str, Any]
) -> None:
    header.setdefault("jwk", public_jwk(KEY) | jwk)
    proof = make_proof(KEY, "GET", URL, NOW, header=header, **claims)
    try:
        accept(proof, access_token="token", nonce_required=True)
    except OAuthError:
        return
    raise AssertionError("a proof without nonce was accepted")


@given(
    st.text(max_size=200)
    | st.lists(st.binary(max_size=40), min_size=3, max_size=3).map(lambda p: ".".join(map(b64, p)))
)
def test_hostile_text_raises_nothing_but_OAuthError(text: str) -> None:
    refuse(text)


@given(st.integers(0, 10_000), st.sampled_from("AQgw_-9."))
def test_no_changed_character_is_accepted(at: int, character: str) -> None:
    proof = made(jti="fixed")
    at %= len(proof)
    changed = proof[:at] + character + proof[at + 1 :]
    assume(changed != proof)
    refuse(changed)
