"""Section K: operations. Each is closed until a permit names it, and what it returns is judged entry by entry."""

from typing import Any

from tests.attacks.table.rows import Row, ask, row
from tests.attacks.table.section_h import note
from tests.support.gateway import RunningGateway

_TWIN = ask("GET /Patient/A/$everything")
_CLOSED = "interaction-closed"


def closed(
    id: str,
    line: str,
    reason: str | None = _CLOSED,
    status: int | tuple[int, ...] = 403,
    body: Any = None,
    **more: Any,
) -> Row:
    """An operation that is refused before the store hears of it."""
    return row(id, line, status, reason, body=body, **{"twin": _TWIN} | more)


def _parameters(*given: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": list(given)}


def given(**codes: str) -> dict[str, Any]:
    """Parameters with these values, each by the type of its definition."""
    kinds = {"_type": "valueCode", "patient": "valueId"}
    return _parameters(*({"name": name, kinds[name]: value} for name, value in codes.items()))


_JSON = ("Content-Type", "application/fhir+json")
_CHANGE = ask("POST /Observation/a1/$validate", "pA-rw", note(id="a1"))
_ODD = (
    {"resourceType": "Patient"}, {"resourceType": "Parameters", "parameter": {}}, {"resourceType": "Parameters", "x": 1},
    _parameters({"valueCode": "Patient"}), _parameters({"name": "_type"}),
    _parameters({"name": "_type", "valueCode": "Patient", "valueString": "Group"}),
    _parameters({"name": "_type", "part": [{"name": "x", "valueCode": "Patient"}]}),
    _parameters({"name": "_count", "valueInteger": "5"}), _parameters({"name": "_count", "valueInteger": True}),
    _parameters({"name": "_type", "valueCode": None}),
)  # fmt: skip
_MESSAGE = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": {
    "resourceType": "MessageHeader", "focus": [{"reference": "Patient/B"}]}}]}  # fmt: skip
_ADMIN = ("reindex", "expunge", "import", "process-message", "convert", "convert-data", "apply", "populate",
          "evaluate-measure", "closure", "sql", "graphql", "meta-add", "cql", "translate")  # fmt: skip
_URLS = (
    "localfile:/etc/passwd",
    "http://169.254.169.254/",
    "file:///etc/passwd",
    "http://localhost:9090/metrics",
)
ROWS = (
    closed("K-189-a-strangers-record", "GET /Patient/B/$everything", "not-found", 404,
           same_as="GET /Patient/none/$everything", twin_sent=None),
    closed("K-189b-a-strangers-record-by-post", "POST /Patient/B/$everything", "not-found", 404, body=given(),
           twin=ask("POST /Patient/A/$everything", body=given()), same_as="POST /Patient/none/$everything"),
    closed("K-189c-everybodys-record", "GET /Patient/$everything"),
    closed("K-189d-the-record-of-an-encounter", "GET /Encounter/eb/$everything"),
    closed("K-189e-where-no-rule-names-it", "GET /Patient/A/$everything", world="labels", twin="GET /Patient/A"),
    row("K-189f-the-own-record-by-post", "POST /Patient/A/$everything", 200, body=given(_type="Observation"), shows={
        "Observation/a-mh", "Observation/a-vitals", "Observation/a1"}, twin=_TWIN,
        sent=("GET Patient/A", "GET Patient/A/$everything?_type=Observation")),
    closed("K-189g-a-parameter-in-query-and-body", "POST /Patient/A/$everything?_type=Observation", "ambiguous-query", 400,
           body=given(_type="Patient"), twin=ask("POST /Patient/A/$everything", body=given(_type="Patient"))),
    closed("K-189h-a-type-that-is-not-granted-by-post", "POST /Patient/A/$everything", "no-permit", body=given(_type="Group"),
           twin=ask("POST /Patient/A/$everything", body=given(_type="Patient"))),
    *(closed(f"K-189i-a-parameter-that-is-closed-by-post-{name}", "POST /Patient/A/$everything", "unsupported-parameter",
             body=_parameters({"name": name, "valueString": "x"})) for name in ("_elements", "_mdm", "_format")),
    *(closed(f"K-189j-no-parameters-{number}", "POST /Patient/A/$everything", None, 400, body=body)
      for number, body in enumerate(_ODD)),
    row("K-190-the-own-record-and-no-neighbours", "GET /Patient/A/$everything", 200, shows={
        "DocumentReference/a1", "Observation/a-mh", "Observation/a-vitals", "Observation/a1", "Organization/h1",
        "Organization/h2", "Patient/A", "Practitioner/dr1", "Practitioner/dr2"},
        sent=("GET Patient/A", "GET Patient/A/$everything?_type=*"), check=lambda gateway, _: _types(gateway), twin=_TWIN),
    row("K-190b-a-type-that-is-not-granted", "GET /Patient/A/$everything?_type=Group", 403, "no-permit", twin=_TWIN),
    closed("K-190c-elements", "GET /Patient/A/$everything?_elements=id", "unsupported-parameter"),
    closed("K-190d-a-parameter-that-nobody-knows", "GET /Patient/A/$everything?_mdm=true", "unsupported-parameter"),
    row("K-190e-a-filter", "GET /Patient/A/$everything?_typeFilter=Observation%3Fcode%3Dx", (400, 403), twin=_TWIN),
    closed("K-192-a-query-language", "POST /$graphql", body={"query": '{ Patient(id:"B"){name} }'}),
    closed("K-192b-a-query-language-at-the-own", "GET /Patient/A/$graphql?query=%7Bname%7D"),
    closed("K-192c-a-query-language-in-the-base", "GET /$graphql?query=%7BPatientList%7Bid%7D%7D"),
    closed("K-193-validation-of-a-strangers", "POST /Observation/$validate", "no-permit", body=note(patient="B"),
           who="pA-rw", twin=ask("POST /Observation/$validate", "pA-rw", note())),
    closed("K-193b-validation-by-a-profile-elsewhere", "POST /Observation/$validate?profile=http://evil.example/p",
           "unsupported-parameter", body=note(), who="pA-rw", twin=ask("POST /Observation/$validate", "pA-rw", note())),
    closed("K-193c-validation-of-what-is-stored", "GET /Observation/b1/$validate",
           twin=ask("POST /Observation/$validate", "pA-rw", note())),
    closed("K-193e-validation-of-a-strangers-in-parameters", "POST /Observation/$validate", "no-permit", who="pA-rw",
           body=_parameters({"name": "resource", "resource": note(patient="B")}),
           twin=ask("POST /Observation/$validate", "pA-rw", _parameters({"name": "resource", "resource": note()}))),
    closed("K-193f-a-profile-elsewhere-in-parameters", "POST /Observation/$validate", "unsupported-parameter", who="pA-rw",
           body=_parameters({"name": "resource", "resource": note()}, {"name": "profile", "valueUri": "http://evil.example"})),
    row("K-193g-an-update-of-a-strangers", "POST /Observation/b1/$validate", (403, 404), None, who="pA-rw",
        body=note(id="b1"), sent=("GET Observation/b1",), twin=_CHANGE),
    closed("K-193h-an-update-to-a-strangers", "POST /Observation/a1/$validate", None, (403, 404), sent=("GET Observation/a1",), who="pA-rw",
           body=note(id="a1", patient="B"), twin=_CHANGE),
    row("K-193i-a-delete-of-a-strangers", "POST /Observation/b1/$validate?mode=delete", (403, 404), None, who="pA-rw",
        sent=("GET Observation/b1",), twin=ask("POST /Observation/a1/$validate?mode=delete", "pA-rw"),
        twin_sent=("GET Observation/a1", "GET Observation/a1", "POST Observation/a1/$validate")),
    row("K-193j-a-delete-of-a-strangers-in-parameters", "POST /Observation/b1/$validate", (403, 404), None, who="pA-rw",
        body=_parameters({"name": "mode", "valueCode": "delete"}), sent=("GET Observation/b1",),
        twin=ask("POST /Observation/a1/$validate", "pA-rw", _parameters({"name": "mode", "valueCode": "delete"}))),
    closed("K-193k-a-mode-in-query-and-body", "POST /Observation/a1/$validate?mode=update", "ambiguous-query", 400,
           who="pA-rw", body=_parameters({"name": "mode", "valueCode": "delete"}), twin=_CHANGE),
    *(closed(f"K-193l-a-mode-that-does-not-fit-{number}", f"POST /Observation{place}", "invalid-parameter", 400, who="pA-rw",
             body=note(), twin=_CHANGE) for number, place in enumerate((
                 "/a1/$validate?mode=create", "/$validate?mode=update", "/$validate?mode=delete", "/$validate?mode=profile"))),
    closed("K-193m-an-update-by-who-may-only-read", "POST /Observation/a1/$validate", "scope-insufficient",
           body=note(id="a1"), twin=_TWIN),
    row("K-193n-an-element-that-stays", "POST /Patient/A/$validate", 403, None, who="pA-rw", sent=("GET *", "GET *"), body={
        "resourceType": "Patient", "id": "A", "link": [{"other": {"reference": "Patient/A"}, "type": "seealso"}]}, twin=_CHANGE),
    row("K-193d-an-outcome-without-the-texts-of-the-store", "POST /Observation/$validate", 200, who="pA-rw", body=note(),
        sent=("POST Observation/$validate",), hides=("upstream-product", "diagnostics"), twin=_TWIN),
    *(closed(f"K-194-{name}", f"POST /Patient/${name}", who="dr1", sees=True, body={"resourceType": "Parameters"},
             twin="GET /Patient/A") for name in ("merge", "match", "link", "mdm-merge-golden-resources", "mdm-query-links")),
    closed("K-194b-merge-at-a-person", "POST /Patient/B/$merge", who="dr1", sees=True, body={"resourceType": "Parameters"},
           twin="GET /Patient/A"),
    row("K-196-last-results-of-a-stranger", "GET /Observation/$lastn?patient=B", 200, shows=set(),
        twin="GET /Observation/$lastn?patient=A"),
    row("K-196b-last-results-of-own-or-foreign", "GET /Observation/$lastn?subject=Patient/A,Patient/B", 200,
        shows={"Observation/a1", "Observation/a-vitals", "Observation/a-mh"},
        sent=("GET Observation/$lastn?subject=Patient%2FA%2CPatient%2FB&subject=Patient%2FA",),
        twin="GET /Observation/$lastn?patient=A"),
    row("K-196e-last-results-of-a-stranger-by-post", "POST /Observation/$lastn", 200, shows=set(),
        body=_parameters({"name": "patient", "valueString": "B"}),
        twin=ask("POST /Observation/$lastn", body=_parameters({"name": "patient", "valueString": "A"}, {
            "name": "max", "valuePositiveInt": 2})), twin_sent=("GET Observation/$lastn?patient=A&subject=Patient%2FA&max=2",)),
    row("K-196f-documents-of-a-stranger-by-post", "POST /DocumentReference/$docref", 200, shows=set(),
        body=given(patient="B"), twin=ask("POST /DocumentReference/$docref", body=given(patient="A"))),
    closed("K-196c-last-results-with-a-parameter-of-nobody", "GET /Observation/$lastn?x=1", "unknown-parameter", 400),
    row("K-196d-documents-of-a-stranger", "GET /DocumentReference/$docref?patient=B", 200, shows=set(),
        twin="GET /DocumentReference/$docref?patient=A"),
    *(closed(f"K-197-{name}", f"POST /${name}", who="dr1", sees=True, body={"resourceType": "Parameters"},
             twin="GET /Patient/A") for name in _ADMIN),
    *(closed(f"K-197b-{name}", f"POST /Patient/${name}", body={"resourceType": "Parameters"})
      for name in _ADMIN[:4]),
    *(closed(f"K-198-expansion-{number}", f"GET /ValueSet/$expand?url={url}") for number, url in enumerate(_URLS)),
    closed("K-198b-expansion-by-post", "POST /ValueSet/$expand", body={"resourceType": "Parameters", "parameter": [
        {"name": "url", "valueUri": _URLS[0]}]}),
    closed("K-198c-a-look-up", "GET /CodeSystem/$lookup?system=http://169.254.169.254/&code=x"),
    closed("K-200-a-document-of-a-stranger", "GET /Composition/cb/$document"),
    closed("K-200b-a-document-that-is-kept", "GET /Composition/cb/$document?persist=true"),
    closed("K-201-an-export-of-a-group", "GET /Group/g/$export"),
    closed("K-201b-an-export-of-patients", "GET /Patient/$export"),
    closed("K-201c-an-export-of-all", "GET /$export?_type=Patient&_elements=id"),
    closed("K-201d-a-type-beyond-the-grant", "GET /Group/g/$export?_type=Coverage", "no-permit", world="export", who="sys",
           headers=(("Prefer", "respond-async"),), twin=ask("GET /Group/g/$export", "sys", None, (
               ("Prefer", "respond-async"),))),
    closed("K-201e-a-type-beyond-the-grant-by-post", "POST /Group/g/$export", "no-permit", world="export", who="sys",
           headers=(("Prefer", "respond-async"), _JSON), body=_parameters({"name": "_type", "valueString": "Coverage"}),
           twin=ask("POST /Group/g/$export", "sys", _parameters({"name": "_type", "valueString": "Patient"}), (
               ("Prefer", "respond-async"), _JSON)), twin_sent=("GET Group/g", "GET Group/g/$export?_type=Patient")),
    row("K-201f-an-export-by-post-that-is-waited-for", "POST /Group/g/$export", 400, "invalid-parameter", world="export",
        who="sys", body=given(), sent=("GET Group/g",), twin=ask("GET /Group/g/$export", "sys", None, (
            ("Prefer", "respond-async"),))),
    closed("K-202-a-history-of-an-operation", "GET /Patient/A/$everything/_history", "unknown-route", 404),
    closed("K-202b-an-id-behind-an-operation", "GET /Patient/$everything/A", "unknown-route", 404),
    closed("K-202c-an-operation-of-the-base", "GET /$everything"),
    closed("K-202d-two-operations", "GET /Patient/A/$everything/$lastn", "unknown-route", 404),
    closed("K-202e-an-operation-without-a-name", "GET /Patient/A/$", "unknown-route", 404),
    closed("K-202f-an-operation-by-an-escape", "GET /Patient/B/%24everything", "not-found", 404),
    closed("K-202g-an-operation-of-a-version", "GET /Patient/A/_history/1/$everything", "unknown-route", 404),
    closed("K-202h-an-operation-by-delete", "DELETE /Patient/A/$everything", "method-not-allowed", 405),
    closed("K-204-a-message", "POST /$process-message", body=_MESSAGE, who="pA-rw"),
    closed("K-205-a-definition-of-an-operation", "GET /OperationDefinition/x", "no-permit"),
    closed("K-205b-statistics", "GET /Observation/$stats"),
    row("K-205c-a-statement-without-closed-operations", "GET /metadata", 200, who=None, sent=None,
        hides=("$everything-of-a-vendor", "graphql"), twin=_TWIN),
)  # fmt: skip


def _types(gateway: RunningGateway) -> None:
    asked = gateway.upstream.requests[1].target
    assert "Group" not in asked
    assert "AuditEvent" not in asked
