"""A store of documents that plays HostileUpstream's part: Binaries as resource and as content, with ranges.

Hostile in its searches as ever: DocumentReference?location= finds every DocumentReference there is.
"""

import base64
import json
from typing import Any

from aiohttp import web

from tests.support.documents import OID, document
from tests.support.hostile_upstream import HostileUpstream
from tests.support.world import SECRET

Resource = dict[str, Any]
MRN = "https://mrn.example"


def reference(id_: str, patient: str, *urls: str, **more: Any) -> Resource:
    """A current DocumentReference."""
    return {
        "resourceType": "DocumentReference",
        "id": id_,
        "meta": {"versionId": "1"},
        "status": "current",
        "subject": {"reference": f"Patient/{patient}"},
        "content": [{"attachment": {"contentType": "application/pdf", "url": url}} for url in urls],
        **more,
    }


class DocumentStore:
    """The store. contents holds the bytes of Binaries by id; native says whether they are given as they are."""

    def __init__(self, upstream: HostileUpstream) -> None:
        self.upstream = upstream
        self.native = True
        self.tells_version = True
        self.contents: dict[str, bytes] = {}
        upstream.reset()
        upstream.resources["Patient/A"]["identifier"] = [{"system": MRN, "value": "mrn-A"}]
        upstream.resources["Patient/B"]["identifier"] = [{"system": MRN, "value": "mrn-B"}]
        upstream.answer = self.answer
        self.add(reference("a1", "A", "Binary/a"))
        self.add(reference("b1", "B", "Binary/b", description=SECRET))
        self.binary("a", b"%PDF-1.7 own content of A", "application/pdf")
        self.binary("b", f"%PDF-1.7 {SECRET}".encode(), "application/pdf")

    def add(self, resource: Resource) -> None:
        """A resource more."""
        self.upstream.resources[f"{resource['resourceType']}/{resource['id']}"] = resource

    def binary(self, id_: str, content: bytes, type_: str = "text/xml", **more: Any) -> None:
        """A Binary more."""
        self.contents[id_] = content
        meta = {"meta": {"versionId": "1"}}
        self.add({"resourceType": "Binary", "id": id_, "contentType": type_, **meta, **more})

    def document(self, id_: str, patient: str, content: bytes | None = None, type_: str = "text/xml") -> None:
        """A clinical document with its DocumentReference."""
        own = document(ids=f'<id root="{OID}" extension="mrn-{patient}"/>')
        self.binary(id_, own if content is None else content, type_)
        self.add(reference(f"d-{id_}", patient, f"{self.upstream.base}/Binary/{id_}"))

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """What the store says."""
        path = request.path.removeprefix("/fhir").strip("/")
        type_, _, rest = path.partition("/")
        id_ = rest.partition("/")[0]
        if type_ == "Binary" and request.method == "GET" and f"Binary/{id_}" in self.upstream.resources:
            return self._binary(request, self.upstream.resources[f"Binary/{id_}"])
        handler, self.upstream.answer = self.upstream.answer, None
        try:
            seen = len(self.upstream.requests)
            answer = await self.upstream._handle(request)
            del self.upstream.requests[seen:]
            return answer
        finally:
            self.upstream.answer = handler

    def _binary(self, request: web.BaseRequest, resource: Resource) -> web.Response:
        content = self.contents[resource["id"]]
        said = {"ETag": f'W/"{resource["meta"]["versionId"]}"', "X-Powered-By": "upstream-product/1.0"}
        said = said if self.tells_version else {}
        if "application/fhir+json" in request.headers.get("Accept", "") or not self.native:
            whole = resource | {"data": base64.b64encode(content).decode()}
            return web.Response(
                body=json.dumps(whole).encode(), content_type="application/fhir+json", headers=said
            )
        wanted = request.http_range
        said["Content-Type"] = resource["contentType"]
        if "Range" not in request.headers:
            return web.Response(body=content, headers=said)
        start, stop, _ = slice(wanted.start, wanted.stop).indices(len(content))
        if start >= len(content):
            return web.Response(status=416, headers=said | {"Content-Range": f"bytes */{len(content)}"})
        place = f"bytes {start}-{stop - 1}/{len(content)}"
        return web.Response(status=206, body=content[start:stop], headers=said | {"Content-Range": place})
