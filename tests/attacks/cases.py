"""Attack groups A, B, C and Q as a table: what is sent, byte for byte, and what must come back.

The numbers are those of the case list that the project keeps for itself; a letter tells variants of one case
apart. `target` is what stands in the request line; '{base}' is the path of the FHIR mount. A row says which
answers are right and what the store may have seen: NOTHING, or requests that begin with one of the texts.
`twin` is the same shape with an own id, which must succeed: a gateway that refuses everything fails.
"""

from dataclasses import dataclass, field

NOTHING: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One attack."""

    id: str
    target: str
    status: tuple[int, ...]
    who: str = "pA-r"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    upstream: tuple[str, ...] = NOTHING
    reason: str | None = None
    twin: str | None = "GET {base}/Patient/A"
    proof_target: str | None = None  # what the proof's htu names where it is not the target's path
    absent: tuple[str, ...] = field(default=())  # request headers that the store must not have seen
    note: str = ""


GROUP_A = (
    Case("A1", "{base}/Patient/A/../B", (400,), reason="ambiguous-path"),
    Case("A2a", "{base}/Patient/A/%2e%2e/B", (400,), reason="ambiguous-path"),
    Case("A2b", "{base}/Patient/A/%252e%252e/B", (400,), reason="ambiguous-path"),
    Case("A2c", "{base}/Patient/.", (400,)),
    Case("A2d", "{base}/Patient/..", (400,)),
    Case("A2e", "{base}/Patient/%2e", (400,)),
    Case("A4", "{base}/Patient/A%5c..%5cB", (400,), reason="ambiguous-path"),
    Case("A4b", "{base}/Patient/A\\..\\B", (400,)),
    Case("A5", "{base}/Patient/A;x=/../../Patient/B", (400,)),
    Case("A5b", "{base}/Patient/A;jsessionid=1", (400,), reason="ambiguous-path"),
    Case("A5c", "{base}/Patient;v=1/B", (400,), reason="ambiguous-path"),
    Case("A6a", "{base}//Patient/B", (400,), reason="ambiguous-path"),
    Case("A6b", "{base}/Patient//B", (400,), reason="ambiguous-path"),
    Case("A6c", "//Patient/B", (400, 404)),
    Case("A8", "{base}/Patient/B/", (404,), reason="not-found", twin="GET {base}/Patient/A/"),
    Case("A9a", "{base}/Patient/A%00/../B", (400,)),
    Case("A9b", "{base}/Patient/A%0d%0aHost:x", (400,)),
    Case("A9c", "{base}/Patient/A%00", (400,)),
    Case("A10a", "{base}/%EF%BC%B0atient/B", (400, 404)),
    Case("A10b", "{base}/Patient%c0%afB", (400,)),
    Case("A10c", "{base}/Patient%2fB", (400,)),
    Case("A12a", "{base}/../manage/health", (400, 404)),
    Case("A12b", "/fhir/../:export", (400, 404)),
    Case("A12c", "{base}/:export", (400, 404)),
    Case("A12d", "{base}:export", (404,)),
    Case("A13", "{base}/Patient/A/Observation/b1", (404,), reason="unknown-route"),
    Case(
        "A14",
        "{base}/Patient/B/Observation",
        (404,),
        reason="not-found",
        twin="GET {base}/Patient/A/Observation",
    ),
    Case("A16", "{base}/Patient/*/Observation", (400,)),
    Case("A17", "{base}/Patient/A/*", (400, 403)),
    Case("A18", "{base}/tenantB/Patient/A", (404,)),
    Case("A19a", "{base}/patient/A", (404,), reason="unknown-type"),
    Case("A19b", "{base}/Patient/" + "a" * 65, (400, 404)),
    Case("A19c", "{base}/Patient/A%20", (400,)),
    Case(
        "A19d", "{base}/Patient/%41", (200,), upstream=("GET /fhir/Patient/A",), note="decoded once: it is A"
    ),
    Case("A19e", "{base}/Patient/%42", (404,), reason="not-found", note="decoded once: it is B"),
    Case("A19f", "https://evil.example{base}/Patient/A", (400,)),
    Case("A19g", "{base}/Patient/A#x", (400,)),
)

GROUP_B = (
    Case("B20a", "{base}/Patient/B", (404, 405), method="POST", headers=(("X-HTTP-Method-Override", "DELETE"),)),
    Case(
        "B20b",
        "{base}/Patient/A",
        (200,),
        headers=(("X-HTTP-Method-Override", "DELETE"), ("X-HTTP-Method", "PUT"), ("X-Method-Override", "PATCH")),
        upstream=("GET /fhir/Patient/A",),
        absent=("x-http-method-override", "x-http-method", "x-method-override"),
    ),
    Case("B21", "{base}/Patient/B?_method=PUT", (400, 404), note="never a write upstream"),
    Case("B21b", "{base}/Patient/A?_method=DELETE", (400,)),
    Case("B22", "{base}/Patient/_search?identifier=x", (405,), reason="method-not-allowed"),
    Case("B24a", "{base}/_search", (403, 415), method="POST"),
    Case("B24b", "{base}/?_type=Patient,Observation", (403,)),
    Case("B24c", "{base}?_type=Patient,Observation", (403,)),
    Case("B25", "{base}/Patient/B", (404,), method="HEAD", twin="HEAD {base}/Patient/A"),
    Case("B26a", "{base}/Patient/B", (405,), method="TRACE"),
    Case("B26b", "{base}/Patient/B", (405,), method="PROPFIND"),
    Case("B26c", "{base}/Patient/B", (405,), method="SEARCH"),
    Case("B26d", "{base}/Patient/B", (400, 405), method="QUERY"),
    Case("B26e", "{base}/Patient/B", (200, 204), method="OPTIONS"),
    Case("B32a", "{base}/Observation", (400, 403), method="PUT", who="pA-rw", body=b"{}"),
    Case("B32b", "{base}/Observation", (400, 403), method="PATCH", who="pA-rw", body=b"[]"),
    Case("B32c", "{base}/Observation", (400, 403), method="DELETE", who="pA-rw"),
    Case("B33a", "{base}/Patient/A", (200, 400), headers=(("Upgrade", "websocket"), ("Connection", "Upgrade")),
         upstream=("GET /fhir/Patient/A",), absent=("upgrade",)),
    Case("B33b", "{base}/Patient/A", (200, 400), headers=(("Upgrade", "h2c"), ("Connection", "Upgrade, HTTP2-Settings"),
         ("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA")), upstream=("GET /fhir/Patient/A",),
         absent=("upgrade", "http2-settings")),
)  # fmt: skip

_OWN = {"upstream": ("GET /fhir/Patient/A",)}
GROUP_C = (
    Case("C36", "{base}/Patient/A", (200,), headers=(("Cookie", "JSESSIONID=admin"),), absent=("cookie",), **_OWN),
    Case("C37", "{base}/Patient/A", (200,), headers=(("X-Consent-Scope", "btg"),), absent=("x-consent-scope",), **_OWN),
    Case("C38", "{base}/Patient/A", (200,), headers=(("X-Patient-id", "B"), ("su", "admin"), ("x-debug", "policy")),
         absent=("x-patient-id", "su", "x-debug"), **_OWN),
    Case("C38b", "{base}/Patient/A?__debug=policy", (400,)),
    Case("C40", "{base}/Patient/A", (200, 403), headers=(("X-Provenance", '{"resourceType":"Provenance"}'),),
         absent=("x-provenance",), **_OWN),
    Case("C41", "{base}/Patient/A", (200,), headers=(("X-Forwarded-Host", "evil.example"),
         ("Forwarded", "host=evil.example"),
         ("X-Forwarded-Prefix", "/evil"), ("X-Original-URL", "/Patient/B"), ("X-Rewrite-URL", "/Patient/B")),
         absent=("x-original-url", "x-rewrite-url", "x-forwarded-prefix"), **_OWN),
    Case("C42", "{base}/Patient/A", (200,), headers=(("X-Forwarded-For", "10.0.0.1"), ("X-Real-IP", "10.0.0.1")),
         absent=("x-real-ip",), **_OWN),
    Case("C44", "{base}/Patient/A", (200,), headers=(("X-MS-AZUREFHIR-AUDIT-USER", "someone"),),
         absent=("x-ms-azurefhir-audit-user",), **_OWN),
    Case("C45", "{base}/Patient/A", (200,), headers=(("Connection", "X-Gateway-Auth, Authorization, X-Request-Id"),),
         **_OWN),
    Case("C46", "{base}/Patient/A", (200,), headers=(("X_Patient_Id", "B"), ("Content_Length", "5")),
         absent=("x_patient_id", "x-patient-id", "content_length"), **_OWN),
    Case("C49", "{base}/Patient/A", (200,), headers=(("Prefer", "respond-async"),), **_OWN),
    Case("C50", "{base}/Patient/A", (200,), headers=(("Range", "bytes=0-10"),), absent=("range",), **_OWN),
    Case("C52", "{base}/Patient/A", (200,), headers=(("Accept-Encoding", "br, zstd, identity;q=0"),), **_OWN),
    Case("C54a", "{base}/Patient/A", (400, 431), headers=(("Accept-Language", "x" * 50_000),)),
    Case("C54b", "{base}/Patient/A", (400, 431), headers=(("traceparent", "x" * 50_000),)),
    Case("C54c", "{base}/Patient/A", (400, 431), headers=tuple((f"X-Filler-{n}", "y" * 40) for n in range(500))),
)  # fmt: skip

# Group Q: token claims that try to widen what the token says. claims are laid over those of the principal.
PATIENT_CLAIMS: tuple[object, ...] = (
    "", None, [], ["A", "B"], "*", "A,B", "Patient/A", "A&subject=B", "A ", "../B", 7, {"id": "A"}, True, "a" * 65,
)  # fmt: skip

SCOPES_THAT_GRANT_NOTHING = (
    "patient/Observation.sr",
    "patient/Observation.rz",
    "patient/*.*.*",
    "patient/observation.rs",
    "patient/Observatoin.rs",
    "patient/Observation.",
    "patient/Observation.rr",
    "patient/Observation.r?",
    "patient/Observation.rs?nonsense=1",
    "patient/Observation.rs?subject.name=x",
    "patient/Observation.rs?_text=x",
    "patient/Observation.rs?category",
    "patients/Observation.rs",
    "Patient/Observation.rs",
    "patient/Observation.RS",
)
