"""Between section G and the oracles of F: histories, dates and the headers that repeat what is hidden."""

import json
from typing import Any

from tests.attacks.table.rows import Row, ask, row
from tests.attacks.table.stores import answers, fhir, found
from tests.support.gateway import Reply, RunningGateway
from tests.support.hostile_upstream import HostileUpstream
from tests.support.world import SECRET, world

_META = {"versionId": "7", "lastUpdated": "2026-01-02T03:04:05Z"}
_A1 = world()["Observation/a1"] | {"effectiveDateTime": "2020-05-06T07:08:09Z", "meta": _META}
_B1 = world()["Observation/b1"]
_HEADERS = {"ETag": 'W/"7"', "Last-Modified": "Fri, 02 Jan 2026 03:04:05 GMT"}
_CLOSED = "unsupported-parameter"
_HIDDEN = ("2026-01-02", "02 Jan 2026", "05-06")
_SAID = {
    "status": "200",
    "etag": 'W/"7"',
    "lastModified": "2026-01-02T03:04:05Z",
    "location": "Observation/a1/_history/7",
}


def strict(store: HostileUpstream) -> None:
    """A store that knows no history of what it does not have, and one version of what it has."""

    async def answer(request: Any) -> Any:
        parts = request.path.removeprefix("/fhir/").split("/")
        held = store.resources.get("/".join(parts[:2]))
        if held is None:
            return fhir(b'{"resourceType":"OperationOutcome","issue":[]}', 404)
        return _versions(held) if parts[-1] == "_history" else _json(held)

    store.answer = answer


def _json(value: Any) -> Any:
    return fhir(json.dumps(value).encode())


def _versions(*held: Any) -> Any:
    return _json(
        {
            "resourceType": "Bundle",
            "type": "history",
            "total": len(held),
            "entry": [{"resource": r} for r in held],
        }
    )


def empty(store: HostileUpstream) -> None:
    """A store without any version since then, which has the resource all the same."""

    async def answer(request: Any) -> Any:
        return _versions() if request.path.endswith("_history") else _json(store.resources["Observation/a1"])

    store.answer = answer


def history(name: str, line: str, missing: str, **more: Any) -> Row:
    """A history of a stranger: byte for byte that of nothing, with as many questions to the store."""
    place = line.partition(" ")[2].removeprefix("/")
    id_ = place.partition("/_history")[0]
    said = {
        "store": strict,
        "sent": (f"GET {place}", f"GET {id_}"),
        "same_as": missing,
        "twin": "GET /Observation/a1/_history",
    }
    return row(f"G-{name}", line, 404, None if line.startswith("HEAD") else "not-found", **said | more)


def dated(name: str, line: str, **more: Any) -> Row:
    """What asks for dates that are hidden or rounded, of which the store hears nothing; staff may ask of conditions."""
    said = {"world": "dates", "twin": "GET /Observation/a1"} | more
    return row(f"F-{name}", line, 403, _CLOSED, **said)


def _no_dates(gateway: RunningGateway, reply: Reply) -> None:
    assert reply.header("Last-Modified") is None
    assert reply.header("ETag") == 'W/"7"'


def _nothing_of_meta(gateway: RunningGateway, reply: Reply) -> None:
    assert reply.header("Last-Modified") is None
    assert reply.header("ETag") is None


def _all_of_meta(gateway: RunningGateway, reply: Reply) -> None:
    assert reply.header("Last-Modified") == _HEADERS["Last-Modified"]
    assert reply.header("ETag") == 'W/"7"'


def _relations(reply: Reply, wanted: set[str]) -> None:
    assert {link["relation"] for link in reply.json["link"]} == wanted


_ENDING = found(
    _A1,
    more={
        "link": [
            {"relation": relation, "url": "{store}/Observation?_page=2"} for relation in ("next", "last")
        ]
    },
)
_BY_CRITERIA = {"method": "PUT", "url": f"Observation?identifier={SECRET}"}
_OF_A1 = answers(_A1, headers=_HEADERS)
_CONDITION = {
    "resourceType": "Condition",
    "id": "c",
    "meta": _META,
    "subject": {"reference": "Patient/B"},
}
ROWS = (
    history("a-strangers-history", "GET /Observation/b1/_history", "GET /Observation/none/_history"),
    history("a-strangers-history-by-head", "HEAD /Observation/b1/_history", "HEAD /Observation/none/_history",
            twin="HEAD /Observation/a1/_history"),
    history("a-strangers-history-since-then", "GET /Observation/b1/_history?_since=2030-01-01",
            "GET /Observation/none/_history?_since=2030-01-01", sent=("GET Observation/b1/_history?_since=2030-01-01",
                                                                      "GET Observation/b1")),
    history("a-strangers-history-page-by-page", "GET /Observation/b1/_history?_count=1",
            "GET /Observation/none/_history?_count=1", sent=("GET Observation/b1/_history?_count=1", "GET Observation/b1")),
    history("a-history-of-what-the-patient-performed", "GET /Observation/ab/_history", "GET /Observation/none/_history"),
    history("a-history-beyond-the-filter-of-the-scope", "GET /Observation/a-vitals/_history",
            "GET /Observation/none/_history", claims={"scope": "patient/Observation.rs?category=laboratory"}),
    row("G-no-version-of-the-own-since-then", "GET /Observation/a1/_history?_since=2030-01-01", 200, store=empty,
        shows=set(), sent=("GET *", "GET Observation/a1"), twin="GET /Observation/a1/_history"),
    row("G-a-history-of-what-was-moved-away", "GET /Observation/b1/_history", 404, "not-found", sent=None,
        store=found(entries=[{"resource": _B1}], more={"type": "history"}),
        twin="GET /Observation/a1/_history"),
    *(row(f"G-a-history-{name}", f"GET /Observation/b1/_history?{query}", status, reason,
          twin="GET /Observation/a1/_history")
      for name, query, status, reason in (
          ("of-none", "_count=0", 400, "invalid-parameter"), ("in-order", "_sort=_lastUpdated", 400, "unknown-parameter"),
          ("of-a-list", "_list=mix", 403, _CLOSED), ("of-elements", "_elements=id", 403, _CLOSED),
          ("in-summary", "_summary=count", 403, _CLOSED))),
    row("G-by-which-criteria-it-was-written", "GET /Observation/a1/_history", 200, hides=(SECRET,),
        holds=('"url":"Observation"',), sent=("GET *",), shows={"Observation/a1"}, twin="GET /Observation/a1/_history",
        store=found(entries=[{"resource": _A1, "request": _BY_CRITERIA}], more={"type": "history"})),
    row("M-where-an-exact-search-ends", "GET /Observation?code=x", 200, shows={"Observation/a1"}, sent=("GET *",),
        store=_ENDING, check=lambda _, reply: _relations(reply, {"self", "next", "last"}), twin="GET /Observation?code=y"),
    row("M-where-a-search-ends-of-which-a-part-is-hidden", "GET /Observation?code=x", 200, shows=set(), sent=("GET *",),
        who="dr1", world="labels", store=_ENDING, check=lambda _, reply: _relations(reply, {"self", "next"}),
        twin=ask("GET /Observation?code=y", "dr1"), sees=True),
    row("F-when-it-was-changed", "GET /Observation/a1", 200, world="dates", store=_OF_A1, sent=("GET Observation/a1",),
        hides=_HIDDEN, holds=('"lastUpdated":"2026"',), check=_no_dates, twin="GET /Patient/A"),
    row("F-when-it-was-changed-by-head", "HEAD /Observation/a1", 200, world="dates", store=_OF_A1,
        sent=("GET Observation/a1",), hides=_HIDDEN, check=_no_dates, twin="GET /Patient/A"),
    row("F-when-and-how-often-it-was-changed", "GET /Observation/a1", 200, world="dates", who="dr1", store=_OF_A1,
        sent=("GET Observation/a1",), hides=_HIDDEN, check=_nothing_of_meta, twin=ask("GET /Condition/c", "dr1"),
        twin_store=answers(_CONDITION), sees=True),
    row("F-when-a-version-was-written", "GET /Observation/a1/_history/7", 200, world="dates", store=_OF_A1,
        sent=("GET *", "GET Observation/a1"), hides=_HIDDEN, check=_no_dates, twin="GET /Patient/A"),
    row("F-when-versions-were-written", "GET /Observation/a1/_history", 200, world="dates", hides=_HIDDEN,
        twin="GET /Patient/A", store=found(entries=[{"resource": _A1, "response": _SAID}], more={"type": "history"}),
        sent=("GET *",), shows={"Observation/a1"}),
    row("F-what-is-seen-whole-keeps-its-headers", "GET /Condition/c", 200, world="dates", who="dr1", sees=True,
        store=answers(_CONDITION, headers=_HEADERS), sent=("GET Condition/c",), check=_all_of_meta, twin=None),
    dated("versions-since-then", "GET /Observation/a1/_history?_since=2020-01-01T00:00:00Z"),
    dated("versions-at-that-time", "GET /Observation/a1/_history?_at=2020-01-01", who="dr1",
          twin=ask("GET /Condition/c/_history?_at=2020-01-01", "dr1"), sees=True,
          twin_store=found(entries=[{"resource": _CONDITION}], more={"type": "history"})),
    dated("results-changed-since-then", "GET /Observation?_lastUpdated=gt2020"),
    dated("results-in-the-order-of-change", "GET /Observation?_sort=_lastUpdated"),
    dated("everything-of-these-days", "GET /Patient/A/$everything?start=2020-05-06&end=2020-05-07",
          twin="GET /Patient/A/$everything?start=2020-05-06&_type=Patient"),
    dated("everything-of-these-days-by-post", "POST /Patient/A/$everything",
          body={"resourceType": "Parameters", "parameter": [{"name": "end", "valueDate": "2020-05-06"}]},
          twin=ask("POST /Patient/A/$everything", body={"resourceType": "Parameters"})),
    dated("everything-since-then", "GET /Patient/A/$everything?_since=2020-05-06T00:00:00Z",
          twin="GET /Patient/A/$everything?_since=2020-05-06T00:00:00Z&_type=Patient"),
    row("O-a-place-of-the-own", "GET /Observation/a1", 200, sent=("GET *",), twin="GET /Patient/A",
        store=answers(_A1, headers={"Content-Location": "{store}/Observation/a1/_history/7"}),
        check=lambda gateway, reply: _is_at(gateway, reply, "Observation/a1/_history/7")),
    *(row(f"O-a-place-of-{name}", "GET /Observation/a1", 200, sent=("GET *",), twin="GET /Patient/A",
          store=answers(_A1, headers={"Content-Location": place}), check=lambda gateway, reply: _is_at(gateway, reply, None))
      for name, place in (
          ("a-stranger", "{store}/Patient/B/_history/1"), ("another-result", "{store}/Observation/b1"),
          ("a-job", "{store}/jobs/" + SECRET), ("a-page", "{store}?_getpages=" + SECRET), ("nothing", "{store}/"),
          ("a-query", "{store}/Observation/a1?x=" + SECRET), ("another-store", "http://10.0.0.5/fhir/Observation/a1"))),
)  # fmt: skip


def _is_at(gateway: RunningGateway, reply: Reply, place: str | None) -> None:
    said = None if place is None else f"{gateway.origin}/fhir/r4/{place}"
    assert reply.header("Content-Location") == said
