"""The key ring as gateway.yaml describes it: one way to open it, for the process and for the command line."""

import asyncio

from authz.clock import Clock
from authz.events import Emit
from authz.keys import KeyRing, KeyRingError, load_or_create_encryption_key
from authz.keys.pkcs11_keys import Pkcs11Keys
from authz.storage.store import Store
from gateway.settings import GatewaySettings


async def open_key_ring(settings: GatewaySettings, store: Store, *, clock: Clock, emit: Emit) -> KeyRing:
    """The ring over this store. Raises KeyRingError, StoreUnavailable."""
    authorization, keys = settings.authorization, settings.keys
    encryption_key = await asyncio.to_thread(_encryption_key, settings)
    outside = None
    if keys.pkcs11 is not None:
        outside = await Pkcs11Keys.open(
            module=str(keys.pkcs11.module),
            token=keys.pkcs11.token,
            pin=keys.pkcs11.pin,
            label=keys.pkcs11.label,
        )
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


def _encryption_key(settings: GatewaySettings) -> bytes:
    if settings.keys.encryption_key is not None:
        return settings.keys.encryption_key
    if settings.keys.encryption_key_file is None:
        raise KeyRingError("keys.encryption_key names neither a file nor a value")
    return load_or_create_encryption_key(settings.keys.encryption_key_file)
