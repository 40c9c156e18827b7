"""The server's own keys as others see them: JWK Set and signatures (FAPI 2.0 5.4, RFC 7517, 7518, 8037, 9068; M4)."""

import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jws
from joserfc.jwk import KeySet

from authz.keys import KeyRing, by_hand, generate_private_key
from authz.protocol import jose
from authz.protocol.encoding import strict_json
from authz.storage.sqlite.store import open_store

NOW = 1_800_000_000
ALGORITHMS = ["ES256", "PS256", "EdDSA"]
PUBLIC_MEMBERS = {
    "EC": {"kty", "crv", "x", "y", "kid", "use", "alg"},
    "RSA": {"kty", "n", "e", "kid", "use", "alg"},
    "OKP": {"kty", "crv", "x", "kid", "use", "alg"},
}


async def _two_keys(path: Path, algorithm: str) -> KeyRing:
    store = await open_store(path)
    ring = await KeyRing.open(
        store, encryption_key=bytes(32), algorithms=(algorithm,), clock=lambda: NOW, emit=lambda event: None
    )
    await ring.change(by_hand.rotate)
    await store.close()
    return ring


@pytest.fixture(scope="module", params=ALGORITHMS)
def ring(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    """A ring with two keys of one algorithm: the active one and its announced successor."""
    return asyncio.run(_two_keys(tmp_path_factory.mktemp("keys") / "keys.db", request.param))


def keys(ring: KeyRing) -> list[dict[str, object]]:
    found = ring.jwks()["keys"]
    assert isinstance(found, list)
    return found


def test_M4_every_key_has_kid_use_and_alg(ring: KeyRing) -> None:
    assert len(keys(ring)) == 2
    for key in keys(ring):
        assert key["use"] == "sig"
        assert key["alg"] in ALGORITHMS
        assert isinstance(key["kid"], str)
        assert key["kid"]


def test_M4_kids_are_distinct(ring: KeyRing) -> None:
    assert len({key["kid"] for key in keys(ring)}) == len(keys(ring))


def test_M4_no_key_has_a_member_that_is_not_public(ring: KeyRing) -> None:
    for key in keys(ring):
        assert key.keys() == PUBLIC_MEMBERS[str(key["kty"])]


def test_M4_keys_are_large_enough(ring: KeyRing) -> None:
    """RSA of at least 2048 bits, elliptic curves of at least 224 (FAPI 2.0 Security Profile 5.4.1)."""
    for key in keys(ring):
        public = jose.import_public_jwk(key).key
        if isinstance(public, rsa.RSAPublicKey):
            assert public.key_size >= 2048
            assert public.public_numbers().e == 65537
        elif isinstance(public, ec.EllipticCurvePublicKey):
            assert public.curve.key_size >= 224
        else:
            assert isinstance(public, ed25519.Ed25519PublicKey)


async def test_tokens_carry_alg_kid_and_typ_and_nothing_else(ring: KeyRing) -> None:
    token = await ring.sign({"sub": "person"}, typ="at+jwt")
    header = jose.parse_compact(token).header
    assert header == {"alg": keys(ring)[0]["alg"], "kid": keys(ring)[0]["kid"], "typ": "at+jwt"}


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")  # FAPI 2.0 still asks for that name
async def test_another_library_verifies_our_tokens_with_our_jwks_alone(ring: KeyRing) -> None:
    token = await ring.sign({"sub": "person", "name": "Ü"}, typ="at+jwt")
    found = jws.deserialize_compact(token, KeySet.import_key_set(dict(ring.jwks())), algorithms=ALGORITHMS)  # type: ignore[arg-type]
    assert strict_json(found.payload) == {"sub": "person", "name": "Ü"}


async def test_a_changed_token_does_not_verify(ring: KeyRing) -> None:
    token = await ring.sign({"sub": "person"}, typ="at+jwt")
    header, payload, signature = token.split(".")
    other = (await ring.sign({"sub": "other"}, typ="at+jwt")).split(".")[1]
    public = [jose.import_public_jwk(key) for key in keys(ring)]
    assert jose.verify(token, public)[1] == {"sub": "person"}
    with pytest.raises(jose.JoseError):
        jose.verify(f"{header}.{other}.{signature}", public)
    with pytest.raises(jose.JoseError):
        jose.verify(f"{header}.{payload}.{signature}", public[1:])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_two_keys_are_alike(algorithm: str) -> None:
    made = [generate_private_key(algorithm) for _ in range(2)]
    thumbprints = {jose.thumbprint(jose.public_jwk(key, kid="k")) for key in made}
    assert len(thumbprints) == 2
