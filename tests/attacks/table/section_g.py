"""Section G: reads, versions, histories and conditional reads."""

from typing import Any

from tests.attacks.table.rows import Row, row
from tests.attacks.table.stores import answers, found
from tests.support.hostile_upstream import HostileUpstream
from tests.support.world import SECRET, world

_OPEN_TYPES = ("BiologicallyDerivedProduct", "Contract", "GuidanceResponse", "Linkage", "MessageHeader", "PaymentNotice",
               "Subscription")  # fmt: skip
_MANY = ("Group/g", "List/mix", "Person/pb", "Schedule/s", "Appointment/both", "Bundle/doc-b", "Provenance/p",
         "Composition/cb", "Consent/k")  # fmt: skip
_A1 = world()["Observation/a1"]
_MOVED = _A1 | {"meta": {"versionId": "2"}, "subject": {"reference": "Patient/B", "display": SECRET}}


def foreign(id: str, place: str, **more: Any) -> Row:
    """A read of what is not A's: not found, as what nobody has."""
    missing = f"GET /{place.partition('/')[0]}/none"
    said = {"sent": (f"GET {place}",), "same_as": missing, "twin": "GET /Observation/a1"} | more
    return row(id, f"GET /{place}", 404, "not-found", **said)


def closed(id: str, place: str, **more: Any) -> Row:
    """A read of a type that nobody opened."""
    return row(id, f"GET /{place}", 403, "no-permit", **{"twin": "GET /Observation/a1"} | more)


def versions(*entries: dict[str, Any]) -> Any:
    """The store answers with this history."""
    return found(entries=list(entries), more={"type": "history"})


def gone(store: HostileUpstream) -> None:
    """The store says 410 of what was deleted."""
    answers({"resourceType": "OperationOutcome", "issue": [{"diagnostics": SECRET}]}, status=410)(store)


_DELETED = {"fullUrl": "{store}/Observation/b1", "request": {"method": "DELETE", "url": "Observation/b1"},
            "response": {"status": "204", "lastModified": "2026-01-01T00:00:00Z"}}  # fmt: skip
_WAS = (("If-None-Match", 'W/"1"'),)
_SINCE = (("If-Modified-Since", "Thu, 01 Jan 2026 00:00:00 GMT"),)
ROWS = (
    foreign("G-114-a-strangers-result", "Observation/b1"),
    foreign("G-114b-a-strangers-result-that-the-patient-performed", "Observation/ab"),
    foreign("G-114c-a-strangers-encounter", "Encounter/eb"),
    foreign("G-114d-a-strangers-document", "DocumentReference/b1", twin="GET /DocumentReference/a1"),
    foreign("G-114e-a-strangers-result-in-a-shape", "Observation/b1?_elements=id",
            same_as="GET /Observation/none?_elements=id", sent=("GET Observation/b1",)),
    *(closed(f"G-116-{place.partition('/')[0].lower()}", place) for place in ("Task/b", "Device/d-b")),
    *(closed(f"G-116-{type_.lower()}", f"{type_}/x") for type_ in _OPEN_TYPES),
    *(row(f"G-116-{type_.lower()}-of-staff", f"GET /{type_}/x", 403, "no-permit", who="dr1", sees=True,
          twin="GET /Observation/b1") for type_ in _OPEN_TYPES[:3]),
    *(row(f"G-116-search-{type_.lower()}", f"GET /{type_}", 403, "no-permit", twin="GET /Observation/a1")
      for type_ in ("Task", "Device", "Contract", "Flag", "Communication", "Media")),
    *(closed(f"G-117-{place.partition('/')[0].lower()}", place) for place in _MANY),
    foreign("G-118-a-familys-insurance", "Coverage/fam"),
    row("G-118b-searched-by-its-subscriber", "GET /Coverage?subscriber=Patient/A", 200, shows=set(), sent=("GET *",),
        twin="GET /Coverage"),
    row("G-120-a-history-with-other-subjects", "GET /Observation/a1/_history", 200, shows={"Observation/a1"},
        store=versions({"resource": _MOVED}, {"resource": _A1}), sent=("GET Observation/a1/_history",),
        twin="GET /Observation/a1/_history"),
    row("G-120b-a-deleted-version-of-a-stranger", "GET /Observation/b1/_history", 404, "not-found", store=versions(_DELETED),
        sent=("GET Observation/b1/_history", "GET Observation/b1"), hides=('"204"', "DELETE"), twin="GET /Observation/a1/_history"),
    row("G-120c-a-history-of-another-resource", "GET /Observation/a1/_history", 404, "not-found",
        store=versions({"resource": world()["Observation/b1"]}, {"resource": world()["Observation/a-vitals"]}),
        sent=("GET Observation/a1/_history", "GET Observation/a1"), twin="GET /Observation/a1/_history"),
    row("G-120d-a-version-that-was-a-strangers", "GET /Observation/a1/_history/2", 404, "not-found",
        store=answers(_MOVED), sent=("GET Observation/a1/_history/2",), twin="GET /Observation/a1/_history/1"),
    row("G-121-history-of-a-type", "GET /Observation/_history", 403, "no-permit", twin="GET /Observation/a1"),
    row("G-121b-history-of-all", "GET /_history?_since=2020-01-01T00:00:00Z", 403, "interaction-closed",
        twin="GET /Observation/a1"),
    row("G-121c-history-of-a-stranger", "GET /Patient/B/_history", 404, "not-found", same_as="GET /Patient/none/_history",
        twin="GET /Patient/A/_history"),
    row("G-121d-history-of-a-type-by-staff", "GET /Patient/_history", 403, "no-permit", who="dr1", sees=True,
        twin="GET /Patient/B/_history"),
    row("G-122-what-was-deleted", "GET /Observation/b1", 404, "not-found", store=gone, sent=("GET Observation/b1",),
        same_as="GET /Observation/none", twin="GET /Observation/a1"),
    row("G-122b-a-version-that-was-deleted", "GET /Observation/b1/_history/2", 404, "not-found", store=gone,
        sent=("GET Observation/b1/_history/2",), twin="GET /Observation/a1/_history/1"),
    foreign("G-124-is-a-strangers-newer", "Observation/b1", headers=_SINCE),
    row("G-124b-is-a-stranger-newer", "GET /Patient/B", 404, "not-found", headers=_SINCE, same_as="GET /Patient/none"),
    foreign("G-124c-a-strangers-tag", "Observation/b1", headers=_WAS),
    row("G-124d-a-strangers-tag-by-head", "HEAD /Observation/b1", 404, headers=_WAS, same_as="HEAD /Observation/none",
        sent=("GET Observation/b1",), twin="HEAD /Observation/a1"),
    row("G-125-the-tag-that-another-saw", "GET /Patient/B", 404, "not-found", headers=_WAS, same_as="GET /Patient/none"),
    row("G-125b-nobody-keeps-what-was-seen", "GET /Observation/a1", 200, sent=("GET Observation/a1",),
        check=lambda _, reply: _private(reply), twin="GET /Observation"),
    *(row(f"G-126-a-read-with-{number}", f"GET /Patient/A?{name}=x", 400, "unknown-parameter")
      for number, name in enumerate(("_narrative", "patient", "_revision", "_count", "access_token", "_getpages", "_cascade", "__t"))),
    row("G-126b-a-read-in-a-shape-of-two", "GET /Patient/A?_elements=name&_summary=true", 400, "invalid-parameter"),
    row("G-126c-a-read-that-counts", "GET /Patient/A?_summary=count", 400, "invalid-parameter"),
    row("G-126d-a-read-in-json", "GET /Patient/A?_format=json&_pretty=true", 200, sent=("GET Patient/A",)),
    *(row(f"G-128-a-redirect-{status}", "GET /Observation/a1", 502, "upstream-invalid", sent=("GET Observation/a1",),
          store=answers(b"", status=status, headers={"Location": "{store}/Patient/B"}), twin="GET /Observation/a1")
      for status in (301, 302, 303, 307, 308)),
    row("G-128b-a-redirect-of-a-search", "GET /Observation", 502, "upstream-invalid", sent=("GET *",),
        store=answers(b"", status=302, headers={"Location": "http://169.254.169.254/"}), twin="GET /Observation"),
    row("G-128c-a-refresh-header", "GET /Patient/A", 200, sent=("GET Patient/A",), hides=("evil.example", "Refresh"),
        store=answers(world()["Patient/A"], headers={"Refresh": "0; url=http://evil.example"})),
)  # fmt: skip


def _private(reply: Any) -> None:
    assert reply.header("Cache-Control") == "no-store, private"
    assert {"Authorization", "DPoP", "Accept"} <= set((reply.header("Vary") or "").split(", "))
