"""Section B: methods and framing."""

from tests.attacks.table.rows import FORM, LISTENER, ask, row

_OVERRIDES = (("X-HTTP-Method-Override", "DELETE"), ("X-HTTP-Method", "PUT"), ("X-Method-Override", "PATCH"))
_NEVER = ("x-http-method-override", "x-http-method", "x-method-override")
_UPGRADE = (
    ("Upgrade", "h2c"),
    ("Connection", "Upgrade, HTTP2-Settings"),
    ("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
)
_METHODS = ("TRACE", "PROPFIND", "SEARCH", "LOCK", "REPORT", "COPY")
_OPEN = ask("GET /Patient/A", "pA-rw")
ROWS = (
    row("B-020-method-override-of-a-post", "POST /Patient/B", 405, "method-not-allowed", headers=_OVERRIDES[:1]),
    row("B-020b-method-override-of-a-get", "GET /Patient/A", 200, headers=_OVERRIDES, sent=("GET Patient/A",),
        unsent=_NEVER),
    row("B-020c-a-method-in-the-form", "POST /Patient/_search", 400, "unknown-parameter", headers=(*_OVERRIDES, FORM),
        body=b"_id=A&_method=DELETE"),
    row("B-021-a-method-in-the-query", "POST /Patient/B?_method=PUT", 405, "method-not-allowed"),
    row("B-021b-a-method-in-the-query-of-a-read", "GET /Patient/A?_method=DELETE", 400, "unknown-parameter"),
    row("B-021c-a-method-in-the-query-of-a-create", "POST /Observation?_method=PUT", 400, "unknown-parameter",
        who="pA-rw", body={"resourceType": "Observation"}, twin=_OPEN),
    row("B-021d-a-method-in-the-query-of-a-search", "GET /Observation?_method=DELETE", 400, "unknown-parameter"),
    row("B-022-get-of-the-place-of-forms", "GET /Patient/_search?identifier=x", 405, "method-not-allowed",
        twin=ask("POST /Patient/_search", body=b"_id=A")),
    row("B-022b-head-of-the-place-of-forms", "HEAD /Patient/_search", 405, "method-not-allowed"),
    row("B-022c-put-of-the-place-of-forms", "PUT /Patient/_search", 405, "method-not-allowed", who="pA-rw",
        body={"resourceType": "Patient"}),
    row("B-024-a-search-of-the-system-by-form", "POST /_search", 403, "interaction-closed",
        body=b"_type=Patient,Observation"),
    row("B-024b-a-search-of-the-system", "GET /?_type=Patient,Observation", 403, "interaction-closed"),
    row("B-024c-a-search-of-everything", "GET /", 403, "interaction-closed"),
    row("B-024d-a-search-of-the-system-by-id", "GET /?_id=B", 403, "interaction-closed"),
    row("B-025-head-of-a-stranger", "HEAD /Patient/B", 404, same_as="HEAD /Patient/nobody",
        twin="HEAD /Patient/A", twin_sent=("GET Patient/A",)),
    row("B-025b-head-of-a-foreign-result", "HEAD /Observation/b1", 404, sent=("GET Observation/b1",),
        same_as="HEAD /Observation/nothing", twin="HEAD /Observation/a1"),
    row("B-025c-head-of-a-version", "HEAD /Observation/b1/_history/1", 404, sent=("GET Observation/b1/_history/1",),
        same_as="HEAD /Observation/nothing/_history/1", twin="HEAD /Observation/a1/_history/1"),
    row("B-025d-head-of-an-operation", "HEAD /Patient/A/$everything", 405, "method-not-allowed"),
    row("B-026-options", "OPTIONS /Patient/B", (200, 204), LISTENER),
    *(row(f"B-026-{method.lower()}", f"{method} /Patient/B", 405, LISTENER) for method in _METHODS),
    row("B-026b-query", "QUERY /Patient/B", (400, 405), LISTENER),
    row("B-026c-connect", "CONNECT /Patient/B", (400, 405), LISTENER),
    row("B-026d-a-method-in-lower-case", "get /Patient/A", (400, 405), LISTENER),
    row("B-032-an-update-of-a-whole-type", "PUT /Observation", 400, "invalid-parameter", who="pA-rw", body={}, twin=_OPEN),
    row("B-032b-a-patch-of-a-whole-type", "PATCH /Observation", 400, "invalid-parameter", who="pA-rw", body=[],
        twin=_OPEN),
    row("B-032c-a-delete-of-a-whole-type", "DELETE /Observation", 400, "invalid-parameter", who="pA-rw", twin=_OPEN),
    row("B-032d-a-delete-with-an-empty-query", "DELETE /Observation?", 400, "invalid-parameter", who="pA-rw", twin=_OPEN),
    row("B-032e-a-delete-by-a-page-size", "DELETE /Observation?_count=1", 400, "unknown-parameter", who="pA-rw",
        twin=_OPEN),
    row("B-032f-a-delete-by-an-empty-value", "DELETE /Observation?identifier=", 400, "invalid-parameter", who="pA-rw",
        twin=_OPEN),
    row("B-032g-a-delete-of-everything", "DELETE /", (403, 405), who="pA-rw", twin=_OPEN),
    row("B-032h-a-delete-of-a-form", "DELETE /Observation/_search", 405, "method-not-allowed", who="pA-rw", twin=_OPEN),
    row("B-033-an-upgrade", "GET /Patient/A", 200, headers=(("Upgrade", "websocket"), ("Connection", "Upgrade")),
        sent=("GET Patient/A",), unsent=("upgrade",)),
    row("B-033b-an-upgrade-to-h2c", "GET /Patient/A", 200, headers=_UPGRADE, sent=("GET Patient/A",),
        unsent=("upgrade", "http2-settings")),
    row("B-033c-an-upgrade-of-a-stranger", "GET /Patient/B", 404, "not-found", headers=_UPGRADE),
)  # fmt: skip
