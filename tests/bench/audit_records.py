"""What an audit record costs: on the way of the request, and beside it in the process that signs heads.

CPU time only. One at a time each record has a commit of its own; in company those of one turn of the loop share it.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from authz.storage.sqlite import SqliteStore, open_store
from gateway.audit.following import Follower
from gateway.audit.log import AuditLog

_IN_COMPANY = (1, 8, 32, 100)
_RECORDS = 4_800
_RECORD = {
    "event": "access", "interaction": "search-type", "interaction_id": "0b9bd9a5-5fd7-4e37-a5c0-4a1f9a2f6e51",
    "route": "fhir", "status": 200, "decision": "permit", "rules": ["clinician/read"], "policy": "a" * 64,
    "grant": "g" * 22, "key": "k" * 43,
    "caller": {"subject": "dr1", "client": "portal", "scope": ["user/*.rs"],
               "claims": {"fhirUser": "Practitioner/1", "roles": ["physician"]}},
    "request": {"canonical": "GET Observation?patient=1&category=laboratory", "type": "Observation",
                "parameters": ["patient", "category"]},
    "entries": {"delivered": 10, "dropped": 0},
}  # fmt: skip


def rows(runs: int) -> list[dict[str, Any]]:
    """Every row, each a median over so many runs."""
    return asyncio.run(_measured(runs))


async def _measured(runs: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="securus-bench-") as folder:
        store = await open_store(Path(folder) / "audit.db")
        log = await AuditLog.open(store, time.time)
        found = []
        for lanes in _IN_COMPANY:
            spent = [await _spent(log, lanes) for _ in range(runs)]
            note = "of its own commit" if lanes == 1 else f"{lanes} requests at once share commits"
            found.append(_row(f"securus, {lanes} at once", spent, runs, note))
        found.append(_row("beside the requests", [await _followed(store) for _ in range(runs)], runs, _NOTE))
        await log.close()
        await store.close()
    return found


_NOTE = "read, checked and hashed into the tree by the process that signs"


async def _spent(log: AuditLog, lanes: int) -> float:
    async def lane() -> None:
        for _ in range(_RECORDS // lanes):
            await log.record(_RECORD)

    before = time.process_time()
    await asyncio.gather(*(lane() for _ in range(lanes)))
    return (time.process_time() - before) / (_RECORDS // lanes * lanes) * 1e6


async def _followed(store: SqliteStore) -> float:
    follower = Follower(store)
    before = time.process_time()
    await follower.follow()
    return (time.process_time() - before) / follower.news * 1e6


def _row(subject: str, spent: list[float], runs: int, note: str) -> dict[str, Any]:
    cpu_us = statistics.median(spent)
    return {
        "case": "audit-record", "subject": subject, "cpu_us": round(cpu_us, 1),
        "requests_per_second": round(1e6 / cpu_us), "p50_ms": round(cpu_us / 1e3, 3), "p99_ms": 0, "peak_rss_mb": 0,
        "runs": runs, "note": note,
    }  # fmt: skip
