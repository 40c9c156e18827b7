"""What an audit record costs: the log over SQLite, and over a store that keeps nothing, so that the rest is seen.

Beside the requests: the tree, and the index, which has many entries already and takes in records of many callers and
patients. CPU of this process, which is that of the loop and of the store's threads.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from authz.storage.audit_index import AccessEntry
from authz.storage.audit_lines import AuditLine
from authz.storage.sqlite.connection import SqliteConnection
from authz.storage.sqlite.store import SqliteStore
from gateway.audit.following import Follower
from gateway.audit.index.follower import PAGE_LINES, IndexFollower
from gateway.audit.log import AuditLog
from tests.bench.rows import Measured, row

_AT_ONCE = 16
_RECORDS = 8_000
_RECORD: dict[str, object] = {
    "event": "access",
    "interaction_id": "0b9bd9a5-5fd7-4e37-a5c0-4a1f9a2f6e51",
    "route": "fhir",
    "method": "GET",
    "interaction": "read",
    "peer": "127.0.0.1",
    "request": {
        "type": "Patient", "id": "d9427379-943a-42c1-b3d0-6b5056a12696", "version": None, "parameters": [],
        "canonical": "GET Patient/d9427379-943a-42c1-b3d0-6b5056a12696",
    },
    "caller": {
        "issuer": "https://gateway.example", "subject": "bench", "client": "portal-dpop", "grant": "g" * 43,
        "token": "t" * 32, "patient": "d9427379-943a-42c1-b3d0-6b5056a12696", "binding": "dpop", "key": "k" * 43,
        "scope": "patient/*.rs", "claims": {"roles": ["patient"], "context": "patient"},
    },
    "rules": ["10-patient-own-record/own-record"],
    "policies": "p" * 43,
    "upstream": ["GET Patient/d9427379-943a-42c1-b3d0-6b5056a12696"],
    "decision": "permit",
    "status": 200,
    "entries": {"shown": 1, "dropped": 0},
}  # fmt: skip


_ENTRIES, _PATIENTS, _USERS, _CLIENTS, _GRANTS = 100_000, 20_000, 500, 20, 5_000
_BASE = "https://gateway.example/fhir"


class _KeepsNothing(SqliteStore):
    """Takes every line and forgets it: what is left is the record as JSON, its digest, and who waits for it."""

    async def append_audit(self, lines: Sequence[AuditLine]) -> None:
        """Forget them."""


def rows(runs: int) -> list[dict[str, Any]]:
    """The rows, alternating."""
    seen: dict[str, list[Measured]] = {"securus": [], "null-store": []}
    beside, indexed = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="securus-bench-") as folder:
            beside.append(asyncio.run(_followed(Path(folder) / "audit.db")))
        with tempfile.TemporaryDirectory(prefix="securus-bench-") as folder:
            indexed.append(asyncio.run(_indexed(Path(folder) / "audit.db")))
        for name in seen:
            with tempfile.TemporaryDirectory(prefix="securus-bench-") as folder:
                seen[name].append(asyncio.run(_measured(Path(folder) / "audit.db", keeps=name == "securus")))
    note = f"a record of a read, {_AT_ONCE} at once"
    return [
        row(
            "audit-record",
            "securus",
            seen["securus"],
            f"{note}: durable when it returns, the threads of SQLite too",
        ),
        row("audit-record", "null-store", seen["null-store"], f"{note}: linked and thrown away"),
        row("audit-record", "signer", beside, "beside the requests: read, checked and hashed into the tree"),
        row(
            "audit-record",
            "index",
            indexed,
            f"beside the requests: put into an index of {_ENTRIES} entries, of {_PATIENTS} patients",
        ),
    ]


async def _measured(path: Path, *, keeps: bool) -> Measured:
    connection = SqliteConnection.open(path, {})
    store = SqliteStore(connection) if keeps else _KeepsNothing(connection)
    log = await AuditLog.open(store, time.time)
    times: list[float] = []

    async def lane() -> None:
        for _ in range(_RECORDS // _AT_ONCE):
            began = time.perf_counter()
            await log.record(_RECORD)
            times.append(time.perf_counter() - began)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(_AT_ONCE)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    await log.close()
    await store.close()
    times.sort()
    p50, p99 = (times[int(len(times) * share)] * 1e3 for share in (0.5, 0.99))
    return Measured(cpu / len(times) * 1e6, len(times) / wall, p50, p99)


async def _followed(path: Path) -> Measured:
    """What the process that signs heads does with each record."""
    store = SqliteStore(SqliteConnection.open(path, {}))
    log = await AuditLog.open(store, time.time)
    await asyncio.gather(*(log.record(_RECORD) for _ in range(_RECORDS)))
    follower = Follower(store)
    cpu, wall = time.process_time(), time.perf_counter()
    await follower.follow()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    await log.close()
    await store.close()
    return Measured(cpu / follower.news * 1e6, follower.news / wall, 0, 0)


async def _indexed(path: Path) -> Measured:
    """What the process that leads does with each record for the privacy officer."""
    store = SqliteStore(SqliteConnection.open(path, {}))
    chance = random.Random(1)
    page: list[AccessEntry] = []
    for number in range(1, _ENTRIES + 1):
        patient, user, client, grant = _somebody(chance)
        page.append(
            AccessEntry(
                "old", number, 1_700_000_000_000 + number, _BASE, patient, user, client, grant,
                "read", "permit", "10-patient-own-record/own-record", "", "Patient",
            )
        )  # fmt: skip
        if len(page) == PAGE_LINES or number == _ENTRIES:
            await store.index_audit(page, chain="old", read_to=number)
            await store.tend_audit_index()
            page = []
    log = await AuditLog.open(store, time.time)
    await asyncio.gather(*(log.record(_record_of(*_somebody(chance))) for _ in range(_RECORDS)))
    follower = IndexFollower(store, {"fhir": _BASE})
    cpu, wall = time.process_time(), time.perf_counter()
    indexed = await follower.follow()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    await log.close()
    await store.close()
    return Measured(cpu / indexed * 1e6, indexed / wall, 0, 0)


def _somebody(chance: random.Random) -> tuple[str, str, str, str]:
    """A patient, and a user with a client and a grant, in no order."""
    grant = chance.randrange(_GRANTS)
    patient = f"d9427379-943a-42c1-b3d0-{chance.randrange(_PATIENTS):012}"
    return patient, f"user-{grant % _USERS}", f"client-{grant % _CLIENTS}", f"{grant:043}"


def _record_of(patient: str, user: str, client: str, grant: str) -> dict[str, object]:
    """The record of a read of that patient by that user."""
    usual = {"version": None, "parameters": [], "type": "Patient"}
    caller = {
        "issuer": "https://gateway.example", "subject": user, "client": client, "grant": grant, "token": "t" * 32,
        "patient": None, "binding": "dpop", "key": "k" * 43, "scope": "user/*.rs", "claims": {"roles": ["clinician"]},
    }  # fmt: skip
    request = {**usual, "id": patient, "canonical": f"GET /Patient/{patient}"}
    return {**_RECORD, "caller": caller, "request": request, "patients": [patient]}
