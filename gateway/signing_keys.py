"""The key ring as gateway.yaml describes it: one way to open it, for the process and for the command line."""

import asyncio

from authz.clock import Clock
from authz.events import Emit
from authz.keys import KeyRing, KeyRingError, load_or_create_encryption_key
from authz.keys.homes import KeyHomes
from authz.keys.pkcs11_keys import Pkcs11Keys
from authz.keys.sealing import SealedKeys
from authz.storage.store import Store
from gateway.settings import GatewaySettings


async def open_key_ring(settings: GatewaySettings, store: Store, *, clock: Clock, emit: Emit) -> KeyRing:
    """The ring over this store. Raises KeyRingError, StoreUnavailable."""
    authorization, keys = settings.authorization, settings.keys
    encryption_key = await asyncio.to_thread(_encryption_key, settings)
    outside = await _outside(settings)
    try:
        return await KeyRing.open(
            store,
            encryption_key=encryption_key,
            other_encryption_key=keys.other_encryption_key,
            outside=outside,
            algorithms=authorization.signing_algorithms,
            id_token_algorithms=authorization.id_token_algorithms,
            announced_seconds=authorization.key_announced_seconds,
            active_seconds=authorization.key_active_seconds,
            published_after_retirement_seconds=authorization.key_published_after_retirement_seconds,
            clock=clock,
            emit=emit,
        )
    except BaseException:
        if outside is not None:
            await outside.close()
        raise


async def open_homes(settings: GatewaySettings) -> KeyHomes:
    """Where private keys live, without the ring: nothing in the store is changed. Raises KeyRingError, StoreUnavailable."""
    encryption_key = await asyncio.to_thread(_encryption_key, settings)
    sealed = SealedKeys(encryption_key, other=settings.keys.other_encryption_key)
    return KeyHomes(sealed, await _outside(settings))


async def _outside(settings: GatewaySettings) -> Pkcs11Keys | None:
    token = settings.keys.pkcs11
    if token is None:
        return None
    return await Pkcs11Keys.open(
        module=str(token.module), token=token.token, pin=token.pin, label=token.label
    )


def _encryption_key(settings: GatewaySettings) -> bytes:
    if settings.keys.encryption_key is not None:
        return settings.keys.encryption_key
    if settings.keys.encryption_key_file is None:
        raise KeyRingError("keys.encryption_key names neither a file nor a value")
    return load_or_create_encryption_key(settings.keys.encryption_key_file)
