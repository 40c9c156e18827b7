"""How a store misbehaves, one function a way: each is given to a row, and set before its request."""

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.attacks.table.rows import Store
from tests.support.hostile_upstream import HostileUpstream
from tests.support.world import SECRET, Resource

FHIR = "application/fhir+json"


def answers(
    body: Any = b"", status: int = 200, media: str = FHIR, headers: dict[str, str] | None = None
) -> Store:
    """The same answer to every request. '{store}' in a body or header is its base."""

    def set_(store: HostileUpstream) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            said = {k: v.replace("{store}", store.base) for k, v in (headers or {}).items()}
            if media:
                said = {"Content-Type": media} | said
            return web.Response(
                status=status, body=content.replace(b"{store}", store.base.encode()), headers=said
            )

        store.answer = answer

    return set_


def found(*resources: Resource, more: dict[str, Any] | None = None, entries: Any = None) -> Store:
    """A searchset of these, with a self link that names all that was asked; more are members of the Bundle."""

    def set_(store: HostileUpstream) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            query = request.query_string or (await request.text())
            place = request.path.removesuffix("/_search").removeprefix("/fhir")
            bundle: dict[str, Any] = {
                "resourceType": "Bundle",
                "type": "searchset",
                "total": len(resources),
                "link": [{"relation": "self", "url": f"{store.base}{place}?{query}"}],
                "entry": [
                    {
                        "fullUrl": f"{store.base}/{r.get('resourceType')}/{r.get('id')}",
                        "resource": r,
                        "search": {"mode": "match"},
                    }
                    for r in resources
                ],
            }
            if entries is not None:
                bundle["entry"] = entries
            said = more or {}
            bundle["link"] += said.get("link", [])
            bundle |= {name: value for name, value in said.items() if name != "link"}
            return fhir(json.dumps(bundle).replace("{store}", store.base).encode())

        store.answer = answer

    return set_


def pages(*held: list[Resource]) -> Store:
    """A searchset of several pages, each with a link to the next."""

    def set_(store: HostileUpstream) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            place, _, query = request.path_qs.removeprefix("/fhir/").partition("?")
            number = int(request.query.get("_page", "0"))
            links = [{"relation": "self", "url": f"{store.base}/{place}?{query}"}]
            turned = f"{query.partition('&_page=')[0]}&_page={number + 1}"
            if number + 1 < len(held):
                links.append({"relation": "next", "url": f"{store.base}/{place}?{turned}"})
            entries = [{"resource": r, "search": {"mode": "match"}} for r in held[number]]
            bundle = {"resourceType": "Bundle", "type": "searchset", "link": links, "entry": entries}
            return fhir(json.dumps(bundle).encode())

        store.answer = answer

    return set_


def with_(change: Callable[[dict[str, Resource]], object]) -> Store:
    """The store behaves, and its resources are others."""

    def set_(store: HostileUpstream) -> None:
        change(store.resources)

    return set_


def holding(resource: Resource) -> Store:
    """The store behaves, and has this as well."""
    return with_(lambda all_: all_.update({f"{resource['resourceType']}/{resource['id']}": resource}))


def forgetful(name: str) -> Store:
    """The store passes over one parameter, and says so in its self link."""

    def set_(store: HostileUpstream) -> None:
        store.forgets = name

    return set_


def deaf(store: HostileUpstream) -> None:
    """The self link does not name what was asked: criteria were ignored."""
    store.echoes = False


def fhir(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """An answer in FHIR JSON."""
    return web.Response(status=status, body=body, headers={"Content-Type": FHIR, **(headers or {})})


LEAKING_OUTCOME = {
    "resourceType": "OperationOutcome",
    "text": {"status": "generated", "div": f"<div>{SECRET}</div>"},
    "issue": [
        {
            "severity": "error",
            "code": "processing",
            "diagnostics": f"HAPI-0389: Patient/B {SECRET} is not in SELECT * FROM upstream-product at {{store}}",
            "details": {"text": SECRET},
        }
    ],
}
