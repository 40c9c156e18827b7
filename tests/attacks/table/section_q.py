"""Sections Q and R: what a token says, and what is asked of labels, sign-in, addresses and purposes."""

from typing import Any

from tests.attacks.table.rows import Row, ask, row
from tests.attacks.table.section_d import OWN
from tests.attacks.table.section_h import note
from tests.attacks.table.stores import answers, found
from tests.support.world import SECRET, world

_LABELS = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
_ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_TWIN, _STAFF = ask("GET /Observation/a1"), ask("GET /Patient/A", "dr1")
_PATIENTS: tuple[Any, ...] = ("", None, [], ["A", "B"], "*", "A,B", "A&subject=B", "A ", "../B", 7, {"id": "A"}, True,
                              "a" * 65, "Patient/B/", "A\x00", "A%2CB", "Ａ")  # fmt: skip
_SCOPES = ("patient/Observation.sr", "patient/Observation.rz", "patient/*.*.*", "patient/observation.rs",
           "patient/Observatoin.rs", "patient/Observation.", "patient/Observation.rr", "patient/Observation.r?",
           "patient/Observation.rs?nonsense=1", "patients/Observation.rs", "Patient/Observation.rs",
           "patient/Observation.RS", "patient/Observation.rs&x", "patient.Observation.rs", "*/*.rs")  # fmt: skip
_UNSAYABLE = ("subject.name=x", "_text=x", "category", "_has:Observation:subject:code=x", "_filter=x", "code:in=http://x", "_include=Observation:subject")  # fmt: skip
_ROLES: tuple[Any, ...] = ({"physician": True}, [["physician"]], 1, ["Physician"], ["", "nurse "], "physician,nurse",
                           ["physician\u200b"], "PHYSICIAN", True)  # fmt: skip


def token(id: str, status: int, reason: str, line: str = "GET /Observation/a1", **claims: Any) -> Row:
    """A token whose claims open nothing."""
    who = claims.pop("who", "pA-r")
    return row(id, line, status, reason, who=who, claims=claims, twin=_TWIN)


def labelled(id: str, security: Any, status: int = 403, **more: Any) -> Row:
    """A read by staff of a procedure with these labels."""
    resource = {"resourceType": "Procedure", "id": "x", "note": [{"text": SECRET}]}
    resource |= {} if security is None else {"meta": {"security": security}}
    normal = {
        "resourceType": "Procedure",
        "id": "x",
        "meta": {"security": [{"system": _LABELS, "code": "N"}]},
    }
    return row(id, "GET /Procedure/x", status, store=answers(resource), sent=("GET Procedure/x",), who="nurse",
               twin=ask("GET /Procedure/x", "nurse"), twin_store=answers(normal), **more)  # fmt: skip


ROWS = (
    *(token(f"Q-276-a-patient-{number}", 403, "no-patient-context", patient=claim, fhirUser=...)
      for number, claim in enumerate(_PATIENTS)),
    *(token(f"Q-276b-a-search-with-a-patient-{number}", 403, "no-patient-context", "GET /Observation", patient=claim,
            fhirUser=...) for number, claim in enumerate(_PATIENTS[:9])),
    token("Q-276c-no-patient", 403, "no-patient-context", who="none"),
    token("Q-278-mixed-contexts", 403, "mixed-contexts", scope="patient/Observation.rs user/Patient.rs"),
    token("Q-278b-three-contexts", 403, "mixed-contexts", scope="patient/Observation.rs user/Patient.rs system/*.rs"),
    token("Q-278c-mixed-contexts-of-staff", 403, "mixed-contexts", who="dr1", scope="user/*.rs patient/*.rs", patient="A"),
    *(token(f"Q-280-a-scope-{number}", 403, "scope-insufficient", scope=scope) for number, scope in enumerate(_SCOPES)),
    row("Q-280b-the-old-write-gives-no-read", "GET /Observation/a1", 403, "scope-insufficient",
        claims={"scope": "patient/Observation.write"}, twin=ask("GET /Observation/a1", "pA-r", scope="patient/Observation.read")),
    row("Q-280c-the-old-read-gives-no-history", "GET /Observation/_history", 403, twin=_TWIN,
        claims={"scope": "patient/Observation.read"}),
    row("Q-280d-a-read-is-no-search", "GET /Observation", 403, "scope-insufficient", twin=_TWIN,
        claims={"scope": "patient/Observation.r"}),
    row("Q-280e-a-search-is-no-read", "GET /Observation/a1", 403, "scope-insufficient", twin=_TWIN,
        claims={"scope": "patient/Observation.s"}),
    row("Q-280f-writes-need-their-letter", "POST /Observation", 403, "scope-insufficient", who="pA-rw", body=note(),
        claims={"scope": "patient/Observation.ruds"}, twin=ask("POST /Observation", "pA-rw", note())),
    *(row(f"Q-281-a-granular-scope-{number}", f"GET /{place}", 404, "not-found", sent=(f"GET {place}",),
          claims={"scope": "patient/Observation.rs?category=laboratory"},
          twin=ask(f"GET /{place.replace('a-vitals', 'a1')}", scope="patient/Observation.rs?category=laboratory"))
      for number, place in enumerate(("Observation/a-vitals", "Observation/a-vitals/_history/1"))),
    row("Q-281b-a-granular-scope-in-a-search", "GET /Observation", 200, shows={"Observation/a1"}, twin=_TWIN,
        claims={"scope": "patient/Observation.rs?category=laboratory"},
        sent=("GET Observation?subject=Patient%2FA&category=laboratory",)),
    row("Q-281c-a-granular-scope-in-a-history", "GET /Observation/a-vitals/_history", 404, "not-found", twin=_TWIN,
        claims={"scope": "patient/Observation.rs?category=laboratory"},
        sent=("GET Observation/a-vitals/_history", "GET Observation/a-vitals")),
    row("Q-281d-a-granular-scope-in-the-whole-record", "GET /Patient/A/$everything", 200, twin=_TWIN,
        shows={"Observation/a1", "Patient/A"}, sent=("GET Patient/A", "GET Patient/A/$everything*"),
        claims={"scope": "patient/Observation.rs?category=laboratory patient/Patient.rs"}),
    row("Q-281e-a-granular-scope-in-an-include", "GET /Patient?_revinclude=Observation:subject", 200, twin=_TWIN,
        shows={"Observation/a1", "Patient/A"}, store=found(entries=[
            {"resource": world()[key], "search": {"mode": mode}} for key, mode in (
                ("Patient/A", "match"), ("Observation/a1", "include"), ("Observation/a-vitals", "include"))]),
        claims={"scope": "patient/Observation.rs?category=laboratory patient/Patient.rs"}, sent=("GET *",)),
    row("Q-281f-a-granular-scope-of-what-comes", "POST /Observation", 403, "scope-insufficient", who="pA-rw",
        body=note(category=[{"coding": [{"code": "vital-signs"}]}]),
        claims={"scope": "patient/Observation.c?category=laboratory"},
        twin=ask("POST /Observation", "pA-rw", note(category=[{"coding": [{"code": "laboratory"}]}]),
                 scope="patient/Observation.c?category=laboratory")),
    row("Q-281g-a-granular-scope-of-what-was", "DELETE /Observation/a-vitals", (403, 404), who="pA-rw",
        claims={"scope": "patient/Observation.cruds?category=laboratory"}, sent=("GET Observation/a-vitals",),
        twin=ask("DELETE /Observation/a1", "pA-rw", scope="patient/Observation.cruds?category=laboratory")),
    *(token(f"Q-282-criteria-that-nobody-can-judge-{number}", 403, "scope-insufficient",
            scope=f"patient/Observation.rs?{text}") for number, text in enumerate(_UNSAYABLE)),
    *(token(f"Q-284-a-role-{number}", 403, "no-permit", who="dr1", roles=roles) for number, roles in enumerate(_ROLES)),
    token("Q-284b-a-role-at-another-place", 403, "no-permit", who="dr1", roles=..., realm_access={"roles": ["physician"]}),
    token("Q-284c-a-role-in-a-namespace", 403, "no-permit", who="dr1", roles=..., **{"urn:x:roles": ["physician"]}),
    token("Q-285-another-issuer", 401, "token-invalid", iss="https://other.example"),
    token("Q-285b-no-issuer", 401, "token-invalid", iss=...),
    *(token(f"Q-286-a-person-who-is-not-the-patient-{number}", 403, "no-patient-context", fhirUser=user)
      for number, user in enumerate(("Patient/B", "https://other.example/fhir/Patient/A", 7, ["Patient/A"]))),
    token("Q-292-another-audience", 401, "token-invalid", aud="https://other.example/fhir"),
    token("Q-292b-an-audience-that-begins-alike", 401, "token-invalid", aud="https://localhost"),
    token("Q-292c-two-audiences-of-others", 401, "token-invalid", aud=["https://a.example", "https://b.example"]),
    token("Q-292d-no-audience", 401, "token-invalid", aud=...),
    token("Q-290-an-expired-token", 401, "token-invalid", exp=1),
    token("Q-290b-a-token-of-tomorrow", 401, "token-invalid", nbf=4_000_000_000),
    labelled("R-293-no-labels", None),
    labelled("R-293b-labels-that-are-empty", []),
    labelled("R-293c-labels-that-are-no-codings", ["N"]),
    labelled("R-294-an-unknown-system", [{"system": "http://evil.example", "code": "N"}]),
    labelled("R-294b-no-system", [{"code": "N"}]),
    labelled("R-294c-a-display-alone", [{"display": "normal"}]),
    labelled("R-294d-an-unknown-confidentiality", [{"system": _LABELS, "code": "Z"}]),
    labelled("R-294e-two-of-which-one-is-higher", [{"system": _LABELS, "code": "N"}, {"system": _LABELS, "code": "R"}]),
    labelled("R-294f-a-code-in-lower-case", [{"system": _LABELS, "code": "n"}]),
    row("R-297-a-consent-by-oneself", "PUT /Consent/k", 403, "no-permit", who="pA-rw",
        body={"resourceType": "Consent", "id": "k", "status": "active"}, twin=_TWIN),
    row("R-297b-a-consent-by-staff", "POST /Consent", 403, "no-permit", who="dr1", sees=True,
        body={"resourceType": "Consent", "status": "active"}, twin=_STAFF),
    row("R-300-an-emergency-by-header", "GET /Observation/b1", 403, "no-permit", who="nurse",
        headers=(("X-Break-Glass", "true"), ("X-Purpose-Of-Use", "BTG")), twin=ask("GET /Practitioner/dr1", "nurse")),
    row("R-300b-an-emergency-by-parameter", "GET /Observation/b1?_btg=1", 400, "unknown-parameter", who="nurse",
        twin=ask("GET /Practitioner/dr1", "nurse")),
    row("R-305-an-address-outside", "GET /Location/ward", 403, "no-permit", who="dr1", twin=_STAFF),
    row("R-306-no-kind-of-sign-in", "GET /Communication/c1", 401, "step-up-required", who="dr1", twin=_STAFF),
    row("R-306b-a-weak-sign-in", "GET /Communication/c1", 401, "step-up-required", who="dr1", twin=_STAFF,
        claims={"acr": "urn:securus:acr:password", "auth_time": 1}),
    row("R-306c-an-old-sign-in", "GET /Communication/c1", 401, "step-up-required", who="dr1", twin=_STAFF,
        claims={"acr": "urn:example:strong", "auth_time": 1}),
    row("R-306d-a-sign-in-without-its-time", "GET /Communication/c1", 401, "step-up-required", who="dr1", twin=_STAFF,
        claims={"acr": "urn:example:strong"}),
    row("R-306e-a-time-as-text", "GET /Communication/c1", 401, "step-up-required", who="dr1", twin=_STAFF,
        claims={"acr": "urn:example:strong", "auth_time": "now"}),
    row("R-306f-the-own-without-any-of-it", "GET /Observation", 200, shows=OWN, sent=("GET *",), twin=_TWIN),
)  # fmt: skip
