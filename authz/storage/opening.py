"""Opening the store that the configuration names. What only one kind of store needs is imported when it is chosen."""

from importlib import import_module
from pathlib import Path
from typing import Any

from authz.storage.composed import with_replay
from authz.storage.postgresql.settings import PostgresqlSettings
from authz.storage.settings import StoreSettings
from authz.storage.sqlite.store import open_store
from authz.storage.store import Store, StoreUnavailable
from authz.storage.valkey_settings import ValkeySettings


async def open_storage(settings: StoreSettings) -> Store:
    """The store, made or brought up to date where needed. Raises StoreUnavailable."""
    if settings.postgresql is not None:
        store = await _open_postgresql(settings.postgresql, migrating=True)
    else:
        store = await open_store(Path(settings.path), settings.options)
    return store if settings.valkey is None else await _beside_valkey(store, settings.valkey)


async def open_existing(settings: StoreSettings) -> Store:
    """The store of a gateway that has run, for commands: what Valkey holds for minutes is none of theirs.

    Raises StoreUnavailable.

    A store that is not there is not made: an audit log that has vanished must not count as whole.
    """
    if settings.postgresql is not None:
        return await _open_postgresql(settings.postgresql, migrating=False)
    require_there(settings)
    return await open_store(Path(settings.path), settings.options)


def is_there(settings: StoreSettings) -> bool:
    """Whether there is a store to be opened. A server is taken to be there: opening it finds out."""
    return settings.postgresql is not None or Path(settings.path).is_file()


def require_there(settings: StoreSettings) -> None:
    """Raise StoreUnavailable without a store to be opened."""
    if not is_there(settings):
        raise StoreUnavailable(f"there is no store at '{settings.path}': has the gateway run yet?")


async def _beside_valkey(store: Store, settings: ValkeySettings) -> Store:
    try:
        valkey = _needing("redis", "valkey", "valkey")
        return with_replay(store, await valkey.open_valkey(settings))
    except BaseException:
        await store.close()
        raise


async def _open_postgresql(settings: PostgresqlSettings, *, migrating: bool) -> Store:
    postgresql = _needing("asyncpg", "postgresql", "postgresql.store")
    store: Store = await postgresql.open_postgresql(settings, migrating=migrating)
    return store


def _needing(package: str, kind: str, module: str) -> Any:
    """The module of a kind of store, which needs a package that is an extra. Raises StoreUnavailable."""
    try:
        return import_module(f"authz.storage.{module}")
    except ImportError as error:
        raise StoreUnavailable(
            f"storage.{kind} needs {package}, which is not installed: pip install 'securus[{kind}]'"
        ) from error
