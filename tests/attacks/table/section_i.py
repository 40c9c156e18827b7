"""Section I: patches. A patch is applied here to the version that is stored, and its result is judged."""

from typing import Any

from tests.attacks.table.rows import JSON, Row, ask, row
from tests.attacks.table.stores import holding
from tests.attacks.table.worlds import wide_world

_READ = ("GET Observation/a1",)
_SCOPE = "scope-insufficient"
_TWIN = ask("PATCH /Observation/a1", "pA-rw", [{"op": "replace", "path": "/status", "value": "amended"}])


def op(path: str, value: Any = None, op: str = "replace") -> list[dict[str, Any]]:
    """A JSON Patch of one operation."""
    return [{"op": op, "path": path} | ({} if op == "remove" else {"value": value})]


def patch(
    id: str,
    body: Any,
    status: int | tuple[int, ...],
    reason: str | None,
    place: str = "Observation/a1",
    **more: Any,
) -> Row:
    """A patch that must not happen."""
    said = {"who": "pA-rw", "body": body, "twin": _TWIN, "sent": (f"GET {place}",)} | more
    return row(id, f"PATCH /{place}", status, reason, **said)


def in_fhirpath(path: str, type_: str = "replace") -> dict[str, Any]:
    """A FHIRPath Patch of one operation."""
    part = [{"name": "type", "valueCode": type_}, {"name": "path", "valueString": path}]
    part += [{"name": "value", "valueString": "B"}] if type_ == "replace" else []
    return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}]}


_B = {"reference": "Patient/B"}
_GIVEN_AWAY = wide_world()["Observation/a1"] | {"subject": _B}
_FHIRPATHS = ("Observation.subject.resolve().id", "%resource.status", "Observation.status.trace('x')",
              "Observation.where(status='final').status", "Observation.repeat(subject)", "Patient.name", "iif(true,status)")  # fmt: skip
ROWS = (
    patch("I-153-the-subject-is-given-away", op("/subject/reference", "Patient/B"), 403, _SCOPE),
    patch("I-153b-a-strangers-becomes-the-own", op("/subject/reference", "Patient/A"), 404, "not-found", "Observation/b1",
          same_as="PATCH /Observation/none"),
    patch("I-153c-the-subject-is-removed", op("/subject", op="remove"), 403, _SCOPE),
    patch("I-153d-the-subject-is-an-identifier", op("/subject", {"identifier": {"value": "B"}}), 403, _SCOPE),
    patch("I-154-the-whole-document", op("", _GIVEN_AWAY), 403, _SCOPE),
    patch("I-154b-another-whole-document", op("", {"resourceType": "Patient", "id": "B"}), 400, "invalid-body"),
    patch("I-154c-the-whole-document-removed", op("", op="remove"), (400, 422), None),
    patch("I-156-a-performer-by-its-place", [{"op": "add", "path": "/performer", "value": []},
          {"op": "add", "path": "/performer/-", "value": _B}], 403, _SCOPE),
    patch("I-156b-a-performer-by-its-number", [{"op": "add", "path": "/performer", "value": [{"reference": "Patient/A"}]},
          {"op": "replace", "path": "/performer/0/reference", "value": "Patient/B"}], 403, _SCOPE),
    patch("I-156c-moved-into-its-place", [{"op": "add", "path": "/focus", "value": [_B]},
          {"op": "move", "from": "/focus/0", "path": "/subject"}], 403, _SCOPE),
    patch("I-156d-copied-into-its-place", [{"op": "add", "path": "/focus", "value": [_B]},
          {"op": "copy", "from": "/focus/0", "path": "/subject"}], 403, _SCOPE),
    patch("I-157-an-escape-in-a-name", op("/sub~0ject", _B, "add"), (400, 403, 422), None),
    patch("I-157b-a-slash-in-a-name", op("/subject~1reference", "Patient/B"), 422, "patch-failed"),
    patch("I-157c-an-escape-that-is-none", op("/subject~2", _B), (400, 422), None),
    patch("I-157d-an-operation-in-upper-case", op("/status", "x", "REPLACE"), 400, "invalid-body"),
    patch("I-157e-two-paths", b'[{"op":"replace","path":"/status","path":"/subject","value":{"reference":"Patient/B"}}]',
          400, "invalid-body", sent=(), headers=(("Content-Type", "application/json-patch+json"),)),
    patch("I-157f-an-unknown-operation", op("/status", "x", "merge"), 400, "invalid-body"),
    patch("I-157g-a-leading-nought", [{"op": "add", "path": "/category/00", "value": {}}], (400, 422),
          None),
    patch("I-158-asking-by-a-test", op("/status", "final", "test"), 403, _SCOPE, sent=(),
          claims={"scope": "patient/Observation.u"}),
    patch("I-158b-asking-by-a-test-that-is-false", op("/status", "x", "test"), 403, _SCOPE, sent=(),
          claims={"scope": "patient/Observation.u"}),
    patch("I-158c-asking-about-a-strangers", op("/status", "final", "test"), 404, "not-found", "Observation/b1",
          same_as="PATCH /Observation/none"),
    patch("I-158d-asking-about-what-is-hidden", op("/valueQuantity/value", 6.3, "test"), 403, "policy-denied",
          world="views", twin=ask("GET /Observation/a1")),
    patch("I-158e-asking-wrongly-about-what-is-hidden", op("/valueQuantity/value", 1, "test"), 403, "policy-denied",
          world="views", twin=ask("GET /Observation/a1")),
    patch("I-158f-copying-what-is-hidden", [{"op": "copy", "from": "/valueQuantity", "path": "/valueRange"}], 403,
          "policy-denied", world="views", twin=ask("GET /Observation/a1")),
    *(
        patch(f"I-160-a-path-{number}", in_fhirpath(path), (400, 415, 422), None, headers=(JSON,),
              sent=None)
        for number, path in enumerate(_FHIRPATHS)
    ),
    patch("I-160b-the-subject-by-fhirpath", in_fhirpath("Observation.subject.reference"), 403, _SCOPE, headers=(JSON,)),
    patch("I-160c-the-subject-deleted-by-fhirpath", in_fhirpath("Observation.subject", "delete"), 403, _SCOPE,
          headers=(JSON,)),
    patch("I-161-a-patch-in-xml", b"<diff><remove sel='Observation/subject'/></diff>", 415, "unsupported-media-type",
          sent=(), headers=(("Content-Type", "application/xml-patch+xml"),)),
    patch("I-161b-a-patch-in-fhir-xml", b"<Parameters xmlns='http://hl7.org/fhir'/>", (400, 415), None,
          sent=None, headers=(("Content-Type", "application/fhir+xml"),)),
    *(
        patch(f"I-162-a-patch-as-{number}", [], 415, "unsupported-media-type", sent=(),
              headers=(("Content-Type", media),))
        for number, media in enumerate(("application/json", "application/merge-patch+json", "text/plain",
                                        "application/json-patch", "application/json-patch+json; charset=utf-16"))
    ),
    patch("I-164-a-label", op("/meta/security", [{"code": "R"}], "add"), 403, "policy-denied"),
    patch("I-164b-the-version", op("/meta/versionId", "9"), 400, "invalid-body"),
    patch("I-164c-the-id", op("/id", "b1"), 400, "invalid-body"),
    patch("I-164d-the-type", op("/resourceType", "Patient"), 400, "invalid-body"),
    patch("I-164e-a-tag-of-a-view", op("/meta/tag", [{"code": "SUBSETTED"}], "add"), 400, "invalid-body"),
    patch("I-164f-a-label-by-fhirpath", in_fhirpath("Observation.meta.security[0]", "delete"), 403, "policy-denied",
          "Observation/a-mh", headers=(JSON,)),
    row("I-165-an-answer-without-the-right-to-read", "PUT /Observation/a1", 200, who="lab-w", sees=True,
        body=wide_world()["Observation/a1"] | {"status": "amended"}, hides=("6.3", "valueQuantity"),
        sent=("GET Observation/a1", "PUT Observation/a1"), twin=_TWIN),
    row("I-165b-an-answer-that-is-a-strangers", "PATCH /Observation/a1", 200, who="pA-rw", body=op("/status", "amended"),
        sent=("GET Observation/a1", "PUT Observation/a1"), twin=_TWIN,
        store=holding(wide_world()["Observation/a1"] | {"contained": []})),
    patch("I-166-many-operations", [{"op": "test", "path": "/status", "value": "final"}] * 100_000, 413, "too-large",
          sent=None),
    patch("I-166b-copies-that-double", [{"op": "copy", "from": "/code", "path": f"/code/x{n}"} for n in range(60)], 413,
          "too-large"),
    patch("I-166c-more-than-256-operations", [{"op": "test", "path": "/status", "value": "final"}] * 257, 413, "too-large",
          sent=None),
)  # fmt: skip
