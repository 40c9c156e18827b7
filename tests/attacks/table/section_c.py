"""Section C: request headers. From the caller pass the few that mean something, and the gateway's own are set after."""

import gzip

from tests.attacks.table.rows import JSON, Row, ask, content, row

_PROVENANCE = '{"resourceType":"Provenance","target":[{"reference":"Observation/b1"}]}'
_NOTE = {"resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/A"}}
_CODED = gzip.compress(content(_NOTE | {"subject": {"reference": "Patient/B"}}))


def dropped(id: str, *headers: tuple[str, str]) -> Row:
    """Headers that are passed over and never reach the store."""
    names = tuple(name.lower() for name, _ in headers)
    return row(
        id,
        "GET /Patient/A",
        200,
        headers=headers,
        sent=("GET Patient/A",),
        unsent=names,
        holds=('"id": "A"',),
    )


ROWS = (
    dropped("C-036-a-session-cookie", ("Cookie", "JSESSIONID=admin")),
    dropped("C-037-a-consent-context", ("X-Consent-Scope", "btg")),
    dropped("C-038-vendor-headers", ("X-Patient-id", "B"), ("su", "admin"), ("x-debug", "policy")),
    row("C-038b-a-debug-parameter", "GET /Patient/A?__debug=policy", 400, "unknown-parameter"),
    dropped("C-038c-vendor-switches", ("X-Request-Partition-IDs", "2"), ("X-Rewrite-History", "true"),
            ("X-Upsert-Existence-Check", "disabled"), ("X-Cascade", "delete")),
    dropped("C-038d-identity-of-a-proxy", ("X-Remote-User", "dr1"), ("X-Authenticated-User", "dr1"),
            ("X-User-Roles", "physician"), ("X-Amzn-Oidc-Data", "x"), ("X-Goog-Iap-Jwt-Assertion", "x")),
    row("C-040-a-provenance-header", "POST /Observation", 403, who="pA-rw", body=_NOTE,
        headers=(("X-Provenance", _PROVENANCE),), twin=ask("POST /Observation", "pA-rw", _NOTE)),
    row("C-040b-a-provenance-header-of-a-read", "GET /Patient/A", (200, 403), headers=(("X-Provenance", _PROVENANCE),),
        sent=("GET Patient/A",), unsent=("x-provenance",)),
    dropped("C-041-paths-by-header", ("X-Forwarded-Host", "evil.example"), ("Forwarded", "host=evil.example"),
            ("X-Forwarded-Prefix", "/evil"), ("X-Original-URL", "/Patient/B"), ("X-Rewrite-URL", "/Patient/B")),
    dropped("C-041b-more-paths-by-header", ("X-Forwarded-Proto", "http"), ("X-Forwarded-Port", "1"),
            ("X-Forwarded-Path", "/Patient/B"), ("X-Original-Host", "evil.example"), ("X-Host", "evil.example"),
            ("Base-Url", "http://evil.example")),
    row("C-042-a-forged-address", "GET /Location/ward", 403, "no-permit", who="dr1",
        headers=(("X-Forwarded-For", "10.0.0.1"), ("X-Real-IP", "10.0.0.1"), ("X-Client-IP", "10.0.0.1"))),
    row("C-042b-more-forged-addresses", "GET /Location/ward", 403, "no-permit", who="dr1",
        headers=(("Forwarded", "for=10.0.0.1"), ("X-Forwarded-For", "10.0.0.1, 127.0.0.1"), ("True-Client-IP", "10.0.0.1"),
                 ("CF-Connecting-IP", "10.0.0.1"))),
    dropped("C-044-a-forged-audit-user", ("X-MS-AZUREFHIR-AUDIT-USER", "someone")),
    row("C-045-headers-named-hop-by-hop", "GET /Patient/A", 200, sent=("GET Patient/A",),
        headers=(("Connection", "X-Gateway-Auth, X-Request-Id, Accept, X-Forwarded-For"),), unsent=("x-gateway-auth",),
        check=lambda gateway, _: _has(gateway.upstream.requests[0].headers)),
    dropped("C-046-names-with-an-underscore", ("X_Patient_Id", "B"), ("Content_Length", "5")),
    row("C-046b-an-underscore-for-authorization", "GET /Patient/A", 401, "token-missing", who=None,
        headers=(("Authorization_", "DPoP x"), ("X_Authorization", "DPoP x"))),
    row("C-048-a-full-answer-with-rights-to-write-only", "PUT /Observation/a1", (200, 403), who="pA-rw",
        claims={"scope": "patient/Observation.u"}, body={**_NOTE, "id": "a1", "note": [{"text": "seen"}]},
        headers=(("Prefer", "return=representation"),), hides=("6.3", "valueQuantity", "seen"),
        sent=("GET Observation/a1", "PUT Observation/a1"),
        twin=ask("PUT /Observation/a1", "pA-rw", {**_NOTE, "id": "a1"})),
    row("C-048b-an-outcome-in-place-of-the-answer", "PUT /Observation/a1", (200, 403), who="pA-rw",
        claims={"scope": "patient/Observation.u"}, body={**_NOTE, "id": "a1"}, hides=("6.3", "subject"),
        headers=(("Prefer", "return=OperationOutcome"),), sent=("GET Observation/a1", "PUT Observation/a1"),
        twin=ask("PUT /Observation/a1", "pA-rw", {**_NOTE, "id": "a1"})),
    row("C-049-an-answer-at-another-place", "GET /Patient/A", 200, headers=(("Prefer", "respond-async"),),
        sent=("GET Patient/A",), check=lambda gateway, _: _not_async(gateway.upstream.requests[0].headers)),
    row("C-049b-a-search-at-another-place", "GET /Observation", 200, headers=(("Prefer", "respond-async; wait=1"),),
        sent=("GET Observation?subject=Patient%2FA",), shows={"Observation/a1", "Observation/a-vitals", "Observation/a-mh"},
        check=lambda gateway, _: _not_async(gateway.upstream.requests[0].headers)),
    dropped("C-050-a-part-of-an-answer", ("Range", "bytes=0-10"), ("If-Range", "x")),
    row("C-050b-a-part-of-a-search", "GET /Observation", 200, headers=(("Range", "bytes=0-100"),), unsent=("range",),
        sent=("GET Observation?subject=Patient%2FA",), shows={"Observation/a1", "Observation/a-vitals", "Observation/a-mh"}),
    row("C-052-codings-that-nobody-decodes", "GET /Patient/A", (200, 406), sent=("GET Patient/A",),
        headers=(("Accept-Encoding", "br, zstd, identity;q=0"),),
        check=lambda gateway, _: _codings(gateway.upstream.requests[0].headers)),
    row("C-053-a-coded-body-about-a-stranger", "POST /Observation", 403, who="pA-rw", body=_CODED,
        headers=(("Content-Encoding", "gzip"), JSON), twin=ask("POST /Observation", "pA-rw", _NOTE)),
    row("C-053b-a-coding-that-nobody-decodes", "POST /Observation", 415, "unsupported-media-type", who="pA-rw", body=_NOTE,
        headers=(("Content-Encoding", "br"),), twin=ask("POST /Observation", "pA-rw", _NOTE)),
    row("C-054-a-long-language", "GET /Patient/A", (400, 431), "-", headers=(("Accept-Language", "x" * 50_000),)),
    row("C-054b-a-long-trace", "GET /Patient/A", (400, 431), "-", headers=(("traceparent", "x" * 50_000),)),
    row("C-054c-many-headers", "GET /Patient/A", (400, 431), "-",
        headers=tuple((f"X-Filler-{number}", "y" * 40) for number in range(500))),
)  # fmt: skip


def _has(headers: dict[str, str]) -> None:
    assert {"accept", "x-request-id", "x-forwarded-for"} <= headers.keys()


def _not_async(headers: dict[str, str]) -> None:
    assert "respond-async" not in headers.get("prefer", "")


def _codings(headers: dict[str, str]) -> None:
    assert headers["accept-encoding"] in ("identity", "gzip", "gzip, identity")
