"""HTTP message signatures: the published examples of RFC 9421, and of RFC 9530 those that it signs."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwcrypto.jwk import JWK

from authz.protocol import jwk
from authz.protocol.http_signatures import (
    Component,
    Message,
    MessageSignatureError,
    read_content_digest,
    signature_base,
    signature_fields,
)
from authz.protocol.structured_fields import BareItem

# RFC 9421 B.1
RSA_PSS = """-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2
+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+
oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHq
gDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5W
Utzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4
aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI
2wIDAQAB
-----END PUBLIC KEY-----
"""
P256 = {
    "kty": "EC",
    "crv": "P-256",
    "kid": "test-key-ecc-p256",
    "x": "qIVYZVLCrPZHGHjP17CTW0_-D9Lfw0EkjqF7xB4FivA",
    "y": "Mc4nN9LTDOBhfoUeg8Ye9WedFRhnZXZJA12Qp0zZ6F0",
}
ED25519 = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF
-----END PRIVATE KEY-----
"""
DIGEST_OF_REQUEST = (
    "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"
)
# RFC 9421 B.2: the request and the response that the examples sign.
REQUEST = Message(
    fields=(
        ("Host", "example.com"),
        ("Date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("Content-Type", "application/json"),
        ("Content-Digest", DIGEST_OF_REQUEST),
        ("Content-Length", "18"),
    ),
    method="POST",
    target_uri="https://example.com/foo?param=Value&Pet=dog",
)
RESPONSE = Message(
    fields=(
        ("Date", "Tue, 20 Apr 2021 02:07:56 GMT"),
        ("Content-Type", "application/json"),
        (
            "Content-Digest",
            "sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ==:",
        ),
        ("Content-Length", "23"),
    ),
    status=200,
)


def components(*names: str) -> list[Component]:
    """Component identifiers as RFC 9421 writes them, without the quotes."""
    return [Component(n.split(";")[0], ";req" in n, ";tr" in n) for n in names]


def created(at: int, keyid: str, **more: str) -> dict[str, BareItem]:
    return {"created": at, "keyid": keyid, **more}


def test_rfc9421_b_2_1_a_signature_that_covers_nothing() -> None:
    base = signature_base(
        [], created(1618884473, "test-key-rsa-pss", nonce="b3k2pp5k7z-50gnwp.yemd"), REQUEST, None
    )
    assert base.decode() == (
        '"@signature-params": ();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd"'
    )
    verify_rsa_pss_sha512(
        "d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJMkA7Ch"
        "G52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxV"
        "rogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ss"
        "inQ98Xw9Q==",
        base,
    )


def test_rfc9421_b_2_3_a_signature_that_covers_all() -> None:
    covered = components(
        "date", "@method", "@path", "@query", "@authority", "content-type", "content-digest", "content-length"
    )
    base = signature_base(covered, created(1618884473, "test-key-rsa-pss"), REQUEST, None)
    assert base.decode().split("\n") == [
        '"date": Tue, 20 Apr 2021 02:07:55 GMT',
        '"@method": POST',
        '"@path": /foo',
        '"@query": ?param=Value&Pet=dog',
        '"@authority": example.com',
        '"content-type": application/json',
        f'"content-digest": {DIGEST_OF_REQUEST}',
        '"content-length": 18',
        '"@signature-params": ("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest"'
        ' "content-length");created=1618884473;keyid="test-key-rsa-pss"',
    ]
    verify_rsa_pss_sha512(
        "bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0f"
        "UxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7"
        "JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsD"
        "ZKEgM4cUA==",
        base,
    )


def test_rfc9421_b_2_4_a_signed_response() -> None:
    covered = components("@status", "content-type", "content-digest", "content-length")
    base = signature_base(covered, created(1618884473, "test-key-ecc-p256"), RESPONSE, None)
    signature = base64.b64decode(
        "wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw=="
    )
    jwk.import_public_jwk(P256).verify(signature, base, "ES256")
    with pytest.raises(jwk.JoseError):
        jwk.import_public_jwk(P256).verify(signature, base.replace(b"200", b"201"), "ES256")


def test_rfc9421_b_2_6_our_ed25519_signature_is_the_published_one() -> None:
    covered = components("date", "@method", "@path", "@authority", "content-type", "content-length")
    parameters = created(1618884473, "test-key-ed25519")
    key = load_pem_private_key(ED25519.encode(), None)
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    signature = jwk.sign(signature_base(covered, parameters, REQUEST, None), key)
    assert signature_fields("sig-b26", covered, parameters, signature) == (
        (
            "Signature-Input",
            'sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length")'
            ';created=1618884473;keyid="test-key-ed25519"',
        ),
        (
            "Signature",
            "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:",
        ),
    )


def test_rfc9421_2_4_a_response_bound_to_its_request() -> None:
    response = Message(
        fields=(
            ("Content-Type", "application/json"),
            (
                "Content-Digest",
                "sha-512=:0Y6iCBzGg5rZtoXS95Ijz03mslf6KAMCloESHObfwnHJDbkkWWQz6PhhU9kxsTbARtY2PTBOzq24uJFpHsMuAg==:",
            ),
        ),
        status=503,
    )
    covered = components(
        "@status",
        "content-digest",
        "content-type",
        "@authority;req",
        "@method;req",
        "@path;req",
        "content-digest;req",
    )
    base = signature_base(covered, created(1618884479, "test-key-ecc-p256"), response, REQUEST)
    signature = base64.b64decode(
        "dMT/A/76ehrdBTD/2Xx8QuKV6FoyzEP/I9hdzKN8LQJLNgzU4W767HK05rx1i8meNQQgQPgQp8wq2ive3tV5Ag=="
    )
    jwk.import_public_jwk(P256).verify(signature, base, "ES256")


def test_rfc9421_2_1_4_a_field_of_the_trailer_section() -> None:
    response = Message(
        fields=(("Trailer", "Expires"), ("Expires", "Thu, 01 Jan 1970 00:00:00 GMT")),
        trailers=(("Expires", "Wed, 9 Nov 2022 07:28:00 GMT"),),
        status=200,
    )
    base = signature_base(components("@status", "trailer", "expires;tr"), {}, response, None)
    assert base.decode().split("\n") == [
        '"@status": 200',
        '"trailer": Expires',
        '"expires";tr: Wed, 9 Nov 2022 07:28:00 GMT',
        '"@signature-params": ("@status" "trailer" "expires";tr)',
    ]
    with pytest.raises(MessageSignatureError):
        signature_base(components("trailer;tr"), {}, response, None)


def test_rfc9421_2_1_white_space_folds_and_several_lines_become_one() -> None:
    message = Message(
        fields=(
            ("X-OWS-Header", "   Leading and trailing whitespace.   "),
            ("X-Obs-Fold-Header", "Obsolete\r\n    line folding."),
            ("Cache-Control", "max-age=60"),
            ("cache-control", "   must-revalidate"),
            ("Empty-Header", ""),
        )
    )
    covered = components("cache-control", "x-ows-header", "x-obs-fold-header", "empty-header")
    assert signature_base(covered, {}, message, None).decode().split("\n")[:-1] == [
        '"cache-control": max-age=60, must-revalidate',
        '"x-ows-header": Leading and trailing whitespace.',
        '"x-obs-fold-header": Obsolete line folding.',
        '"empty-header": ',
    ]


@pytest.mark.parametrize(
    ("uri", "name", "value"),
    [
        ("https://www.EXAMPLE.com:443/path?param=value", "@authority", "www.example.com"),
        ("http://www.example.com:8080/", "@authority", "www.example.com:8080"),
        ("https://www.example.com", "@path", "/"),
        ("https://www.example.com/path", "@query", "?"),
        ("https://www.example.com/path?queryString", "@query", "?queryString"),
        ("http://www.example.com/path", "@scheme", "http"),
        (
            "https://www.example.com/path?param=value",
            "@target-uri",
            "https://www.example.com/path?param=value",
        ),
    ],
)
def test_rfc9421_2_2_what_is_derived_from_a_request(uri: str, name: str, value: str) -> None:
    request = Message(method="GET", target_uri=uri)
    line = signature_base(components(f"{name};req"), {}, Message(status=200), request).decode().split("\n")[0]
    assert line == f'"{name}";req: {value}'


@pytest.mark.parametrize(
    "covered",
    [
        ["@signature-params"],
        ["@method"],
        ["@status;req"],
        ["@status;tr"],
        ["x-missing"],
        ["@status", "@status"],
        ["Content-Type"],
        ["@request-response"],
        ["content-digest;tr"],
    ],
)
def test_rfc9421_2_5_what_a_message_does_not_have_ends_the_base(covered: list[str]) -> None:
    with pytest.raises(MessageSignatureError):
        signature_base(components(*covered), {}, RESPONSE, REQUEST)


def test_rfc9530_2_the_published_digests_are_those_of_the_published_contents() -> None:
    assert read_content_digest(DIGEST_OF_REQUEST) == {
        "sha-512": hashlib.sha512(b'{"hello": "world"}').digest()
    }
    both = (
        "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:,"
        "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:"
    )
    content = b'{"hello": "world"}\n'
    assert read_content_digest(both) == {
        "sha-256": hashlib.sha256(content).digest(),
        "sha-512": hashlib.sha512(content).digest(),
    }
    assert read_content_digest("unixsum=:ZA==:") == {}


def verify_rsa_pss_sha512(signature: str, base: bytes) -> None:
    """RFC 9421 3.3.1. Our RSA keys are published as PS256 and sign otherwise; the base is the same for all."""
    key = load_pem_public_key(RSA_PSS.encode())
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(base64.b64decode(signature), base, padding.PSS(padding.MGF1(SHA512()), 64), SHA512())


def test_the_test_key_of_b_1_is_the_one_that_rfc9421_prints() -> None:
    """P256 above is given as a JWK: its thumbprint is the published key's."""
    pem = (
        "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lf\n"
        "w0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==\n-----END PUBLIC KEY-----\n"
    )
    assert JWK.from_pem(pem.encode()).thumbprint() == jwk.thumbprint(P256)
