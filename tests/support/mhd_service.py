"""An MHD service on loopback: DocumentReferences and Lists, files at places of their own, transactions that provide."""

import json
from typing import Any

from aiohttp import web

from gateway.demo.world import free_port

Resource = dict[str, Any]


class MhdService:
    """The service. patients is how it names patients: '' or the base of another server and '/'."""

    def __init__(self) -> None:
        self.port = free_port()
        self.patients = ""
        self._runner = web.ServerRunner(web.Server(lambda request: self._answer(request), access_log=None))
        self.reset()

    def reset(self) -> None:
        """It holds nothing, and behaves."""
        self.resources: dict[str, Resource] = {}
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.received: list[Resource] = []
        self.knows_head = True

    @property
    def base(self) -> str:
        """The URL of the service."""
        return f"http://127.0.0.1:{self.port}/mhd"

    async def start(self) -> None:
        """Listen."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        """Do not."""
        await self._runner.cleanup()

    def add(self, id_: str, patient: str, *urls: str, **more: Any) -> None:
        """A current DocumentReference with attachments at these addresses, and the List that it came with."""
        subject = {"reference": f"{self.patients}Patient/{patient}"}
        content = [{"attachment": {"contentType": "text/xml", "url": url}} for url in urls]
        common = {"meta": {"versionId": "1"}, "status": "current", "subject": subject}
        self._put({"resourceType": "DocumentReference", "id": id_, **common, "content": content, **more})
        item = [{"item": {"reference": f"DocumentReference/{id_}"}}]
        self._put({"resourceType": "List", "id": f"set-{id_}", **common, "mode": "working", "entry": item})

    def _put(self, resource: Resource) -> None:
        self.resources[f"{resource['resourceType']}/{resource['id']}"] = resource

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path_qs.removeprefix('/mhd/')}")
        path = request.path.removeprefix("/mhd").strip("/")
        if path in self.files and request.method in ("GET", "HEAD"):
            if request.method == "HEAD" and not self.knows_head:
                return web.Response(status=405)
            tag = {"ETag": f'"{hash(self.files[path])}"'}
            return web.Response(body=self.files[path], headers=tag, content_type="text/xml")
        if request.method == "POST" and not path:
            return self._transaction(await request.json())
        if request.method == "PUT" and path in self.resources:
            self.received.append(await request.json())
            self.resources[path] = self.received[-1] | {"meta": {"versionId": "2"}}
            return _json(self.resources[path])
        if path in self.resources and request.method == "GET":
            return _json(self.resources[path])
        if request.method == "GET" and path in ("DocumentReference", "List"):
            found = [{"resource": each} for each in self.resources.values() if each["resourceType"] == path]
            link = [{"relation": "self", "url": f"http://127.0.0.1:{self.port}{request.path_qs}"}]
            wanted = request.query.get("patient")
            if wanted is not None:
                forms = {f"Patient/{wanted}", wanted}
                found = [each for each in found if each["resource"]["subject"]["reference"] in forms]
            return _json({"resourceType": "Bundle", "type": "searchset", "link": link, "entry": found})
        return _json({"resourceType": "OperationOutcome"}, 404)

    def _transaction(self, bundle: Resource) -> web.Response:
        self.received.append(bundle)
        entries = []
        for number, entry in enumerate(bundle["entry"]):
            type_ = entry["resource"]["resourceType"]
            entries.append({"response": {"status": "201", "location": f"{type_}/new{number}/_history/1"}})
        return _json({"resourceType": "Bundle", "type": "transaction-response", "entry": entries})


def _json(value: Resource, status: int = 200) -> web.Response:
    tag = {"ETag": f'W/"{value["meta"]["versionId"]}"'} if value.get("meta") else {}
    return web.Response(
        body=json.dumps(value).encode(), status=status, content_type="application/fhir+json", headers=tag
    )
