"""A recording store on loopback: plays the fixture world, writes down every request, and can be told to misbehave.

Hostile where it matters: it honours no search criterion at all unless told to, so that every entry of the world
comes back from every search and only the gateway stands between it and the caller.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from gateway.demo.world import free_port
from tests.support.world import world

_MODIFIED = "2026-01-02T03:04:05Z"
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Recorded:
    """One request as the store saw it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


@dataclass
class HostileUpstream:
    """The store. `answer` takes over when it is set; `echoes` says whether the self link names what was asked.

    Of what `forgets` names the self link says nothing.
    """

    port: int = field(default_factory=free_port)
    requests: list[Recorded] = field(default_factory=list)
    made: Callable[[], dict[str, Any]] = world  # what it has at first
    resources: dict[str, Any] = field(default_factory=world)
    answer: Handler | None = None
    echoes: bool = True
    forgets: str = ""
    _runner: web.ServerRunner | None = None

    @property
    def base(self) -> str:
        """The store's base URL."""
        return f"http://127.0.0.1:{self.port}/fhir"

    async def start(self) -> None:
        """Listen on loopback."""
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=1)
        await self._runner.setup()
        for _ in range(10):
            try:
                await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
                return
            except OSError:  # somebody took the port after it had been looked at
                self.port = free_port()
        raise OSError("no port could be taken")

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    def reset(self) -> None:
        """Forget what was recorded and behave as at first."""
        self.requests.clear()
        self.resources = self.made()
        self.answer = None
        self.echoes = True
        self.forgets = ""

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        streamed = self.answer is not None and request.content_length is not None
        body = b"" if streamed else await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append(Recorded(request.method, request.path_qs, headers, body))
        if self.answer is not None:
            return await self.answer(request)
        path = request.path.removeprefix("/fhir").strip("/")
        if path == "metadata":
            return _json({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": []})
        if path == "" and request.method == "POST":
            return self._transaction(json.loads(body))
        parts = path.split("/")
        if parts[-1].startswith("$") or parts[0] == "jobs":
            return self._operation(request.method, parts)
        if parts[-1] == "_history" and len(parts) == 3:
            return self._bundle(
                "history", [self.resources[k] for k in self.resources if k == "/".join(parts[:2])]
            )
        if len(parts) == 4 and parts[2] == "_history":
            path = "/".join(parts[:2])
        if request.method == "POST" and len(parts) == 1 and parts[0]:
            return self._write("POST", f"{parts[0]}/made", headers, body)
        if len(parts) == 1 or parts[1] == "_search":
            found = [r for k, r in self.resources.items() if k.startswith(parts[0] + "/")]
            query = request.rel_url.raw_query_string if parts[-1] != "_search" else body.decode()
            query = "&".join(each for each in query.split("&") if each.partition("=")[0] != self.forgets)
            return self._bundle("searchset", found, f"{self.base}/{parts[0]}?{query if self.echoes else ''}")
        if request.method in ("PUT", "DELETE"):
            return self._write(request.method, path, headers, body)
        if path in self.resources:
            return _json(
                self.resources[path],
                {"ETag": f'W/"{self.version(path)}"', "Set-Cookie": "JSESSIONID=upstream; Path=/"},
            )
        outcome = {
            "resourceType": "OperationOutcome",
            "issue": [{"severity": "error", "diagnostics": "SECRET-B"}],
        }
        return _json(outcome, status=404)

    def version(self, key: str) -> str:
        """The versionId of a resource of the world."""
        return str(self.resources[key].get("meta", {}).get("versionId", "1"))

    def _write(self, method: str, key: str, headers: dict[str, str], body: bytes) -> web.Response:
        """A write as stores do it: the version must be the one of If-Match, and what is stored comes back."""
        known = key in self.resources
        wanted = headers.get("if-match")
        if wanted is not None and (not known or wanted != f'W/"{self.version(key)}"'):
            return _json({"resourceType": "OperationOutcome", "issue": []}, status=412)
        if headers.get("if-none-match") == "*" and known:
            return _json({"resourceType": "OperationOutcome", "issue": []}, status=412)
        if method == "DELETE":
            self.resources.pop(key, None)
            return web.Response(status=204)
        version = str(int(self.version(key)) + 1) if known else "1"
        resource = json.loads(body)
        resource["meta"] = {**resource.get("meta", {}), "versionId": version}
        self.resources[key] = resource
        said = {"ETag": f'W/"{version}"', "Location": f"{self.base}/{key}/_history/{version}"}
        return _json(resource, said, status=200 if known and method == "PUT" else 201)

    def _transaction(self, bundle: dict[str, Any]) -> web.Response:
        """Everything or nothing, with an outcome for each entry that tells too much."""
        kept, told = dict(self.resources), []
        made = {
            e["fullUrl"]: f"{e['request']['url']}/made-{n}"
            for n, e in enumerate(bundle["entry"])
            if "fullUrl" in e
        }
        for entry in bundle["entry"]:
            asked, value = entry["request"], entry.get("resource")
            key = made.get(entry.get("fullUrl", ""), asked["url"])
            known = key in self.resources
            current = f'W/"{self.version(key)}"' if known else None
            if asked.get("ifMatch") not in (None, current) or (asked["method"] != "POST" and not known):
                self.resources = kept
                return _json(
                    {"resourceType": "OperationOutcome", "issue": [{"diagnostics": "SECRET-B"}]}, status=412
                )
            outcome = {
                "resourceType": "OperationOutcome",
                "issue": [{"severity": "information", "diagnostics": "SECRET-B"}],
            }
            version = str(int(self.version(key)) + 1) if known else "1"
            response = {
                "status": "200 OK",
                "etag": f'W/"{version}"',
                "outcome": outcome,
                "lastModified": "2026-01-02T03:04:05Z",
            }
            if asked["method"] == "DELETE":
                self.resources.pop(key)
                told.append({"response": {"status": "204 No Content"}})
                continue
            text = json.dumps(value)
            for urn, place in made.items():
                text = text.replace(urn, place)
            stored = json.loads(text) | {"id": key.partition("/")[2]}
            stored["meta"] = {**stored.get("meta", {}), "versionId": version}
            self.resources[key] = stored
            if asked["method"] == "POST":
                response |= {"status": "201 Created", "location": f"{self.base}/{key}/_history/{version}"}
            told.append({"fullUrl": f"{self.base}/{key}", "resource": stored, "response": response})
        return _json({"resourceType": "Bundle", "type": "transaction-response", "entry": told})

    def _operation(self, method: str, parts: list[str]) -> web.Response:
        """Every operation gives everything; an export is done at once, its files hold all of their type."""
        if parts[-1] == "$export":
            return web.Response(status=202, headers={"Content-Location": f"{self.base}/jobs/7"})
        if parts[-1] == "$validate":
            issue = {
                "severity": "warning",
                "code": "invariant",
                "expression": ["Observation.subject", "SECRET-B of upstream-product"],
                "diagnostics": "SECRET-B",
                "details": {"text": "SECRET-B"},
            }
            return _json({"resourceType": "OperationOutcome", "issue": [issue]})
        if parts[0] == "jobs" and method == "DELETE":
            return web.Response(status=202)
        if parts[0] == "jobs" and len(parts) == 2:
            types = sorted({key.partition("/")[0] for key in self.resources})
            files = [{"type": t, "url": f"{self.base}/jobs/7/{t}", "count": 9} for t in types]
            errors = [{"type": "OperationOutcome", "url": f"{self.base}/jobs/7/errors"}]
            manifest = {
                "transactionTime": "2026-01-01T00:00:00Z",
                "request": f"{self.base}/$export",
                "requiresAccessToken": False,
                "output": files,
                "error": errors,
            }
            return web.json_response(manifest)
        if parts[0] == "jobs":
            found = [r for key, r in self.resources.items() if key.startswith(parts[2] + "/")]
            lines = "".join(json.dumps(resource) + "\n" for resource in found)
            return web.Response(text=lines, content_type="application/fhir+ndjson")
        return self._bundle("searchset", list(self.resources.values()), f"{self.base}/{'/'.join(parts)}")

    def _bundle(self, kind: str, found: list[Any], self_url: str | None = None) -> web.Response:
        bundle: dict[str, Any] = {"resourceType": "Bundle", "type": kind, "total": len(found)}
        if self_url is not None:
            bundle["link"] = [{"relation": "self", "url": self_url}]
        bundle["entry"] = [
            {
                "fullUrl": f"{self.base}/{r['resourceType']}/{r['id']}",
                "resource": r,
                **({"search": {"mode": "match"}} if kind == "searchset" else {}),
            }
            for r in found
        ]
        return _json(bundle)


def _json(value: Any, headers: dict[str, str] | None = None, status: int = 200) -> web.Response:
    content = json.dumps(value).encode()
    fhir = {"Content-Type": "application/fhir+json; charset=utf-8", "Server": "upstream-product/1.0"}
    return web.Response(status=status, body=content, headers={**fhir, **(headers or {})})


def asked_for(recorded: Recorded) -> list[tuple[str, str]]:
    """The search criteria that the store saw, decoded."""
    return parse_qsl(recorded.target.partition("?")[2], keep_blank_values=True)
