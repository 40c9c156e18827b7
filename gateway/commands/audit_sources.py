"""Where verbs of `securus audit` read the log, and by which keys: the store of -c, or an export; its keys, or --key."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from authz.clock import system_clock
from authz.storage.store import Store, StoreUnavailable
from gateway.audit.exports import Exported
from gateway.audit.heads import PublicKeys
from gateway.audit.keys import AuditKeys, read_public_keys
from gateway.audit.verification import AuditSource
from gateway.commands.opened import settings_of, with_store
from gateway.settings import GatewaySettings
from gateway.signing_keys import open_homes

T = TypeVar("T")


def add_source(verb: argparse.ArgumentParser) -> None:
    """Add the options that with_source() reads."""
    said = "public keys that sign heads: a JWK Set, one JWK or PEM, kept outside the server"
    verb.add_argument("--key", type=Path, metavar="FILE", help=said)
    verb.add_argument(
        "--export", type=Path, metavar="FILE", help="read what 'audit export --whole' printed, not the store"
    )


def with_source(options: argparse.Namespace, work: Callable[[AuditSource, PublicKeys], Awaitable[T]]) -> T:
    """The result of work on the log and the public keys of its seals. Raises StoreUnavailable, KeyRingError, OSError."""
    if options.export is not None:
        if options.key is None:
            raise StoreUnavailable("an export is verified with --key: what signed it is not in it")
        keys = read_public_keys(options.key)
        return asyncio.run(_awaited(work(Exported(options.export), keys)))
    settings = settings_of(options)

    async def run(store: Store) -> T:
        if options.key is not None:
            return await work(store, read_public_keys(options.key))
        if await store.newest_tree_head() is None:
            return await work(store, {})
        return await work(store, (await load_keys(settings, store)).public)

    return with_store(settings, run)


async def load_keys(settings: GatewaySettings, store: Store, *, make: bool = False) -> AuditKeys:
    """The keys of the store; make adds one that signs from now on. Raises KeyRingError, StoreUnavailable."""
    homes = await open_homes(settings)
    try:
        keys = AuditKeys(store, homes, system_clock)
        await keys.load()
        if make:
            await keys.make()
        return keys
    finally:
        await homes.close()


async def _awaited(result: Awaitable[T]) -> T:
    return await result
