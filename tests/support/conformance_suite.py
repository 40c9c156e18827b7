"""A running conformance suite of the OpenID Foundation, driven by its REST API: plans, modules, results."""

import asyncio
import json
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import aiohttp

_MODULE_SECONDS = 300  # a module waits until a code of ten minutes at most has expired
_ENDED = ("FINISHED", "INTERRUPTED")


@dataclass(frozen=True)
class Module:
    """A module of a plan, as the suite wants it named back."""

    name: str
    variant: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """A plan that was created, with its modules in order."""

    id: str
    modules: tuple[Module, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a module: PASSED, WARNING, REVIEW, SKIPPED, FAILED, or INTERRUPTED where it did not end by itself."""

    module: str
    result: str
    findings: tuple[str, ...]
    log: list[dict[str, Any]]


class Suite:
    """The suite at an address. Use as an async context manager."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        # It stands on loopback with a certificate that it made itself, and holds nothing of anybody's.
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=False), timeout=aiohttp.ClientTimeout(total=60)
        )

    async def __aenter__(self) -> "Suite":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.close()

    async def version(self) -> str:
        """Its version and revision."""
        found = await self._call("GET", "/api/server")
        return f"{found['version']} ({found['revision']})"

    async def create(self, plan: str, variant: dict[str, str], config: dict[str, Any]) -> Plan:
        """A new plan of that name."""
        asked = {"planName": plan, "variant": json.dumps(variant)}
        made = await self._call("POST", "/api/plan", params=asked, body=config)
        modules = (Module(each["testModule"], each.get("variant") or {}) for each in made["modules"])
        return Plan(made["id"], tuple(modules))

    async def run(self, plan: Plan, module: Module) -> Outcome:
        """Run a module to its end."""
        asked = {"test": module.name, "plan": plan.id, "variant": json.dumps(module.variant)}
        id_ = (await self._call("POST", "/api/runner", params=asked))["id"]
        deadline = time.monotonic() + _MODULE_SECONDS
        while True:
            known = await self._call("GET", f"/api/info/{id_}")
            if known["status"] in _ENDED:
                break
            if time.monotonic() > deadline:
                await self._call("DELETE", f"/api/runner/{id_}")
                break
            await asyncio.sleep(0.5)
        log = await self._call("GET", f"/api/log/{id_}")
        result = str(known.get("result")) if known["status"] == "FINISHED" else "INTERRUPTED"
        return Outcome(module.name, result, tuple(_findings(log)), log)

    async def _call(
        self, method: str, path: str, *, params: dict[str, str] | None = None, body: Any = None
    ) -> Any:
        headers = {"Content-Type": "application/json"}
        text = None if body is None else json.dumps(body)
        async with self._http.request(
            method, self.address + path, params=params, data=text, headers=headers
        ) as answer:
            said = await answer.text()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {said[:2000]}")
            return json.loads(said) if said else {}


def _findings(log: list[dict[str, Any]]) -> list[str]:
    """The conditions that did not hold, each as result, name and message."""
    return [
        f"{entry['result']} {entry['src']}: {entry.get('msg', entry.get('error', ''))}"
        for entry in log
        if entry.get("result") in ("FAILURE", "WARNING", "REVIEW")
    ]
