"""A plain REST store of documents: what is at /documents/[id], and a place for new ones."""

import re
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from gateway.demo.world import free_port

_PIECE = 1024


class PlainDocuments:
    """The store. contents holds bytes by id, asked what was asked, sent how much of an answer left."""

    def __init__(self) -> None:
        self.port = free_port()
        self._runner = web.ServerRunner(web.Server(lambda request: self._answer(request), access_log=None))
        self.reset()

    def reset(self) -> None:
        """It holds nothing, and behaves."""
        self.contents: dict[str, bytes] = {}
        self.media_type = "text/xml"
        self.asked: list[str] = []
        self.received: list[tuple[str, str, bytes]] = []
        self.authorizations: set[str | None] = set()
        self.sent = 0
        self.tells_tag = True
        self.filler: tuple[bytes, int, bytes] | None = (
            None  # a long document: beginning, how many pieces, end
        )

    @property
    def base(self) -> str:
        """The URL of the store."""
        return f"http://127.0.0.1:{self.port}/store"

    async def start(self) -> None:
        """Listen."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        """Do not."""
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path_qs}")
        self.authorizations.add(request.headers.get("Authorization"))
        if request.method == "POST" and request.path == "/store/documents":
            id_ = f"new{len(self.received) + 1}"
            content = await request.read()
            self.received.append((id_, request.headers.get("Content-Type", ""), content))
            self.contents[id_] = content
            return web.Response(status=201, headers={"Location": f"{self.base}/documents/{id_}"})
        id_ = request.path.removeprefix("/store/documents/")
        if request.path != f"/store/documents/{id_}" or id_ not in self.contents:
            return web.Response(status=404)
        headers = {"Content-Type": self.media_type}
        if self.tells_tag:
            headers["ETag"] = f'"{hash(self.contents[id_])}"'
        if self.filler is None or request.method == "HEAD":
            return web.Response(body=self.contents[id_], headers=headers)
        answer = web.StreamResponse(headers=headers)
        await answer.prepare(request)
        for piece in self._pieces(*self.filler):
            await answer.write(piece)
            self.sent += len(piece)
        return answer

    @staticmethod
    def _pieces(begin: bytes, count: int, end: bytes) -> Iterator[bytes]:
        yield from (begin[at : at + _PIECE] for at in range(0, len(begin), _PIECE))
        yield from (b"A" * 64 * _PIECE for _ in range(count))
        yield end


class PatientIndex:
    """What the FHIR store knows of patients: their identifiers, by search (PDQm) and as a cross-reference (PIXm)."""

    def __init__(self, system: str) -> None:
        self.identifiers: dict[str, list[tuple[str, str]]] = {
            name: [(system, f"mrn-{name}")] for name in ("A", "B")
        }

    def patient(self, id_: str) -> dict[str, Any]:
        """A Patient."""
        known = [{"system": system, "value": value} for system, value in self.identifiers[id_]]
        return {"resourceType": "Patient", "id": id_, "identifier": known}

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer of the store."""
        path, asked = request.path.removeprefix("/fhir/"), request.query
        wanted = asked.get("identifier", "") or asked.get("sourceIdentifier", "")
        names = {tuple(part.split("|", 1)) for part in re.split(r"(?<!\\),", wanted)}
        found = [id_ for id_, known in self.identifiers.items() if not names.isdisjoint(known)]
        if path == "Patient":
            entry = [{"resource": self.patient(id_)} for id_ in found]
            return web.json_response({"resourceType": "Bundle", "type": "searchset", "entry": entry})
        if path == "Patient/$ihe-pix" and found:
            said = [{"name": "targetId", "valueReference": {"reference": f"Patient/{id_}"}} for id_ in found]
            return web.json_response({"resourceType": "Parameters", "parameter": said})
        if path.removeprefix("Patient/") in self.identifiers:
            return web.json_response(self.patient(path.removeprefix("Patient/")))
        return web.json_response({"resourceType": "OperationOutcome"}, status=404)
