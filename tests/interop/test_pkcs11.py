"""Signing keys in a PKCS#11 token, with SoftHSM: made there, never out, verified by other libraries and by ourselves."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio

from authz.events import Event, KeyChanged
from authz.keys import KeyRing, KeyRingError, by_hand, generate_private_key, pkcs11_keys
from authz.keys.pkcs11_keys import Pkcs11Keys, Pkcs11Unavailable
from authz.protocol import jose
from authz.storage.sqlite.store import SqliteStore, open_store
from authz.storage.store import StoreUnavailable
from tests.support.token import LABEL, MISSING, MODULE, PIN, SoftToken, make_token

pytestmark = [
    pytest.mark.asyncio(loop_scope="function"),
    pytest.mark.xdist_group("pkcs11"),
    pytest.mark.skipif(MISSING, reason="needs softhsm2"),
]
START = 1_800_000_000
ANNOUNCED, ACTIVE, KEPT = 1000, 10_000, 5000


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftToken]:
    made = make_token(tmp_path_factory.mktemp("softhsm"))
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ.update(made.environment)
    yield made
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


@pytest_asyncio.fixture
async def home(token: SoftToken) -> AsyncIterator[Pkcs11Keys]:
    keys = await open_home()
    yield keys
    await keys.close()
    keys._thread.shutdown()


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await open_store(tmp_path / "keys.db")
    yield store
    await store.close()


async def open_home(**changed: Any) -> Pkcs11Keys:
    return await Pkcs11Keys.open(
        **{"module": str(MODULE), "token": LABEL, "pin": PIN, "label": "test"} | changed
    )


class Clock:
    now = START

    def __call__(self) -> int:
        return self.now


async def open_ring(
    store: SqliteStore,
    home: Pkcs11Keys | None,
    clock: Clock,
    algorithms: tuple[str, ...] = ("ES256", "PS256"),
    events: list[Event] | None = None,
) -> KeyRing:
    return await KeyRing.open(
        store,
        encryption_key=bytes(32),
        outside=home,
        algorithms=algorithms,
        announced_seconds=ANNOUNCED,
        active_seconds=ACTIVE,
        published_after_retirement_seconds=KEPT,
        clock=clock,
        emit=(lambda event: None) if events is None else events.append,
    )


def objects(home: Pkcs11Keys, kid: str) -> Any:
    """What the token has under a kid, asked for in its thread."""
    import pkcs11

    def look(session: Any) -> list[dict[str, object]]:
        found = session._session.get_objects({pkcs11.Attribute.LABEL: f"test.{kid}"})
        return [
            {
                "private": one.object_class is pkcs11.ObjectClass.PRIVATE_KEY,
                **(
                    {
                        "sensitive": one[pkcs11.Attribute.ALWAYS_SENSITIVE],
                        "never_extractable": one[pkcs11.Attribute.NEVER_EXTRACTABLE],
                        "local": one[pkcs11.Attribute.LOCAL],
                    }
                    if one.object_class is pkcs11.ObjectClass.PRIVATE_KEY
                    else {}
                ),
            }
            for one in found
        ]

    return home._ask(look)


@pytest.mark.parametrize("algorithm", ["ES256", "PS256"])
async def test_M4_a_token_signed_in_the_hsm_is_verified_by_PyJWT_with_our_jwks_alone(
    store: SqliteStore, home: Pkcs11Keys, algorithm: str
) -> None:
    ring = await open_ring(store, home, Clock())
    signed = await ring.sign({"sub": "Ü"}, typ="at+jwt", algorithm=algorithm)
    header = jwt.get_unverified_header(signed)
    assert (header["alg"], header["typ"]) == (algorithm, "at+jwt")
    key = jwt.PyJWKSet.from_dict(dict(ring.jwks()))[header["kid"]]
    assert jwt.decode(signed, key.key, [algorithm]) == {"sub": "Ü"}
    public = ring.public_key(header["kid"])
    assert public is not None
    assert jose.verify(signed, [public])[1] == {"sub": "Ü"}


async def test_an_ID_token_by_RS256_is_signed_in_the_hsm_and_verified_by_PyJWT(
    store: SqliteStore, home: Pkcs11Keys
) -> None:
    ring = await open_ring(store, home, Clock(), ("ES256", "RS256"))
    signed = await ring.sign_id_token(lambda algorithm: {"sub": "Ü", "a": algorithm}, "RS256")
    key = jwt.PyJWKSet.from_dict(dict(ring.jwks()))[jwt.get_unverified_header(signed)["kid"]]
    assert jwt.decode(signed, key.key, ["RS256"]) == {"sub": "Ü", "a": "RS256"}
    with pytest.raises(StoreUnavailable):
        await ring.sign({}, typ="at+jwt", algorithm="RS256")


async def test_the_private_half_is_made_in_the_token_and_never_leaves_it(
    store: SqliteStore, home: Pkcs11Keys
) -> None:
    ring = await open_ring(store, home, Clock())
    for row in await store.keys():
        assert home.holds(row.encrypted)
        assert len(row.encrypted) == 23  # a mark and a random name: nothing that signs
        found = await objects(home, row.kid)
        assert sorted(found, key=str) == [
            {"private": False},
            {"private": True, "sensitive": True, "never_extractable": True, "local": True},
        ]
    assert list(ring.algorithms) == ["ES256", "PS256"]


async def test_an_ES256_signature_is_r_and_s_of_32_bytes_each(store: SqliteStore, home: Pkcs11Keys) -> None:
    ring = await open_ring(store, home, Clock())
    for number in range(20):
        assert len(jose.parse_compact(await ring.sign({"n": number}, typ="JWT")).signature) == 64


async def test_signing_runs_in_the_tokens_own_thread_and_not_on_the_loop(
    store: SqliteStore, home: Pkcs11Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = await open_ring(store, home, Clock())
    session = home._session
    assert session is not None
    threads, really = [], type(session).sign

    def sign(*arguments: Any) -> bytes:
        threads.append(threading.current_thread())
        return really(*arguments)

    monkeypatch.setattr(type(session), "sign", sign)
    await asyncio.gather(*(ring.sign({"n": number}, typ="JWT") for number in range(10)))
    assert len(threads) == 10
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()
    assert threads[0].name.startswith("pkcs11")


async def test_a_key_of_the_token_is_announced_active_retired_and_destroyed(
    store: SqliteStore, home: Pkcs11Keys
) -> None:
    clock, events = Clock(), list[Event]()
    ring = await open_ring(store, home, clock, ("ES256",), events)
    [first] = [key.kid for key in await store.keys()]
    old = await ring.sign({}, typ="JWT")
    clock.now = START + ACTIVE - ANNOUNCED
    await ring.tick()
    assert jwt.get_unverified_header(await ring.sign({}, typ="JWT"))["kid"] == first
    clock.now = START + ACTIVE
    await ring.tick()
    new = await ring.sign({}, typ="JWT")
    assert jwt.get_unverified_header(new)["kid"] != first
    keys = jwt.PyJWKSet.from_dict(dict(ring.jwks()))
    for signed in (old, new):
        jwt.decode(signed, keys[jwt.get_unverified_header(signed)["kid"]].key, ["ES256"])
    assert len(await objects(home, first)) == 2
    clock.now += KEPT
    await ring.tick()
    assert await objects(home, first) == []
    assert ring.public_key(first) is None
    assert KeyChanged(first, "removed") in events


async def test_a_key_is_found_again_after_a_restart(store: SqliteStore, home: Pkcs11Keys) -> None:
    before = await open_ring(store, home, Clock())
    signed = await before.sign({"a": 1}, typ="JWT")
    again = await open_ring(store, home, Clock())
    assert again.jwks() == before.jwks()
    key = again.public_key(jwt.get_unverified_header(signed)["kid"])
    assert key is not None
    assert jose.verify(signed, [key])[1] == {"a": 1}


async def test_a_token_that_is_away_signs_nothing_and_is_used_again_when_it_is_back(
    store: SqliteStore, home: Pkcs11Keys, token: SoftToken
) -> None:
    ring = await open_ring(store, home, Clock())
    await ring.sign({}, typ="JWT")
    await ring.check()
    token.hide()
    try:
        with pytest.raises(StoreUnavailable):
            await ring.check()
        with pytest.raises(Pkcs11Unavailable, match="does not do as it is asked"):
            await ring.sign({}, typ="JWT")
    finally:
        token.show()
    await ring.check()
    assert await ring.sign({}, typ="JWT")


async def test_keys_that_were_sealed_in_the_store_are_followed_by_keys_in_the_token(
    store: SqliteStore, home: Pkcs11Keys
) -> None:
    clock = Clock()
    sealed = await open_ring(store, None, clock, ("ES256",))
    signed = await sealed.sign({}, typ="JWT")
    ring = await open_ring(store, home, clock, ("ES256",))
    assert [key.state for key in await store.keys()] == ["active", "announced"]
    clock.now += ANNOUNCED
    await ring.tick()
    states = {key.state: home.holds(key.encrypted) for key in await store.keys()}
    assert states == {"retired": False, "active": True}
    key = ring.public_key(jwt.get_unverified_header(signed)["kid"])
    assert key is not None
    jose.verify(signed, [key])


async def test_a_row_that_names_a_key_of_another_kid_makes_no_key_ours(
    store: SqliteStore, home: Pkcs11Keys
) -> None:
    """Who can write the database cannot publish another key of the token."""
    ring = await open_ring(store, home, Clock(), ("ES256",))
    [row] = await store.keys()
    await store.put_key(replace(row, kid="forged", state="retired"))
    with pytest.raises(StoreUnavailable):
        await ring.tick()
    assert ring.public_key("forged") is None
    await store.delete_key("forged")
    await ring.tick()


async def test_nothing_is_imported_beside_a_token(store: SqliteStore, home: Pkcs11Keys) -> None:
    ring = await open_ring(store, home, Clock())
    with pytest.raises(by_hand.KeyRefused, match="made in the PKCS#11 token and stay there"):
        await ring.change(lambda steps: by_hand.take_in(steps, generate_private_key("ES256"), at_once=False))


async def test_a_wrong_token_and_EdDSA_are_refused(home: Pkcs11Keys) -> None:
    with pytest.raises(StoreUnavailable):
        await open_home(token="nowhere")
    with pytest.raises(StoreUnavailable):
        await open_home(module="/nowhere.so")
    with pytest.raises(KeyRingError, match="ES256, PS256 or RS256, not EdDSA"):
        await home.make("kid", "EdDSA")


async def test_without_python_pkcs11_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(pkcs11_keys, "import_module", import_module)
    with pytest.raises(KeyRingError, match=r"not installed: pip install 'securus\[pkcs11\]'"):
        await open_home()
