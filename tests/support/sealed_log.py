"""An audit log with signed heads, made in a moment: clocks that stand still, a key in memory."""

import asyncio
from dataclasses import dataclass, field

from authz.keys.homes import KeyHomes
from authz.keys.sealing import SealedKeys
from authz.storage.store import Store
from gateway.audit.checkpoints import Checkpoints, Often
from gateway.audit.heads import PublicKeys
from gateway.audit.keys import AuditKeys
from gateway.audit.log import AuditLog

ENCRYPTION_KEY = bytes(range(32))
BEGAN = 1_800_000_000.0


@dataclass(slots=True)
class Clocks:
    """The wall clock and the monotonic one, moved by hand."""

    wall: float = BEGAN
    steady: float = 5000.0

    def pass_(self, seconds: float) -> None:
        """Both go on."""
        self.wall += seconds
        self.steady += seconds


@dataclass(slots=True)
class SealedLog:
    """Chains by name, and what signs them."""

    store: Store
    keys: AuditKeys
    checkpoints: Checkpoints
    clocks: Clocks
    logs: dict[str, AuditLog] = field(default_factory=dict)
    broken: list[bool] = field(default_factory=list)

    async def record(self, count: int, chain: str = "", **more: object) -> None:
        """Append so many records to a chain, at the same moment."""
        if chain not in self.logs:
            self.logs[chain] = await AuditLog.open(self.store, lambda: self.clocks.wall, chain=chain)
        log = self.logs[chain]
        await asyncio.gather(*(log.record({"event": "access", "n": n, **more}) for n in range(count)))

    async def seal(self) -> None:
        """Sign a head over what is there."""
        self.clocks.pass_(60)
        await self.checkpoints.round()

    async def public(self) -> PublicKeys:
        """The public keys, from the store's."""
        await self.keys.load()
        return self.keys.public


async def sealed_log(store: Store, *, often: Often | None = None, homes: KeyHomes | None = None) -> SealedLog:
    """The log on this store, and a process that has just begun to sign it."""
    clocks = Clocks()
    keys = AuditKeys(store, homes or KeyHomes(SealedKeys(ENCRYPTION_KEY)), lambda: int(clocks.wall))
    broken: list[bool] = []
    log = await AuditLog.open(store, lambda: clocks.wall)
    checkpoints = Checkpoints(
        store=store,
        log=log,
        keys=keys,
        often=often or Often(1000, 60),
        clock=lambda: clocks.wall,
        monotonic=lambda: clocks.steady,
        whole=lambda is_whole: broken.append(not is_whole),
    )
    await checkpoints.round()  # as a gateway that has just started
    return SealedLog(store, keys, checkpoints, clocks, {"": log}, broken)
