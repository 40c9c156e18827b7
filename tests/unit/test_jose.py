"""JWK import and JWS: published vectors, agreement with other libraries, hostile input."""

import asyncio
import json
import warnings
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, padding
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwk as joserfc_jwk
from joserfc import jws as joserfc_jws

from authz.protocol import jose
from authz.protocol.encoding import base64url_decode
from authz.protocol.jose import (
    JoseError,
    LocalSigner,
    import_jwks,
    import_public_jwk,
    parse_compact,
    sign_jwt,
    verify,
)
from tests.support.jose import (
    PrivateKey,
    algorithm,
    b64,
    ec_key,
    ed_key,
    make_jws,
    private_jwk,
    public_jwk,
    rsa_key,
    thumbprint,
)

KEYS: list[PrivateKey] = [ec_key(), rsa_key(), ed_key()]
IDS = ["ES256", "PS256", "EdDSA"]
KINDS: dict[str, Any] = {"ES256": joserfc_jwk.ECKey, "PS256": joserfc_jwk.RSAKey, "EdDSA": joserfc_jwk.OKPKey}

RFC_7515_A_3_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
RFC_7515_A_3 = (
    "eyJhbGciOiJFUzI1NiJ9"
    ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
)
RFC_7638_KEY = {
    "kty": "RSA",
    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3"
    "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6"
    "qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJ"
    "zKnqDKgw",
    "e": "AQAB",
    "alg": "RS256",
    "kid": "2011-04-29",
}
RFC_8037_A_2_KEY = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
RFC_8037_A_4 = (
    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    ".hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)


def signed(key: PrivateKey, claims: object = None, **header: object) -> str:
    return make_jws(key, {"alg": algorithm(key), **header}, json.dumps(claims or {"a": 1}).encode())


def keys_of(*jwks: dict[str, Any]) -> tuple[jose.PublicKey, ...]:
    return tuple(import_public_jwk(jwk) for jwk in jwks)


def test_the_example_of_RFC_7515_A_3_is_verified() -> None:
    _, claims = verify(RFC_7515_A_3, keys_of(RFC_7515_A_3_KEY))
    assert claims == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}
    with pytest.raises(JoseError, match="signature"):
        verify(RFC_7515_A_3[:-2] + "1A", keys_of(RFC_7515_A_3_KEY))


def test_the_example_of_RFC_8037_A_4_is_verified() -> None:
    jws = parse_compact(RFC_8037_A_4)
    assert jws.payload == b"Example of Ed25519 signing"
    import_public_jwk(RFC_8037_A_2_KEY).verify(jws.signature, jws.signing_input, "EdDSA")


def test_the_thumbprints_of_RFC_7638_and_RFC_8037_are_right() -> None:
    assert jose.thumbprint(RFC_7638_KEY) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    assert jose.thumbprint(RFC_8037_A_2_KEY) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize("key", KEYS, ids=IDS)
def test_thumbprints_are_those_of_another_library(key: PrivateKey) -> None:
    other = KINDS[algorithm(key)].import_key(public_jwk(key))
    assert (
        import_public_jwk(public_jwk(key, kid="x", use="sig")).thumbprint
        == other.thumbprint()
        == thumbprint(key)
    )


@pytest.mark.parametrize(
    "jwk",
    [
        {},
        {"kty": "oct"},
        {"kty": "EC", "crv": "P-256", "x": "a"},
        {"kty": ["EC"]},
        {"kty": "OKP", "crv": "Ed25519", "x": "\ud800"},
    ],
)
def test_a_thumbprint_needs_the_required_members(jwk: dict[str, Any]) -> None:
    with pytest.raises(JoseError):
        jose.thumbprint(jwk)


@pytest.mark.parametrize("key", KEYS, ids=IDS)
def test_what_other_libraries_sign_is_verified(key: PrivateKey) -> None:
    name = algorithm(key)
    claims = {"iss": "x", "text": "Süd", "n": [1.5, None]}
    by_jwt = jwt.encode(claims, key, name, headers={"kid": "1"})
    registered = keys_of(public_jwk(key, kid="1"))
    assert verify(by_jwt, registered)[1] == claims
    other = KINDS[name].import_key(private_jwk(key))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joserfc calls the name EdDSA deprecated
        by_joserfc = joserfc_jws.serialize_compact(
            {"alg": name}, json.dumps(claims), other, algorithms=[name]
        )
    assert verify(by_joserfc, registered)[1] == claims


@pytest.mark.parametrize("key", KEYS, ids=IDS)
def test_what_we_sign_is_verified_by_other_libraries(key: PrivateKey) -> None:
    name = algorithm(key)
    claims = {"iss": "x", "text": "Süd"}
    token = asyncio.run(sign_jwt(claims, typ="at+jwt", signer=LocalSigner("k1", name, key)))
    assert jwt.get_unverified_header(token) == {"alg": name, "kid": "k1", "typ": "at+jwt"}
    assert jwt.decode(token, key.public_key(), [name]) == claims
    published = jose.public_jwk(key, kid="k1")
    assert published == public_jwk(key, kid="k1", use="sig", alg=name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = joserfc_jws.deserialize_compact(token, KINDS[name].import_key(published), algorithms=[name])
    assert json.loads(found.payload) == claims


def test_a_signer_has_the_algorithm_of_its_key() -> None:
    LocalSigner("k", "Ed25519", ed_key())
    for name, key in (
        ("PS256", ec_key()),
        ("ES256", rsa_key()),
        ("none", ed_key()),
        ("RS384", rsa_key()),
        ("RS256", ec_key()),
    ):
        with pytest.raises(JoseError):
            LocalSigner("k", name, key)
    with pytest.raises(JoseError):
        LocalSigner("k", "ES256", ec.generate_private_key(ec.SECP384R1()))


# JWK import


def point(curve: ec.EllipticCurve, crv: str) -> dict[str, Any]:
    numbers = ec.generate_private_key(curve).public_key().public_numbers()
    size = (curve.key_size + 7) // 8
    return {
        "kty": "EC",
        "crv": crv,
        "x": b64(numbers.x.to_bytes(size, "big")),
        "y": b64(numbers.y.to_bytes(size, "big")),
    }


EC = public_jwk(KEYS[0])
RSA = public_jwk(KEYS[1])
OKP = public_jwk(KEYS[2])
SMALL = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]


@pytest.mark.parametrize(
    "jwk",
    [
        {},
        {"kty": "oct", "k": "AAAA"},
        {"kty": "oct"},
        EC | {"kty": "ec"},
        EC | {"kty": ["EC"]},
        EC | {"crv": "P-384"},
        EC | {"crv": None},
        EC | {"x": EC["y"], "y": EC["x"]},
        EC | {"x": EC["x"] + "="},
        EC | {"x": b64(b"\0" + base64url_decode(EC["x"]))},
        EC | {"x": b64(base64url_decode(EC["x"])[1:])},
        EC | {"y": 1},
        EC | {"x": b64(b"\xff" * 32)},
        EC | {"x": b64(bytes(32)), "y": b64(bytes(32))},
        point(ec.SECP384R1(), "P-384"),
        point(ec.SECP256K1(), "secp256k1"),
        point(ec.SECP256K1(), "P-256"),
        RSA | {"n": "AQAB"},
        RSA | {"n": b64(b"\0" + base64url_decode(RSA["n"]))},
        RSA | {"n": b64(b"\xff" * 1025)},
        RSA | {"n": b64(base64url_decode(RSA["n"])[:-1] + b"\0")},
        RSA | {"e": "Aw"},
        RSA | {"e": "AQAA"},
        RSA | {"e": "AAEAAQ"},
        RSA | {"e": "AQAAAAE"},
        RSA | {"e": ""},
        RSA | {"n": ""},
        RSA | {"n": None},
        OKP | {"crv": "Ed448"},
        {
            "kty": "OKP",
            "crv": "Ed448",
            "x": b64(ed448.Ed448PrivateKey.generate().public_key().public_bytes_raw()),
        },
        OKP | {"crv": "X25519"},
        OKP | {"x": b64(bytes(31))},
        *[OKP | {"x": b64(bytes.fromhex(small))} for small in SMALL],
        EC | {"kid": 1},
        EC | {"kid": ""},
        EC | {"kid": "x" * 257},
        *[private_jwk(key) for key in KEYS],
        EC | {"d": None},
    ],
)
def test_a_jwk_that_is_not_acceptable_is_refused(jwk: dict[str, Any]) -> None:
    with pytest.raises(JoseError):
        import_public_jwk(jwk)


@pytest.mark.parametrize(
    ("more", "usable"),
    [
        ({}, True),
        (
            {
                "use": "sig",
                "alg": "ES256",
                "key_ops": ["verify"],
                "ext": True,
                "x5c": ["ignored"],
                "future": 1,
            },
            True,
        ),
        ({"use": "enc"}, False),
        ({"use": 1}, False),
        ({"alg": "ES384"}, False),
        ({"alg": "PS256"}, False),
        ({"alg": ["ES256"]}, False),
        ({"key_ops": ["encrypt"]}, False),
        ({"key_ops": {"verify": 1}}, False),
    ],
)
def test_use_key_ops_and_alg_bound_what_a_key_may_do(more: dict[str, Any], usable: bool) -> None:
    key = import_public_jwk(EC | more)
    assert key.algorithms == (frozenset({"ES256"}) if usable else frozenset())
    with pytest.raises(JoseError):
        key.verify(bytes(64), b"", "PS256")


def test_both_names_of_Ed25519_are_one_algorithm() -> None:
    for more in ({}, {"alg": "EdDSA"}, {"alg": "Ed25519"}):
        assert import_public_jwk(OKP | more).algorithms == {"EdDSA", "Ed25519"}


def test_a_set_keeps_its_usable_keys() -> None:
    found = import_jwks(
        [EC | {"kid": "1"}, {"kty": "oct", "k": "x"}, RSA | {"use": "enc"}, {"kty": "future"}, OKP]
    )
    assert [key.thumbprint for key in found] == [thumbprint(KEYS[0]), thumbprint(KEYS[2])]


# verification and the choice of keys


@pytest.mark.parametrize(
    ("header", "registered", "claim"),
    [
        ({"kid": "1"}, [EC | {"kid": "1"}], True),
        ({}, [EC | {"kid": "1"}], True),
        ({}, [RSA, OKP, public_jwk(ec_key()), EC], True),
        ({"kid": "1"}, [EC], True),  # registered without kid
        ({"kid": "1"}, [EC | {"kid": "2"}], False),
        ({"kid": "1"}, [RSA | {"kid": "1"}, EC | {"kid": "1"}], True),
        ({"kid": "1"}, [public_jwk(ec_key(), kid="1"), EC | {"kid": "2"}], False),
        ({"kid": "1"}, [public_jwk(ec_key(), kid="1"), EC], False),
        ({"kid": ["1"]}, [EC | {"kid": "1"}], False),
        ({}, [EC | {"use": "enc"}], False),
        ({}, [RSA, OKP], False),
        ({}, [], False),
        ({"jku": "https://k.example", "x5u": "https://k.example", "x5c": ["x"], "jwk": EC}, [OKP], False),
        ({"crit": ["exp"]}, [EC], False),
        ({"crit": []}, [EC], False),
        ({"b64": False}, [EC], False),
        ({"alg": "none"}, [EC], False),
        ({"alg": "EdDSA"}, [EC], False),
        ({"alg": None}, [EC], False),
    ],
)
def test_the_key_is_chosen_by_kid_then_purpose(
    header: dict[str, Any], registered: list[dict[str, Any]], claim: bool
) -> None:
    token = signed(KEYS[0], **header)
    if claim:
        assert verify(token, keys_of(*registered))[1] == {"a": 1}
    else:
        with pytest.raises(JoseError):
            verify(token, keys_of(*registered))


def test_a_token_without_kid_does_not_buy_endless_verifications() -> None:
    others = [public_jwk(ec_key()) for _ in range(8)]
    assert verify(signed(KEYS[0]), keys_of(*others[:7], EC))
    with pytest.raises(JoseError):
        verify(signed(KEYS[0]), keys_of(*others, EC))


def test_only_the_algorithms_of_the_caller_are_accepted() -> None:
    with pytest.raises(JoseError, match="alg is ES256, expected one of PS256"):
        verify(signed(KEYS[0]), keys_of(EC), algorithms=frozenset({"PS256"}))


@pytest.mark.parametrize("key", KEYS, ids=IDS)
def test_no_changed_bit_is_accepted(key: PrivateKey) -> None:
    registered = import_public_jwk(public_jwk(key))
    jws = parse_compact(signed(key))
    name = algorithm(key)
    registered.verify(jws.signature, jws.signing_input, name)
    for wrong in (
        b"",
        jws.signature[:-1],
        jws.signature + b"\0",
        bytes(len(jws.signature)),
        jws.signature[::-1],
    ):
        with pytest.raises(JoseError):
            registered.verify(wrong, jws.signing_input, name)
    with pytest.raises(JoseError):
        registered.verify(jws.signature, jws.signing_input + b" ", name)


def test_a_PSS_signature_with_another_salt_is_refused() -> None:
    for salt in (0, 20, 222):
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=salt)
        with pytest.raises(JoseError):
            import_public_jwk(RSA).verify(rsa_key().sign(b"x", pss, hashes.SHA256()), b"x", "PS256")


@pytest.mark.parametrize("r", [0, 1, 2**256 - 1])
@pytest.mark.parametrize("s", [0, 2**256 - 1])
def test_an_ES256_signature_of_special_numbers_is_refused(r: int, s: int) -> None:
    with pytest.raises(JoseError):
        import_public_jwk(EC).verify(r.to_bytes(32, "big") + s.to_bytes(32, "big"), b"x", "ES256")


@pytest.mark.parametrize("payload", [b"", b"[]", b'"x"', b"null", b'{"a":1,"a":2}', b"\xff", b'{"a":NaN}'])
def test_claims_are_a_strict_JSON_object(payload: bytes) -> None:
    with pytest.raises(JoseError):
        verify(make_jws(KEYS[0], {"alg": "ES256"}, payload), keys_of(EC))


def test_a_token_is_bounded_in_bytes() -> None:
    token = signed(KEYS[0])
    verify(token, keys_of(EC), max_bytes=len(token))
    with pytest.raises(JoseError, match="longer than"):
        verify(token, keys_of(EC), max_bytes=len(token) - 1)


@given(
    st.text(max_size=100)
    | st.tuples(*[st.binary(max_size=40)] * 3).map(lambda parts: ".".join(map(b64, parts)))
)
def test_hostile_tokens_raise_nothing_but_JoseError(token: str) -> None:
    with pytest.raises(JoseError):
        verify(token, keys_of(EC))


@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "use", "alg", "key_ops"]),
        st.none()
        | st.integers()
        | st.text(max_size=50)
        | st.binary(min_size=30, max_size=33).map(b64)
        | st.lists(st.text()),
    ),
    st.sampled_from([{}, EC, RSA, OKP]),
)
def test_hostile_keys_raise_nothing_but_JoseError(changed: dict[str, Any], jwk: dict[str, Any]) -> None:
    try:
        key = import_public_jwk(jwk | changed)
        for name in key.algorithms:
            key.verify(b"x" * 64, b"x", name)
    except JoseError:
        return
    assert not key.algorithms
