"""Section D: search criteria. The own criterion is added whatever the caller wrote; what has two readings is refused."""

from tests.attacks.table.rows import FORM, LISTENER, Row, ask, row
from tests.attacks.table.stores import deaf

OWN = {"Observation/a1", "Observation/a-vitals", "Observation/a-mh"}
_TWIN = ask("GET /Observation?subject=Patient/A")


def narrowed(id: str, query: str, sent: str, **more: object) -> Row:
    """A search that passes within the own record, before a store that ignores every criterion."""
    said = {"shows": OWN, "twin": _TWIN} | more
    return row(id, f"GET /Observation?{query}", 200, sent=(f"GET Observation?{sent}",), **said)  # type: ignore[arg-type]


def nothing(id: str, query: str) -> Row:
    """A search that can find nothing, and of which the store hears nothing."""
    return row(id, f"GET /Observation?{query}", 200, shows=set(), twin=_TWIN)


def refused(id: str, query: str, status: int, reason: str, **more: object) -> Row:
    """A search that is refused by GET; the same as a form is in tests of request shapes."""
    said = {"twin": _TWIN} | more
    return row(id, f"GET /Observation?{query}", status, reason, **said)  # type: ignore[arg-type]


_UNKNOWN, _CLOSED, _AMBIGUOUS = "unknown-parameter", "unsupported-parameter", "ambiguous-query"
_ADDED = "subject=Patient%2FA"
ROWS = (
    narrowed("D-056-own-or-foreign", "subject=Patient/A,Patient/B", f"subject=Patient%2FA%2CPatient%2FB&{_ADDED}"),
    narrowed("D-056b-own-or-foreign-absolute", "subject=Patient/A,{origin}/fhir/r4/Patient/B", "subject=*"),
    nothing("D-056c-foreign-alone", "subject=Patient/B"),
    nothing("D-056d-foreign-absolute", "subject={origin}/fhir/r4/Patient/B"),
    nothing("D-056e-own-and-foreign", "subject=Patient/A&subject=Patient/B"),
    nothing("D-056f-foreign-by-patient", "patient=Patient/B,C"),
    narrowed("D-057-own-or-a-group", "subject=Patient/A,Group/g", f"subject=Patient%2FA%2CGroup%2Fg&{_ADDED}"),
    nothing("D-057b-a-group-alone", "subject=Group/g"),
    nothing("D-057c-a-device", "subject=Device/d-b"),
    nothing("D-058-an-escaped-comma", "subject=Patient/A\\,Patient/B"),
    narrowed("D-058b-an-escaped-bar", "code=a\\|b", f"code=a%5C%7Cb&{_ADDED}"),
    narrowed("D-060-the-bare-id", "subject=A", f"subject=A&{_ADDED}"),
    narrowed("D-060b-the-type-as-modifier", "subject:Patient=A", f"subject:Patient=A&{_ADDED}"),
    narrowed("D-060c-a-chain-to-the-id", "subject._id=A", f"subject:Patient._id=A&{_ADDED}"),
    narrowed("D-060d-the-synonym", "patient=A", f"patient=A&{_ADDED}"),
    narrowed("D-060e-by-identifier", "subject:identifier=mrn|B", f"subject:identifier=mrn%7CB&{_ADDED}"),
    nothing("D-060f-the-foreign-bare-id", "subject=B"),
    nothing("D-060g-the-foreign-id-with-its-type", "subject:Patient=B"),
    narrowed("D-060h-a-chain-to-a-foreign-id", "subject:Patient._id=B", f"subject:Patient._id=B&{_ADDED}"),
    narrowed("D-060i-patient-by-identifier", "patient:identifier=mrn|B", f"patient:identifier=mrn%7CB&{_ADDED}"),
    refused("D-061-not-the-own", "subject:not=Patient/A", 400, _UNKNOWN),
    narrowed("D-061b-without-a-subject", "subject:missing=true", f"subject:missing=true&{_ADDED}"),
    narrowed("D-061c-without-a-patient", "patient:missing=true", f"patient:missing=true&{_ADDED}"),
    refused("D-061d-missing-as-a-word", "subject:missing=maybe", 400, "invalid-parameter"),
    refused("D-062-linked-persons", "subject:mdm=Patient/A", 400, _UNKNOWN),
    refused("D-062b-linked-persons-by-patient", "patient:mdm=A", 400, _UNKNOWN),
    refused("D-062c-above", "subject:above=Patient/A", 403, _CLOSED),
    refused("D-062d-an-unknown-modifier", "code:iterate=x", 400, _UNKNOWN),
    refused("D-064-a-second-query", "subject=Patient/A&_filter=subject%20eq%20Patient/B", 403, _CLOSED),
    refused("D-064b-a-second-query-alone", "_filter=code%20eq%20x", 403, _CLOSED),
    refused("D-065-a-named-query", "_query=everything-for&patient=B", 403, _CLOSED),
    refused("D-066-a-list-of-many-patients", "_list=mix", 403, _CLOSED),
    row("D-066b-a-list-of-the-store", "GET /Patient?_list=$current-problems", 403, _CLOSED, twin="GET /Patient"),
    refused("D-068-full-text", "_text=HIV&_content=HIV", 403, _CLOSED),
    row("D-068b-full-text-where-elements-are-hidden", "GET /Observation?_text=x", 403, _CLOSED, who="dr1", sees=True,
        world="views", twin="GET /Observation?code=x"),
    row("D-068c-content-where-elements-are-hidden", "GET /Patient?_content=x", 403, _CLOSED, who="dr1", sees=True,
        world="views", twin="GET /Patient?birthdate=2000-01-01"),
    row("D-069-a-hidden-identifier", "GET /Patient?identifier=ssn|123", 403, _CLOSED, who="dr1", sees=True, world="views",
        twin="GET /Patient?birthdate=2000-01-01"),
    row("D-069b-a-hidden-name", "GET /Patient?family=Smith", 403, _CLOSED, who="dr1", sees=True, world="views",
        twin="GET /Patient?gender=male"),
    row("D-069c-a-hidden-name-by-sound", "GET /Patient?phonetic=Smith", 403, _CLOSED, who="dr1", sees=True, world="views",
        twin="GET /Patient?gender=male"),
    row("D-069d-sorted-by-what-is-hidden", "GET /Patient?_sort=family", 403, _CLOSED, who="dr1", sees=True, world="views",
        twin="GET /Patient?_sort=birthdate"),
    row("D-069e-a-hidden-identifier-by-form", "POST /Patient/_search", 403, _CLOSED, who="dr1", sees=True, world="views",
        body=b"identifier=ssn%7C123", twin=ask("POST /Patient/_search", "dr1", b"gender=male")),
    row("D-069f-a-hidden-identifier-by-a-chain", "GET /Observation?subject:Patient.identifier=ssn|1", 403, who="dr1",
        sees=True, world="views", twin="GET /Observation?code=x"),
    row("D-069g-a-hidden-identifier-missing", "GET /Patient?identifier:missing=true", 403, _CLOSED, who="dr1", sees=True,
        world="views", twin="GET /Patient?gender=male"),
    row("D-069h-a-reference-by-identifier", "GET /Observation?subject:identifier=ssn|1", 403, who="dr1", sees=True,
        world="views", twin="GET /Observation?subject=Patient/A"),
    refused("D-070-labels-asked-for", "_security=R", 403, _CLOSED),
    refused("D-070b-labels-excluded", "_security:not=R", 403, _CLOSED),
    narrowed("D-070c-tags", "_tag=x", f"_tag=x&{_ADDED}"),
    refused("D-070d-labels-in-a-chain", "subject:Patient._security=R", 403, _CLOSED),
    refused("D-070e-labels-that-are-missing", "_security:missing=true", 403, _CLOSED),
    row("D-070f-labels-by-staff-whose-sight-they-limit", "GET /Observation?_security=R", 403, _CLOSED, who="dr1",
        sees=True, world="labels", twin="GET /Observation?code=x"),
    refused("D-072-a-value-set-elsewhere", "code:in=http://evil.example/ValueSet/x", 403, _CLOSED),
    refused("D-072b-below", "code:below=x", 403, _CLOSED),
    refused("D-072c-text", "code:text=x", 403, _CLOSED),
    refused("D-072d-not-in", "code:not-in=http://evil.example/ValueSet/x", 403, _CLOSED),
    refused("D-072e-contains-of-a-code", "code:contains=x", 400, _UNKNOWN),
    refused("D-072f-above", "code:above=x", 403, _CLOSED),
    row("D-073-a-second-decoding", "GET /Observation?patient=Patient/A%26subject=Patient/B", 200, shows=set(), twin=_TWIN),
    narrowed("D-073b-a-second-decoding-in-a-code", "code=x%26subject%3DPatient/B",
             f"code=x%26subject%3DPatient%2FB&{_ADDED}"),
    narrowed("D-073c-a-third-decoding", "code=x%2526subject=Patient/B", "code=x%2526subject%3DPatient%2FB&" + _ADDED),
    narrowed("D-073d-a-line-end-in-a-value", "code=x%0d%0aHost:evil", f"code=x%0D%0AHost%3Aevil&{_ADDED}"),
    refused("D-074-a-semicolon-between", "patient=A;subject=B", 400, _AMBIGUOUS),
    refused("D-074b-nul", "patient=A%00", 400, _AMBIGUOUS),
    refused("D-074c-an-array", "patient[]=A", 400, _AMBIGUOUS),
    refused("D-074d-a-plus-in-a-name", "patient+=A", 400, _UNKNOWN),
    refused("D-074e-an-encoded-array", "patient%5B%5D=A", 400, _UNKNOWN),
    refused("D-074f-an-escape-that-is-none", "patient=%zz", 400, _AMBIGUOUS),
    refused("D-074g-an-overlong-slash", "patient=%c0%af", 400, _AMBIGUOUS),
    refused("D-074h-a-name-that-is-empty", "=A", 400, _AMBIGUOUS),
    refused("D-074i-a-name-in-upper-case", "Patient=A", 400, _UNKNOWN),
    refused("D-074j-a-value-that-is-empty", "patient=&code=x", 400, "invalid-parameter"),
    nothing("D-074k-a-second-question-mark", "patient=A?subject=B"),
    refused("D-076-a-parameter-that-nobody-knows", "unknown-param=1", 400, _UNKNOWN),
    refused("D-076b-a-parameter-of-another-type", "birthdate=2000-01-01", 400, _UNKNOWN),
    refused("D-076c-a-parameter-of-a-later-version", "value-canonical=x", 400, _UNKNOWN),
    refused("D-076d-a-parameter-of-the-vendor", "_expunge=true", 400, _UNKNOWN),
    row("D-077-a-synonym-counts-for-nothing", "GET /Observation?performer=Practitioner/dr1", 200, shows=OWN,
        sent=(f"GET Observation?performer=Practitioner%2Fdr1&{_ADDED}",), twin=_TWIN),
    row("D-077b-the-patient-as-performer", "GET /Observation?performer=Patient/A", 200, shows=OWN,
        sent=(f"GET Observation?performer=Patient%2FA&{_ADDED}",), twin=_TWIN),
    row("D-077c-the-patient-as-subscriber", "GET /Coverage?subscriber=Patient/A", 200, shows=set(),
        sent=("GET Coverage?subscriber=Patient%2FA&beneficiary=Patient%2FA",), twin="GET /Coverage"),
    row("D-077d-an-appointment-by-its-synonyms", "GET /Appointment?practitioner=Practitioner/dr1", 403, "no-permit"),
    row("D-078-a-store-that-knows-no-such-criterion", "GET /MedicationAdministration?patient=A", 502, "narrowing-ignored",
        store=deaf, sent=("GET MedicationAdministration?patient=A&subject=Patient%2FA",),
        twin="GET /MedicationAdministration?patient=A"),
    *(
        row(f"D-080{letter}-a-form-as-{name}", "POST /Observation/_search", 415, "unsupported-media-type",
            headers=(("Content-Type", media),), body=b"subject=Patient/B",
            twin=ask("POST /Observation/_search", body=b"subject=Patient/A"))
        for letter, name, media in (
            ("", "json", "application/json"), ("b", "multipart", "multipart/form-data; boundary=x"),
            ("c", "utf-16", "application/x-www-form-urlencoded; charset=utf-16"), ("d", "text", "text/plain"),
            ("e", "fhir", "application/fhir+json"), ("f", "two-types", "application/x-www-form-urlencoded, text/plain"),
            ("g", "utf-7", "application/x-www-form-urlencoded; charset=utf-7"),
        )
    ),
    row("D-080h-criteria-in-query-and-form", "POST /Observation/_search?subject=Patient/A", 200, shows=set(),
        body=b"subject=Patient/B", twin=ask("POST /Observation/_search?code=x", body=b"subject=Patient/A")),
    row("D-080i-two-media-types", "POST /Observation/_search", 400, LISTENER, headers=(FORM, ("Content-Type", "text/plain")),
        body=b"subject=Patient/B", twin=ask("POST /Observation/_search", body=b"subject=Patient/A")),
)  # fmt: skip
