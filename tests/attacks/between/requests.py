"""Between sections A, B and C: paths, methods and headers."""

from typing import Any

from tests.attacks.table.rows import FORM, JSON, Row, ask, row
from tests.attacks.table.section_h import note
from tests.attacks.table.stores import pages
from tests.support.world import world

_ROUTE, _METHOD, _UNKNOWN = "unknown-route", "method-not-allowed", "unknown-parameter"
_A1 = world()["Observation/a1"]


def refused(id: str, line: str, status: int, reason: str, **more: Any) -> Row:
    """A request of which the store hears nothing."""
    return row(id, line, status, reason, **more)


def by(id: str, line: str, twin: str, **more: Any) -> Row:
    """A page link used in another way than by GET of the type; what it stands for does not matter."""
    return refused(id, line, 400, _UNKNOWN, twin=twin, twin_store=pages([_A1], [_A1]), **more)


_PAGE = "_page=" + "A" * 60
ROWS = (
    refused("A-a-compartment-by-form", "POST /Patient/A/Observation/_search", 404, _ROUTE, body=b"code=x",
            twin=ask("POST /Observation/_search", body=b"code=x")),
    refused("A-a-strangers-compartment-by-form", "POST /Patient/B/Observation/_search", 404, _ROUTE, body=b"code=x"),
    refused("A-a-form-at-an-instance", "POST /Patient/B/_search", 404, _ROUTE, body=b"_id=A"),
    refused("A-a-create-in-a-compartment", "POST /Patient/B/Observation", 405, _METHOD, who="pA-rw", body=note(),
            twin=ask("POST /Observation", "pA-rw", note())),
    refused("A-a-compartment-of-a-type-without-one", "GET /Organization/h1/Patient", 404, _ROUTE),
    row("A-an-escaped-type", "GET /%50atient/B", 404, "not-found", same_as="GET /%50atient/none", twin="GET /%50atient/A"),
    refused("B-a-version-is-deleted", "DELETE /Observation/a1/_history/1", 405, _METHOD, who="pA-rw",
            twin=ask("DELETE /Observation/a1", "pA-rw")),
    refused("B-a-history-is-deleted", "DELETE /Observation/a1/_history", 405, _METHOD, who="pA-rw"),
    refused("B-a-version-is-written", "PUT /Observation/a1/_history/1", 405, _METHOD, who="pA-rw", body=note("a1")),
    row("B-criteria-in-the-body-of-a-get", "GET /Observation?subject=Patient/B", 200, shows=set(), headers=(FORM,),
        body=b"subject=Patient/A"),
    row("B-criteria-in-the-body-of-a-get-beside-none", "GET /Observation", 200, headers=(FORM,), body=b"subject=Patient/B",
        sent=("GET Observation?subject=Patient%2FA",), shows={"Observation/a1", "Observation/a-vitals", "Observation/a-mh"}),
    refused("C-lenient-handling-is-not-for-the-caller", "GET /Observation?nonsense=1", 400, _UNKNOWN,
            headers=(("Prefer", "handling=lenient"),)),
    refused("C-a-token-in-the-query", "GET /Patient/A?access_token=x", 400, _UNKNOWN),
    row("C-a-version-wanted-by-a-read", "GET /Patient/B", 404, "not-found", headers=(("If-Match", 'W/"1"'),),
        same_as="GET /Patient/none"),
    row("C-anything-but-nothing", "GET /Observation/b1", 404, "not-found", headers=(("If-None-Match", "*"),),
        same_as="GET /Observation/none", sent=("GET Observation/b1",)),
    refused("C-any-version-is-written", "PUT /Observation/a1", 400, "ambiguous-header", who="pA-rw", body=note("a1"),
            headers=(JSON, ("If-Match", "*")), twin=ask("PUT /Observation/a1", "pA-rw", note("a1"))),
    refused("C-one-of-two-versions", "PUT /Observation/a1", 400, "ambiguous-header", who="pA-rw", body=note("a1"),
            headers=(JSON, ("If-Match", 'W/"1", W/"2"'))),
    *(row(f"C-the-version-of-{name}", f"{method} /Observation/b1", 404, "not-found", who="pA-rw", body=body,
          headers=(*media, ("If-Match", 'W/"9"')), sent=("GET Observation/b1",), same_as=f"{method} /Observation/none",
          twin=ask("DELETE /Observation/a1", "pA-rw"))
      for name, method, body, media in (
          ("a-delete", "DELETE", None, ()),
          ("a-patch", "PATCH", [{"op": "remove", "path": "/nothing"}], (("Content-Type", "application/json-patch+json"),)))),
    by("M-a-page-of-a-resource", f"GET /Observation/b1?{_PAGE}", "GET /Observation?_count=1"),
    by("M-a-page-of-the-capabilities", f"GET /metadata?{_PAGE}", "GET /Observation?_count=1", who=None),
    by("M-a-page-of-a-history", f"GET /Observation/b1/_history?{_PAGE}", "GET /Observation?_count=1"),
    by("M-a-page-of-a-form", f"POST /Observation/_search?{_PAGE}", "GET /Observation?_count=1", body=b"code=x"),
    by("M-a-page-of-an-update", f"PUT /Observation/a1?{_PAGE}", "GET /Observation?_count=1", who="pA-rw", body=note("a1")),
    by("M-a-page-of-a-delete", f"DELETE /Observation/a1?{_PAGE}", "GET /Observation?_count=1", who="pA-rw"),
    by("M-a-page-of-a-compartment", f"GET /Patient/A/Observation?{_PAGE}", "GET /Observation?_count=1"),
)  # fmt: skip
