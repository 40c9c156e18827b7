"""Between sections D, E and F: references of other kinds, modifiers, joins of further hops, and sorts."""

from typing import Any

from tests.attacks.table.rows import Row, ask, row
from tests.attacks.table.section_d import OWN
from tests.attacks.table.section_e import includes_all

_CLOSED, _UNKNOWN, _JOIN = "unsupported-parameter", "unknown-parameter", "join-closed"
_TWIN = "GET /Observation?code=x"


def refused(name: str, query: str, status: int, reason: str, **more: Any) -> Row:
    """A search of results of which the store hears nothing."""
    return row(f"D-{name}", f"GET /Observation?{query}", status, reason, **{"twin": _TWIN} | more)


def narrowed(name: str, query: str, **more: Any) -> Row:
    """A search that passes with our criterion behind it, before a store that ignores every one of both."""
    sent = ("GET Observation?*",)
    ours = {"check": _ours, "twin": _TWIN, "shows": OWN, "sent": sent} | more
    return row(f"D-{name}", f"GET /Observation?{query}", 200, **ours)


def nothing(name: str, query: str) -> Row:
    """A search that finds nothing, and of which the store hears nothing."""
    return row(f"D-{name}", f"GET /Observation?{query}", 200, shows=set(), holds=('"total":0',), twin=_TWIN)


def joined(name: str, line: str, twin: str = _TWIN, **more: Any) -> Row:
    """A join that answers something about what a read would not show."""
    return row(f"E-{name}", f"GET /{line}", 403, _JOIN, **{"twin": twin} | more)


def _ours(gateway: Any, reply: Any) -> None:
    assert gateway.upstream.requests[0].target.endswith("subject=Patient%2FA")


def _beneficiary(gateway: Any, reply: Any) -> None:
    assert gateway.upstream.requests[0].target.endswith("beneficiary=Patient%2FA")


ROWS = (
    nothing("a-subject-that-is-contained", "subject=%23p"),
    nothing("a-subject-in-fullwidth", "subject=Patient/%EF%BC%A1"),
    nothing("a-version-of-a-stranger", "patient=Patient/B/_history/1"),
    nothing("a-stranger-by-type", "patient:Patient=B"),
    nothing("a-subject-with-a-blank", "subject=%20Patient/A"),
    narrowed("a-version-of-the-own", "patient=Patient/A/_history/1"),
    narrowed("a-subject-of-another-server", "subject=http://evil.example/Patient/A"),
    narrowed("a-subject-by-urn", "patient=urn:uuid:x"),
    narrowed("a-group-of-the-same-id", "subject:Group=A"),
    narrowed("a-strangers-id", "_id=b1"),
    narrowed("own-and-foreign-ids", "_id=a1,b1"),
    narrowed("every-id-but-one", "_id:not=a1"),
    narrowed("ids-that-are-missing", "_id:missing=true"),
    narrowed("another-patient-in-focus", "focus=Patient/B"),
    narrowed("a-target-by-identifier", "performer:identifier=mrn|B"),
    narrowed("sorted-by-date-of-change", "_sort=-_lastUpdated"),
    *(refused(f"sorted-by-{name}", f"_sort={key}", 403, _CLOSED) for name, key in (
        ("labels", "_security"), ("a-chain", "subject.name"), ("a-modifier", "subject:identifier"),
        ("a-reverse-chain", "_has:Provenance:target:agent"), ("source", "_source"), ("score", "-_score"))),
    *(refused(f"closed-{name}", query, 403, _CLOSED) for name, query in (
        ("contained-ones", "_contained=true"), ("containers", "_contained=both&_containedType=container"),
        ("another-type", "_type=Patient"), ("codes-by-their-type", "identifier:of-type=mr|MR|B"), ("a-score", "_score=1"),
        ("a-source", "_source=urn:x"), ("parents-of-a-code", "category:above=x"))),
    *(refused(f"unknown-{name}", query, 400, _UNKNOWN) for name, query in (
        ("since", "_since=2020-01-01"), ("at", "_at=2020-01-01"), ("exact-ids", "_id:exact=b1"),
        ("type-of-subject", "subject:type=Patient"), ("text-of-subject", "subject:text=x"),
        ("iterated-includes", "_include:recurse=Observation:subject"))),
    *(refused(f"elements-{name}", f"_elements={text}", 400, "invalid-parameter") for name, text in (
        ("none", ""), ("all", "*"), ("within", "subject.reference"))),
    joined("back-and-forth", "Observation?subject:Patient._has:Observation:patient:code=x"),
    joined("over-a-link", "Observation?subject:Patient.link:Patient._id=B"),
    joined("members-of-a-panel", "Observation?has-member.subject=Patient/B"),
    joined("what-a-result-came-from", "Observation?derived-from:DocumentReference.subject=Patient/B"),
    joined("whose-device-it-was", "Observation?device.patient=Patient/B"),
    joined("whose-specimen-it-was", "Observation?specimen.subject=Patient/B"),
    joined("an-order-for-a-stranger", "Observation?based-on:ServiceRequest.subject=Patient/B"),
    joined("the-visit-of-a-stranger", "Observation?encounter.subject:Patient.name=x"),
    joined("a-strangers-result-that-the-patient-performed", "Patient?_has:Observation:performer:_id=ab", "GET /Patient"),
    joined("insurances-that-the-patient-pays", "Patient?_has:Coverage:subscriber:status=active", "GET /Patient"),
    joined("who-links-to-the-own", "Patient?_has:Patient:link:name=x", "GET /Patient"),
    joined("where-a-stranger-was-treated", "Organization?_has:Encounter:service-provider:subject=Patient/B",
           "GET /Organization"),
    joined("an-include-of-groups", "Observation?_include=Observation:subject:Group"),
    *(row(f"E-chain-to-{name}", f"GET /Observation?subject:Patient.{code}=x", 403, _CLOSED, twin=_TWIN)
      for name, code in (("labels", "_security"), ("text", "_text"), ("a-list", "_list"), ("content", "_content"))),
    *(row(f"E-iterated-{name}", f"GET /Observation?{query}", 200, store=includes_all, shows=OWN, sent=("GET *",), twin=_TWIN)
      for name, query in (
          ("members", "_include:iterate=Observation:has-member"), ("panels", "_revinclude:iterate=Observation:has-member"),
          ("links", "_include:iterate=Patient:link"), ("subjects", "_revinclude:iterate=Observation:subject"))),
    *(row(f"E-{name}-by-a-read", f"GET /Patient/A?{query}", 403, _CLOSED, twin="GET /Patient/A") for name, query in (
        ("include", "_include=Patient:link"), ("reverse-include", "_revinclude=Observation:subject"))),
    *(row(f"E-{name}", f"GET /{line}", 200, shows=set(), sent=("GET *",), twin="GET /Coverage", check=_beneficiary)
      for name, line in (("an-insurance-that-a-stranger-pays", "Coverage?payor=Patient/B"),
                         ("an-insurance-that-the-patient-holds", "Coverage?policy-holder=Patient/A"),
                         ("a-strangers-subscription", "Coverage?subscriber=Patient/B"))),
    row("E-lenient-last-results", "GET /Observation/$lastn?_include=Observation:performer", 403, _CLOSED,
        twin=ask("GET /Observation/$lastn?patient=A")),
    row("E-a-chain-of-last-results", "GET /Observation/$lastn?performer:Patient.name=x", 403, _CLOSED,
        twin=ask("GET /Observation/$lastn?patient=A")),
    row("E-a-reverse-chain-of-last-results", "GET /Observation/$lastn?_has:Provenance:target:agent=x", 403, _CLOSED,
        twin=ask("GET /Observation/$lastn?patient=A")),
)  # fmt: skip
