"""The sample FHIR server: R4 over HTTP in front of the sample store. A sample, not a product: no security at all.

The sample document store listens beside it, at /documents.

usage: python -m gateway.demo.fhir_server PORT ; listens on loopback until it is ended.
"""

import asyncio
import base64
import json
import re
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from gateway.demo.document_store import PATH as DOCUMENTS
from gateway.demo.document_store import SampleDocuments, sample_documents
from gateway.demo.fhir_operations import SampleOperations
from gateway.demo.fhir_store import Resource, SampleStore, StoreError, sample_resources

_RESULT = frozenset(
    {"_count", "_sort", "_include", "_revinclude", "_format", "_pretty", "_total", "_summary", "_page"}
)
_JSON = "application/fhir+json; charset=utf-8"
_URN = re.compile(r'"(urn:uuid:[0-9a-fA-F-]{36})"')
_DEFAULT_COUNT = 50


class SampleServer:
    """The REST API over one store."""

    def __init__(self, store: SampleStore, base: str) -> None:
        self.store = store
        self.base = base.rstrip("/")
        self._operations = SampleOperations(store, self.base)
        self._path = "/" + self.base.split("/", 3)[3]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; refusals are OperationOutcomes."""
        try:
            body = await request.read()
            path = request.path
            if path != self._path and not path.startswith(self._path + "/"):
                raise StoreError(404, "not-found", "the base is " + self._path)
            parts = [part for part in path[len(self._path) :].split("/") if part]
            pairs = parse_qsl(request.query_string, keep_blank_values=True)
            raw = self._operations.answer(request.method, parts, pairs)
            if raw is not None:
                return web.Response(status=raw[0], body=raw[1], headers=raw[2])
            status, value, headers = self.answer(request.method, parts, pairs, body, request.headers)
        except StoreError as error:
            status, value, headers = error.status, error.outcome(), {}
        except (ValueError, KeyError, TypeError) as error:
            status, value, headers = 400, StoreError(400, "invalid", f"cannot be read: {error}").outcome(), {}
        content = b"" if value is None else json.dumps(value, ensure_ascii=False).encode()
        return web.Response(status=status, body=content, headers={**headers, "Content-Type": _JSON})

    def answer(
        self,
        method: str,
        parts: list[str],
        pairs: list[tuple[str, str]],
        body: bytes,
        headers: Mapping[str, str],
    ) -> tuple[int, Resource | None, dict[str, str]]:
        """Status, resource and headers of one interaction. Raises StoreError."""
        match method, parts:
            case "GET", ["metadata"]:
                return 200, self._capability(), {}
            case "POST", []:
                return 200, self._bundle(json.loads(body)), {}
            case "GET", [type_]:
                return 200, self._search(type_, pairs), {}
            case "POST", [type_, "_search"]:
                form = parse_qsl(body.decode(), keep_blank_values=True)
                return 200, self._search(type_, [*pairs, *form]), {}
            case "GET", [type_, id_]:
                return self._one(self.store.read(type_, id_))
            case "GET", [type_, id_, "_history"]:
                return 200, self._history(type_, id_), {}
            case "GET", [type_, id_, "_history", version]:
                return self._one(self.store.version(type_, id_, version))
            case "POST", [type_]:
                return self._create(type_, json.loads(body), headers)
            case "PUT", [type_, id_]:
                if headers.get("If-None-Match") == "*" and self.store.is_there(type_, id_):
                    raise StoreError(412, "conflict", "the resource is there already")
                stored, created = self.store.update(type_, id_, json.loads(body), headers.get("If-Match"))
                return self._one(stored, 201 if created else 200)
            case "PATCH", [type_, id_]:
                return self._one(self.store.patch(type_, id_, json.loads(body), headers.get("If-Match")))
            case "DELETE", [type_, id_]:
                self.store.delete(type_, id_, headers.get("If-Match"))
                return 204, None, {}
            case _:
                raise StoreError(
                    405, "not-supported", f"{method} /{'/'.join(parts)} is not known to the sample"
                )

    def _one(self, resource: Resource, status: int = 200) -> tuple[int, Resource, dict[str, str]]:
        meta = resource["meta"]
        headers = {"ETag": f'W/"{meta["versionId"]}"'}
        if status == 201:
            url = f"{self.base}/{resource['resourceType']}/{resource['id']}/_history/{meta['versionId']}"
            headers["Location"] = url
        return status, resource, headers

    def _create(
        self, type_: str, resource: Any, headers: Mapping[str, str]
    ) -> tuple[int, Resource, dict[str, str]]:
        condition = headers.get("If-None-Exist")
        if condition is not None:
            found = self.store.search(type_, parse_qsl(condition))
            if len(found) > 1:
                raise StoreError(412, "multiple-matches", "If-None-Exist matches more than one")
            if found:
                return self._one(found[0])
        return self._one(self.store.create(type_, resource), 201)

    def _search(self, type_: str, pairs: list[tuple[str, str]]) -> Resource:
        page = dict(pairs).get("_page")
        offset = 0
        if page is not None:
            # The next link is opaque to clients: the whole state stands in it.
            pairs, offset = json.loads(base64.urlsafe_b64decode(page))
            pairs = [(name, value) for name, value in pairs]
        criteria = [(name, value) for name, value in pairs if name.partition(":")[0] not in _RESULT]
        found = self.store.search(type_, criteria)
        options = dict(pairs)
        for code in reversed([c for c in options.get("_sort", "").split(",") if c]):
            found.sort(key=lambda r: _sort_key(r, code.lstrip("-")), reverse=code.startswith("-"))
        count = int(options.get("_count", _DEFAULT_COUNT))
        shown = found[offset : offset + count]
        entries = [self._entry(resource, "match") for resource in shown]
        entries += [self._entry(resource, "include") for resource in self._included(shown, pairs)]
        links = [{"relation": "self", "url": f"{self.base}/{type_}?{urlencode(pairs)}"}]
        if offset + count < len(found):
            token = base64.urlsafe_b64encode(json.dumps([pairs, offset + count]).encode()).decode()
            links.append({"relation": "next", "url": f"{self.base}/{type_}?_page={token}"})
        return {
            "resourceType": "Bundle",
            "type": "searchset",
            "total": len(found),
            "link": links,
            "entry": entries,
        }

    def _included(self, shown: list[Resource], pairs: list[tuple[str, str]]) -> list[Resource]:
        found: dict[str, Resource] = {}
        for name, value in pairs:
            type_, _, code = value.partition(":")
            for resource in shown:
                if name == "_include" and resource["resourceType"] == type_:
                    more = self.store.referred(resource, code.partition(":")[0])
                elif name == "_revinclude":
                    more = self.store.referring(resource, type_, code)
                else:
                    continue
                found.update({f"{r['resourceType']}/{r['id']}": r for r in more})
        own = {f"{r['resourceType']}/{r['id']}" for r in shown}
        return [resource for key, resource in found.items() if key not in own]

    def _entry(self, resource: Resource, mode: str) -> Resource:
        url = f"{self.base}/{resource['resourceType']}/{resource['id']}"
        return {"fullUrl": url, "resource": resource, "search": {"mode": mode}}

    def _history(self, type_: str, id_: str) -> Resource:
        entries = []
        for version, resource in self.store.history(type_, id_):
            method = "PUT" if resource is not None else "DELETE"
            entry: Resource = {
                "fullUrl": f"{self.base}/{type_}/{id_}",
                "request": {"method": method, "url": f"{type_}/{id_}"},
                "response": {"status": "200", "etag": f'W/"{version}"'},
            }
            if resource is not None:
                entry["resource"] = resource
            entries.append(entry)
        return {"resourceType": "Bundle", "type": "history", "total": len(entries), "entry": entries}

    def _bundle(self, bundle: Resource) -> Resource:
        if bundle.get("resourceType") != "Bundle" or bundle.get("type") not in ("batch", "transaction"):
            raise StoreError(400, "structure", "a batch or transaction Bundle is expected")
        transaction = bundle["type"] == "transaction"
        names: dict[str, str] = {}
        for entry in bundle.get("entry", []):
            if entry["request"]["method"] == "POST" and str(entry.get("fullUrl", "")).startswith("urn:uuid:"):
                id_ = entry["fullUrl"].removeprefix("urn:uuid:")
                names[entry["fullUrl"]] = f"{entry['request']['url']}/{id_}"
        answers = []
        before = self.store.mark()
        for entry in bundle.get("entry", []):
            try:
                answers.append(self._bundle_entry(entry, names))
            except StoreError as error:
                if transaction:
                    self.store.back_to(before)  # all of it or nothing
                    raise
                answers.append({"response": {"status": str(error.status), "outcome": error.outcome()}})
        return {"resourceType": "Bundle", "type": f"{bundle['type']}-response", "entry": answers}

    def _bundle_entry(self, entry: Resource, names: dict[str, str]) -> Resource:
        request = entry["request"]
        path, _, query = str(request["url"]).partition("?")
        text = json.dumps(entry.get("resource"))
        text = _URN.sub(lambda m: json.dumps(names.get(m[1], m[1])), text)
        method, parts = request["method"], [part for part in path.split("/") if part]
        named = names.get(entry.get("fullUrl", ""))
        if method == "POST" and named is not None:
            resource = {**json.loads(text), "id": named.split("/", 1)[1]}
            status, value, headers = self._one(self.store.write(resource)[0], 201)
        else:
            conditions = {"If-Match": request["ifMatch"]} if "ifMatch" in request else {}
            if "ifNoneExist" in request:
                conditions["If-None-Exist"] = request["ifNoneExist"]
            status, found, headers = self.answer(method, parts, parse_qsl(query), text.encode(), conditions)
            value = found or {}
        response = {"status": str(status), **{k.lower(): v for k, v in headers.items()}}
        return {"resource": value, "response": response} if value else {"response": response}

    def _capability(self) -> Resource:
        types = sorted({type_ for type_, _ in self.store.instances})
        codes = ("read", "vread", "history-instance", "search-type", "create", "update", "patch", "delete")
        return {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": "2026-01-01",
            "kind": "instance",
            "fhirVersion": "4.0.1",
            "format": ["json"],
            "software": {"name": "Securus sample FHIR server, synthetic data"},
            "implementation": {"description": "Sample", "url": self.base},
            "rest": [
                {
                    "mode": "server",
                    "resource": [
                        {"type": t, "interaction": [{"code": code} for code in codes]} for t in types
                    ],
                    "interaction": [{"code": "batch"}, {"code": "transaction"}],
                }
            ],
        }


def _sort_key(resource: Resource, code: str) -> str:
    if code == "_lastUpdated":
        return str(resource["meta"]["lastUpdated"])
    if code == "_id":
        return str(resource["id"])
    for name in ("effectiveDateTime", "issued", "occurrenceDateTime", "recordedDate", "birthDate"):
        if name in resource:
            return str(resource[name])
    period = resource.get("period") or resource.get("billablePeriod") or {}
    return str(period.get("start", ""))


async def run(port: int) -> None:
    """Serve on loopback until cancelled."""
    server = SampleServer(SampleStore.of(sample_resources()), f"http://127.0.0.1:{port}/fhir")
    documents = SampleDocuments(sample_documents())

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        is_document = request.path == DOCUMENTS or request.path.startswith(DOCUMENTS + "/")
        return await (documents if is_document else server).handle(request)

    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(run(int(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit(0)
