"""Sections L and M: jobs and files of exports, and pages. Each is a capability that only its owner can use."""

from typing import Any

from tests.attacks.table.rows import Row, ask, row
from tests.attacks.table.stores import FHIR, answers, found
from tests.support.gateway import Reply, RunningGateway
from tests.support.world import world

ASYNC = (("Prefer", "respond-async"),)
_KICK = ask("GET /Group/g/$export", "sys", None, ASYNC)
_A1 = world()["Observation/a1"]
_SEARCH = ask("GET /Observation?code=x")


def export(id: str, place: str, status: int | tuple[int, ...], reason: str | None, **more: Any) -> Row:
    """A kick-off beyond the grant."""
    said = {"who": "sys", "world": "export", "headers": ASYNC, "twin": _KICK} | more
    return row(id, f"GET /{place}", status, reason, **said)


def links(id: str, *more: dict[str, str], **said: Any) -> Row:
    """An answer with these links, none of which may come through as it is."""
    return row(id, "GET /Observation?code=x", 200, shows={"Observation/a1"}, sent=("GET *",), twin=_SEARCH,
               store=found(_A1, more={"link": list(more)}), check=only_own_links, **said)  # fmt: skip


def only_own_links(gateway: RunningGateway, reply: Reply) -> None:
    """Every link is an address of the gateway's; a page is sealed."""
    for link in reply.json["link"]:
        assert link["url"].startswith(f"{gateway.origin}/fhir/r4/"), link
        assert link["relation"] in ("self", "next", "previous", "first", "last"), link
        assert link["relation"] == "self" or "?_page=" in link["url"], link


_FILTERS = {
    "": "Observation%3F_has:Provenance:target:agent%3Dx", "b": "Coverage%3Fstatus%3Dactive",
    "c": "Observation%3Fsubject.name%3Dx", "d": "Observation%3F_filter%3Dx",
    "e": "Observation%3F_include%3DObservation:subject",
}  # fmt: skip
_ODD_PAGES = ("http://10.0.0.5:8080/fhir?page=2", "//evil.example/fhir/Observation?page=2", "{store}x/Observation?page=2",
              "{store}/../admin?page=2", "javascript:evil", "{store}/Patient?page=2", "http://evil.example@127.0.0.1/fhir",
              "file:///etc/passwd", "{store}/Observation/$everything?page=2", "\\\\evil.example\\x")  # fmt: skip
_BY_HAND = ("_page", "_offset", "ct", "_skip", "_after", "_page_token", "__t", "_cursor", "page", "_getpages",
            "_getpagesoffset", "_bundletype", "searchId", "queryId", "_token", "offset")  # fmt: skip
ROWS = (
    *(row(f"L-206-a-job-{number}", f"GET /_job/{token}", 404, "not-found", who="sys-A", world="export",
          same_as="GET /_job/BBBB", twin=_KICK)
      for number, token in enumerate(("AAAA", "A" * 400, "7"))),
    row("L-206b-a-file", "GET /_file/AAAA", 404, "not-found", who="sys-A", world="export", same_as="GET /_file/BBBB",
        twin=_KICK),
    export("L-210-by-a-patient", "Patient/A/$export", 403, "interaction-closed", who="pA-r", twin=ask("GET /Patient/A")),
    export("L-210b-of-all-by-a-patient", "$export", 403, "interaction-closed", who="pA-r", twin=ask("GET /Patient/A")),
    export("L-210c-with-scopes-of-a-patient", "Group/g/$export", 403, None, claims={"scope": "patient/*.rs", "patient": "A"}),
    export("L-210d-with-scopes-of-a-user", "Group/g/$export", 403, None, claims={"scope": "user/*.rs"}),
    export("L-210e-without-the-right-to-search", "Group/g/$export", 403, None, claims={"scope": "system/*.r"}),
    export("L-210f-of-another-organization", "Group/g/$export", 403, None, claims={"organization": "other"}),
    *(export(f"L-212{letter}-a-filter-beyond-the-grant", f"Group/g/$export?_typeFilter={text}", (400, 403), None)
      for letter, text in _FILTERS.items()),
    export("L-212f-a-list-of-patients", "Group/g/$export?patient=Patient/A", (400, 403), None),
    row("L-212g-a-list-of-patients-by-post", "POST /Patient/$export", (400, 403), who="sys", world="export", headers=ASYNC,
        body={"resourceType": "Parameters", "parameter": [{"name": "patient", "valueReference": {"reference": "Patient/A"}}]},
        twin=_KICK),
    export("L-213-another-format", "Group/g/$export?_outputFormat=text/csv", 400, None),
    *(export(f"L-213b-{name.strip('_').lower()}", f"Group/g/$export?{name}=s3://evil", (400, 403), None)
      for name in ("_outputLocation", "_container", "storageDetail", "_organizeOutputBy", "allowPartialManifests")),
    row("L-213c-places-by-header", "GET /Group/g/$export", 202, who="sys", world="export", sent=("GET *", "GET *"),
        headers=(*ASYNC, ("X-MS-Container", "evil"), ("X-Export-Container", "evil")),
        unsent=("x-ms-container", "x-export-container"), hides=("127.0.0.1",), twin=None, claims={"client_id": "places"}),
    row("L-214-ending-anothers-job", "DELETE /_job/AAAA", 404, "not-found", who="sys-A", world="export",
        same_as="DELETE /_job/BBBB", twin=_KICK),
    row("L-214b-ending-a-file", "DELETE /_file/AAAA", 405, "method-not-allowed", who="sys-A", world="export", twin=_KICK),
    export("L-214c-without-respond-async", "Group/g/$export", 400, "invalid-parameter", headers=(), sent=("GET Group/g",)),
    row("M-216-a-page-of-anothers-search", "GET /?_getpages=6b2b1b3e-0000-4000-8000-000000000000&_getpagesoffset=0",
        (400, 403), twin=_SEARCH),
    row("M-216b-a-page-at-a-type", "GET /Observation?_getpages=6b2b1b3e-0000-4000-8000-000000000000", 400,
        "unknown-parameter", twin=_SEARCH),
    *(row(f"M-218-a-seal-{number}", f"GET /Observation?_page={seal}", 404, "stale-link",
          same_as="GET /Observation?_page=BBBB", twin=_SEARCH)
      for number, seal in enumerate(("AAAA", "A" * 500, "%00", "..", "x.y.z", ""))),
    *(links(f"M-220-a-next-page-{number}", {"relation": "next", "url": url},
            hides=("10.0.0.5", "evil", "passwd", "127.0.0.1")) for number, url in enumerate(_ODD_PAGES)),
    row("M-221-links-in-a-header", "GET /Observation?code=x", 200, sent=("GET *",), shows=set(), twin=_SEARCH,
        store=answers({"resourceType": "Bundle", "type": "searchset", "entry": [], "link": [
            {"relation": "self", "url": "{store}/Observation?code=x&subject=Patient/A"}]}, media=FHIR,
            headers={"Link": '<{store}/Observation?page=2>; rel="next"'}),
        check=lambda _, reply: _no_link_header(reply), hides=("127.0.0.1",)),
    links("M-222-every-relation", *({"relation": relation, "url": "{store}/Observation?_page=2"} for relation in
          ("first", "last", "previous", "next", "related", "alternate", "vendor")), hides=("127.0.0.1", "vendor")),
    links("M-222b-a-link-without-a-relation", {"url": "{store}/Observation?_page=2"}, hides=("127.0.0.1",)),
    *(row(f"M-224-by-hand-{number}", f"GET /Observation?{name}=abc", (400, 404),
          twin=_SEARCH) for number, name in enumerate(_BY_HAND) if name != "_page"),
    row("M-224-page-by-hand", "GET /Observation?_page=2&code=x", 400, twin=_SEARCH),
    row("M-224b-a-page-beside-criteria", "GET /Observation?code=x&_page=2", 400, twin=_SEARCH),
)  # fmt: skip


def _no_link_header(reply: Reply) -> None:
    assert reply.header("Link") is None
