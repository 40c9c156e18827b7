"""What verbs work on: the configuration, the store, its audit log, the client registry."""

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from authz.clock import system_clock
from authz.events import Emit
from authz.registry import Registry
from authz.storage.opening import open_existing
from authz.storage.store import Store
from gateway.audit.chains import chain_of
from gateway.audit.log import AuditLog
from gateway.config.document import load
from gateway.settings import GatewaySettings

T = TypeVar("T")


def settings_of(options: argparse.Namespace) -> GatewaySettings:
    """The configuration that -c names. Raises ConfigErrors."""
    return load(options.config, os.environ)


def with_store(settings: GatewaySettings, work: Callable[[Store], Awaitable[T]]) -> T:
    """The result of work on the store, opened and closed around it. Raises StoreUnavailable, also without a store."""

    async def run() -> T:
        store = await open_existing(settings.storage)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def with_audit(settings: GatewaySettings, work: Callable[[Store, Emit], Awaitable[T]]) -> T:
    """The result of work on the store; whatever it emitted is in the audit log. Raises as with_store, AuditUnavailable."""

    async def run(store: Store, log: AuditLog) -> T:
        return await work(store, log.note)

    return with_log(settings, run)


def with_log(settings: GatewaySettings, work: Callable[[Store, AuditLog], Awaitable[T]]) -> T:
    """The result of work on the store and its audit log. Raises as with_store, AuditUnavailable."""

    async def run(store: Store) -> T:
        log = await AuditLog.open(store, time.time, chain=chain_of(settings))
        try:
            return await work(store, log)
        finally:
            await log.close()

    return with_store(settings, run)


def with_registry(settings: GatewaySettings, work: Callable[[Registry], Awaitable[T]]) -> T:
    """The result of work on the client registry. A running gateway sees the change within a second."""

    async def run(store: Store, emit: Emit) -> T:
        registry = Registry(
            store=store,
            configured={client.client_id: client for client in settings.clients},
            settings=settings.authorization,
            emit=emit,
            clock=system_clock,
        )
        return await work(registry)

    return with_audit(settings, run)
