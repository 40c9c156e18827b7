"""Section F: what counts, pages, shapes and messages of a search tell."""

from typing import Any

from tests.attacks.table.rows import Row, ask, row
from tests.attacks.table.section_d import OWN
from tests.attacks.table.stores import deaf, found, pages
from tests.support.gateway import MOUNT, Reply, RunningGateway
from tests.support.world import SECRET, world

_TWIN = ask("GET /Observation?code=x")
_A1, _B1 = world()["Observation/a1"], world()["Observation/b1"]
_OUTCOME = {
    "resource": {
        "resourceType": "OperationOutcome",
        "text": {"status": "generated", "div": f"<div>{SECRET}</div>"},
        "issue": [{"severity": "warning", "code": "suppressed", "diagnostics": f"3 suppressed for consent: {SECRET}",
                   "details": {"text": SECRET}}],
    },
    "search": {"mode": "outcome"},
}  # fmt: skip


def refused(id: str, line: str, status: int, reason: str, **more: Any) -> Row:
    """A search of which the store hears nothing."""
    return row(id, f"GET /{line}", status, reason, **{"twin": _TWIN} | more)


def judged(id: str, line: str, shows: set[str], **more: Any) -> Row:
    """A search whose answer is judged, whatever the store makes of it."""
    return row(id, f"GET /{line}", 200, shows=shows, **{"twin": _TWIN, "sent": ("GET *",)} | more)


def no_total(gateway: RunningGateway, reply: Reply) -> None:
    """The answer says no number."""
    assert "total" not in reply.json, reply.json


def goes_on(gateway: RunningGateway, reply: Reply) -> None:
    """The answer says no number, and names the next page at the gateway in words that nobody can read."""
    no_total(gateway, reply)
    (following,) = [link["url"] for link in reply.json["link"] if link["relation"] == "next"]
    assert following.startswith(f"{gateway.origin}{MOUNT}/Observation?_page="), following


def plain_outcome(gateway: RunningGateway, reply: Reply) -> None:
    """An outcome entry, where one is passed on, says severity and code alone."""
    for each in reply.json.get("entry", []):
        for issue in each["resource"].get("issue", []):
            assert issue.keys() <= {"severity", "code"}


def _labelled(code: str, id_: str = "hidden") -> dict[str, Any]:
    """A stranger's result of this confidentiality; one that may be seen holds no marker."""
    system = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
    base = _B1 if id_ == "hidden" else _A1
    return base | {"id": id_, "meta": {"security": [{"system": system, "code": code}]}}


_BOTH = found(_A1, _B1)
_BOTH_LABELLED = found(_labelled("R"), _labelled("N", "seen"), more={"total": 2})
ROWS = (
    row("F-098-a-count-of-the-own", "GET /Condition?code=HIV&_summary=count", 200, shows=set(),
        sent=("GET Condition?code=HIV&_summary=count&patient=Patient%2FA",), twin="GET /Condition?code=x"),
    row("F-098b-a-count-that-the-store-did-not-narrow", "GET /Condition?code=HIV&_summary=count", 502, "narrowing-ignored",
        sent=("GET *",), store=deaf, twin="GET /Condition?code=x"),
    row("F-098c-a-count-where-labels-hide", "GET /Observation?code=HIV&_summary=count", 403, "count-closed", who="dr1",
        sees=True, world="labels", twin="GET /Observation?code=x"),
    row("F-098d-a-count-by-form-where-labels-hide", "POST /Observation/_search", 403, "count-closed", who="dr1",
        sees=True, world="labels", body=b"_summary=count", twin="GET /Observation?code=x"),
    row("F-100-a-total-before-the-entries", "GET /Observation", 200, shows=set(), who="dr1", world="labels", sees=False,
        store=found(_B1 | {"meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
                                                  "code": "R"}]}}),
        sent=("GET *",), check=no_total, twin=ask("GET /Observation?code=x", "pA-r")),
    judged("F-100b-a-total-of-a-store-that-does-not-narrow", "Observation", {"Observation/a1"},
           store=found(_A1, _B1, more={"total": 4711, "link": []}), hides=()),
    row("F-101-pages-whose-entries-are-hidden", "GET /Observation?_count=1", 200, who="dr1", world="labels",
        store=pages([_labelled("R")], [_labelled("R")], [_labelled("N", "seen")]), shows=set(), sent=("GET *",),
        hides=("Observation/hidden",), check=goes_on, twin=ask("GET /Observation?code=x", "pA-r")),
    row("F-101c-a-page-of-which-a-part-is-hidden", "GET /Observation?_count=2", 200, who="dr1", world="labels",
        store=pages([_labelled("R"), _labelled("N", "seen")], [_labelled("N", "more")]), shows={"Observation/seen"},
        sent=("GET *",), hides=("Observation/hidden",), check=goes_on, twin=ask("GET /Observation?code=x", "pA-r")),
    row("F-101b-pages-whose-entries-are-hidden-without-end", "GET /Observation?_count=1", 200, who="dr1", world="labels",
        store=pages(*([[_labelled("R")]] * 60)), shows=set(), sent=None, check=no_total,
        twin=ask("GET /Observation?code=x", "pA-r")),
    row("F-102-a-page-of-none", "GET /Observation?_count=0", 200, shows=set(), holds=('"total"',), twin=_TWIN,
        sent=("GET Observation?_summary=count&subject=Patient%2FA",)),
    row("F-102i-a-page-of-none-where-labels-hide", "GET /Observation?_count=0", 403, "count-closed", who="dr1",
        sees=True, world="labels", twin="GET /Observation?code=x"),
    row("F-102j-a-page-of-none-by-form", "POST /Observation/_search", 200, shows=set(), body=b"_count=0", twin=_TWIN,
        sent=("POST Observation/_search",), holds=('"total"',)),
    refused("F-102b-a-page-of-less", "Observation?_count=-1", 400, "invalid-parameter"),
    judged("F-102c-a-huge-page", "Observation?_count=999999", OWN,
           sent=("GET Observation?_count=200&subject=Patient%2FA",)),
    refused("F-102d-a-page-of-letters", "Observation?_count=abc", 400, "invalid-parameter"),
    refused("F-102e-two-page-sizes", "Observation?_count=1&_count=2", 400, "ambiguous-query"),
    refused("F-102f-a-page-in-exponents", "Observation?_count=1e9", 400, "invalid-parameter"),
    refused("F-102g-a-page-in-other-digits", "Observation?_count=%D9%A1", 400, "invalid-parameter"),
    refused("F-102h-a-page-with-a-modifier", "Observation?_count:x=1", 400, "unknown-parameter"),
    judged("F-104-a-summary-as-text", "Observation?_summary=text", OWN, sent=("GET Observation?subject=Patient%2FA",)),
    judged("F-104b-a-summary-of-data", "Observation?_summary=data", OWN, sent=("GET Observation?subject=Patient%2FA",)),
    judged("F-104c-a-summary", "Observation?_summary=true", OWN, sent=("GET Observation?subject=Patient%2FA",)),
    refused("F-104d-a-summary-that-is-none", "Observation?_summary=full", 400, "invalid-parameter"),
    row("F-104e-a-summary-of-a-view", "GET /Observation?_summary=text", 200, who="dr1", world="views", sees=True,
        sent=("GET Observation",), hides=("6.3", "valueQuantity"), twin="GET /Observation?code=x"),
    judged("F-105-elements-of-types", "Observation?_elements=Patient.name,Observation.code", OWN, hides=("valueQuantity",),
           sent=("GET Observation?subject=Patient%2FA",)),
    refused("F-105b-elements-that-are-none", "Observation?_elements=nonsense", 400, "invalid-parameter"),
    refused("F-106-elements-left-out", "Observation?_elements:exclude=subject", 400, "unknown-parameter"),
    refused("F-106b-elements-and-a-summary", "Observation?_summary=true&_elements=code", 400, "invalid-parameter"),
    refused("F-106c-elements-by-a-vendor", "Observation?_exclude=subject", 400, "unknown-parameter"),
    row("F-108-a-self-link-without-our-criterion", "GET /Observation", 502, "narrowing-ignored", store=deaf,
        sent=("GET *",), twin=_TWIN),
    row("F-108b-a-self-link-by-form-without-our-criterion", "POST /Observation/_search", (200, 502), body=b"code=x",
        store=deaf, sent=("POST Observation/_search",), twin=_TWIN),
    judged("F-109-a-message-about-what-was-suppressed", "Observation", {"Observation/a1"} , twin=_TWIN,
           store=found(entries=[{"resource": _A1, "search": {"mode": "match"}}, _OUTCOME]), check=plain_outcome),
    row("F-110-a-strangers-and-a-missing-result", "GET /Observation/b1", 404, "not-found", sent=("GET Observation/b1",),
        same_as="GET /Observation/none", twin="GET /Observation/a1"),
    row("F-110b-a-stranger-and-a-missing-person", "GET /Patient/B", 404, "not-found", same_as="GET /Patient/none"),
    row("F-110c-a-strangers-and-a-missing-version", "GET /Observation/b1/_history/1", 404, "not-found",
        sent=("GET Observation/b1/_history/1",), same_as="GET /Observation/none/_history/1",
        twin="GET /Observation/a1/_history/1"),
    row("F-112-an-estimate", "GET /Patient?_total=estimate", 200, shows={"Patient/A"}, sent=("GET *",),
        twin="GET /Patient"),
    *(row(f"F-112{letter}-{name}-where-labels-hide", f"GET /Observation?_total={name}", 200, who="dr1", world="labels",
          store=_BOTH_LABELLED, shows={"Observation/seen"}, hides=("Observation/hidden",), sent=("GET Observation",),
          check=no_total, twin=ask("GET /Observation?code=x", "pA-r"))
      for letter, name in (("b", "estimate"), ("c", "accurate"))),
    refused("F-112d-a-total-that-is-none", "Observation?_total=all", 400, "invalid-parameter"),
    row("F-113-statistics", "GET /Observation/$stats?subject=Patient/B", 403, "interaction-closed", who="sys",
        twin="GET /Practitioner/dr1"),
    row("F-113b-counts", "GET /Observation/$count", 403, "interaction-closed", who="sys", twin="GET /Practitioner/dr1"),
    row("F-113c-the-last-results", "GET /Observation/$lastn", 403, who="sys", twin="GET /Practitioner/dr1"),
)  # fmt: skip
