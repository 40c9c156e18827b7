"""The sample document store: clinical documents at /documents/[id], new ones by POST. A sample: no security at all."""

import gzip
import hashlib
from importlib import resources

from aiohttp import web

PATH = "/documents"
_XML = "text/xml"
_LARGEST = 16 * 1024 * 1024


def sample_documents() -> dict[str, bytes]:
    """The clinical documents that ship with the package, by id."""
    folder = resources.files("gateway.demo.data")
    return {
        each.name.removesuffix(".xml.gz"): gzip.decompress(each.read_bytes())
        for each in folder.iterdir()
        if each.name.endswith(".xml.gz")
    }


class SampleDocuments:
    """Documents in memory, gone when the demonstration ends."""

    def __init__(self, documents: dict[str, bytes]) -> None:
        self.documents = dict(documents)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request below PATH."""
        if request.method == "POST" and request.path.rstrip("/") == PATH:
            return await self._file(request)
        content = self.documents.get(request.path.removeprefix(PATH + "/"))
        if content is None:
            return web.Response(status=404, text="no such document")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        tag = hashlib.sha256(content).hexdigest()[:32]
        return web.Response(body=content, content_type=_XML, headers={"ETag": f'"{tag}"'})

    async def _file(self, request: web.BaseRequest) -> web.Response:
        content = bytearray()
        async for chunk in request.content.iter_chunked(64 * 1024):
            content += chunk
            if len(content) > _LARGEST:
                return web.Response(status=413, text="the sample store takes 16 MiB")
        id_ = f"filed-{len(self.documents) + 1}"
        self.documents[id_] = bytes(content)
        return web.Response(status=201, headers={"Location": f"{PATH}/{id_}"})
