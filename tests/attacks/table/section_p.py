"""Section P: bodies and formats that two parsers read in two ways, on the way in and on the way out."""

import gzip
import json
from typing import Any

from tests.attacks.table.rows import JSON, Row, ask, row
from tests.attacks.table.section_h import note
from tests.attacks.table.stores import answers
from tests.support.world import SECRET, world

_CREATE, _READ, _SEARCH = (
    ask("POST /Observation", "pA-rw", note()),
    ask("GET /Observation/a1"),
    ask("GET /Observation"),
)
_A1, _B1 = world()["Observation/a1"], world()["Observation/b1"]
_TEXT = json.dumps(note()).encode()


def body(
    id: str, raw: bytes, status: int | tuple[int, ...] = 400, reason: str | None = "invalid-body", **more: Any
) -> Row:
    """A create with a body that has no single reading."""
    said = {"who": "pA-rw", "headers": (JSON,), "twin": _CREATE} | more
    return row(id, "POST /Observation", status, reason, body=raw, **said)


def media(id: str, *types: str, raw: bytes = _TEXT, status: int | tuple[int, ...] = 415,
          reason: str | None = "unsupported-media-type", **more: Any) -> Row:  # fmt: skip
    """A create with these Content-Types."""
    headers = tuple(("Content-Type", each) for each in types)
    return body(id, raw, status, reason, headers=headers, **more)


def answered(id: str, store: Any, line: str = "GET /Observation/a1", status: Any = 502, **more: Any) -> Row:
    """An answer in a form that the gateway cannot judge."""
    said = {"sent": ("GET *",), "twin": _READ} | more
    return row(id, line, status, store=store, **said)


def _with(member: str) -> bytes:
    return _TEXT[:-1] + b"," + member.encode() + b"}"


_TYPE_LAST = {
    "entry": [
        {"resource": {k: v for k, v in _B1.items() if k != "resourceType"} | {"resourceType": "Observation"}}
    ],
    "type": "searchset",
    "resourceType": "Bundle",
}
_OWN_LAST = {"entry": [{"resource": _A1}], "link": [{"relation": "self", "url": "{store}/Observation?subject=Patient/A"}],
             "type": "searchset", "resourceType": "Bundle"}  # fmt: skip
_SPOOFED = [{"resource": _A1, "fullUrl": "{store}/Observation/b1", "search": {"mode": "match"}}]
_ODD_JSON = {
    "a-byte-order-mark": b"\xef\xbb\xbf" + _TEXT, "utf-16": _TEXT.decode().encode("utf-16"), "nan": _with('"x":NaN'),
    "infinity": _with('"x":Infinity'), "a-comment": b"/* x */" + _TEXT, "a-line-comment": _TEXT + b"// x",
    "a-trailing-comma": _TEXT[:-1] + b",}", "single-quotes": _TEXT.replace(b'"', b"'"), "a-leading-nought": _with('"x":01'),
    "a-plus": _with('"x":+1'), "hex": _with('"x":0x1'), "a-bare-point": _with('"x":.5'), "a-tab-in-a-text": _with('"x":"\t"'),
    "latin-1": _with('"x":"ä"').decode().encode("latin-1"), "text-behind": _TEXT + b"{}", "nothing": b"",
    "an-unquoted-name": _with("x:1"), "a-missing-end": _TEXT[:-1], "an-overlong-slash": _with('"x":"\xc0\xaf"').replace(
        "\xc0\xaf".encode(), b"\xc0\xaf"), "a-vertical-tab": b"\x0b" + _TEXT,
}  # fmt: skip
_FORMATS = (
    "html/json",
    "application/x-turtle",
    "ttl",
    "xml&_format=json",
    "yaml",
    "application/fhir%2Bndjson",
    "csv",
)
ROWS = (
    *(body(f"P-260-{name}", raw) for name, raw in _ODD_JSON.items()),
    body("P-260b-a-subject-by-escapes", b'{"resourceType":"Observation","status":"final","\\u0073ubject":'
         b'{"reference":"Patient/B"}}', 403, None),
    body("P-260c-two-subjects-by-escapes", b'{"resourceType":"Observation","subject":{"reference":"Patient/A"},'
         b'"\\u0073ubject":{"reference":"Patient/B"}}'),
    body("P-261-deep", _with('"x":' + "[" * 10_000 + "]" * 10_000), (400, 413), None),
    body("P-261b-deep-objects", _with('"x":' + '{"x":' * 5_000 + "1" + "}" * 5_000), (400, 413), None),
    body("P-261c-a-million-digits", _with('"valueInteger":' + "9" * 1_000_000), (400, 413), None),
    body("P-261d-many-members", b'{"resourceType":"Observation",' + b",".join(
        b'"x%d":1' % number for number in range(200_000)) + b"}", (400, 403, 413, 422), None),
    body("P-262-a-name-in-upper-case", _with('"Subject":{"reference":"Patient/B"}'), 422, None),
    body("P-262b-a-name-with-a-blank", _with('"subject ":{"reference":"Patient/B"}'), 422, None),
    body("P-262c-a-name-with-a-character-of-no-width", _with('"subject\\u200b":{"reference":"Patient/B"}'), 422, None),
    body("P-262d-an-unknown-name-inside", b'{"resourceType":"Observation","status":"final","subject":{"reference":'
         b'"Patient/A","Reference":"Patient/B"}}', 422, None),
    body("P-262e-an-element-of-another-type", _with('"birthDate":"2000-01-01"'), 422, None),
    body("P-262f-a-choice-without-its-type", _with('"value":1'), 422, None),
    row("P-262g-in-an-update", "PUT /Observation/a1", 422, who="pA-rw", body=note("a1") | {"Subject": 1}, twin=_CREATE),
    media("P-264-xml-said-to-be-json", "application/fhir+json", raw=b"<Observation xmlns='http://hl7.org/fhir'/>",
          status=(400, 415), reason=None),
    media("P-264b-json-said-to-be-xml", "application/fhir+xml", status=(400, 415), reason=None),
    media("P-264c-text", "text/plain"),
    media("P-264d-without-a-type", "", status=(400, 415), reason=None),
    media("P-264e-two-types", "application/fhir+json", "text/plain", status=400, reason="-"),
    media("P-264f-another-version", "application/fhir+json; fhirVersion=3.0"),
    media("P-264g-utf-7", "application/fhir+json; charset=utf-7"),
    media("P-264h-a-list-of-types", "application/fhir+json, text/plain"),
    media("P-264i-octets", "application/octet-stream"),
    media("P-264j-a-form", "application/x-www-form-urlencoded"),
    media("P-264k-a-suffix", "application/vnd.evil+json"),
    row("P-265-the-format-of-the-answer-is-not-that-of-the-body", "GET /Patient/A?_format=json", 200,
        sent=("GET Patient/A",), unsent=("_format",)),
    *(row(f"P-265b-a-format-{number}", f"GET /Patient/A?_format={text}", (400, 406), twin=_READ)
      for number, text in enumerate(_FORMATS)),
    row("P-265c-a-plus-that-is-a-blank", "GET /Patient/A?_format=application/fhir+json", (200, 400, 406), sent=None),
    row("P-265d-a-plus-that-is-escaped", "GET /Patient/A?_format=application/fhir%2Bjson", 200, sent=("GET Patient/A",)),
    row("P-265e-nothing-is-accepted", "GET /Patient/A", 406, "not-acceptable", headers=(("Accept", "text/html"),)),
    row("P-265f-html-first", "GET /Patient/A", 200, headers=(("Accept", "text/html, application/fhir+json;q=0.1"),),
        sent=("GET Patient/A",)),
    answered("P-268-a-coding-that-nobody-asked-for", answers(gzip.compress(json.dumps(_B1).encode()), headers={
        "Content-Encoding": "gzip"}), status=404),
    answered("P-268b-a-coding-that-is-cut-off", answers(gzip.compress(json.dumps(_A1).encode())[:-9], headers={
        "Content-Encoding": "gzip"})),
    answered("P-268c-an-unknown-coding", answers(json.dumps(_A1).encode(), headers={"Content-Encoding": "br"})),
    answered("P-268d-a-coding-that-is-none", answers(json.dumps(_A1).encode(), headers={"Content-Encoding": "gzip"})),
    answered("P-268e-coded-bytes-without-the-header", answers(gzip.compress(json.dumps(_A1).encode()))),
    answered("P-269-the-type-is-the-last-member", answers(_TYPE_LAST), "GET /Observation", (200, 502), hides=('"b1"',)),
    answered("P-269b-the-type-of-the-own-is-the-last-member", answers(_OWN_LAST), "GET /Observation", (200, 502)),
    answered("P-269c-two-types", answers(b'{"resourceType":"Observation","id":"a1","resourceType":"Patient"}')),
    row("P-270-the-name-of-another", "GET /Observation", 200, sent=("GET *",), twin=_SEARCH, hides=("Observation/b1",),
        store=answers({"resourceType": "Bundle", "type": "searchset", "link": [
            {"relation": "self", "url": "{store}/Observation?subject=Patient/A"}], "entry": _SPOOFED})),
    row("P-270b-the-name-after-the-resource", "GET /Observation", 200, sent=("GET *",), twin=_SEARCH, shows={"Observation/a1"},
        store=answers({"resourceType": "Bundle", "type": "searchset", "link": [
            {"relation": "self", "url": "{store}/Observation?subject=Patient/A"}], "entry": [
                {"resource": _A1, "fullUrl": "{store}/Observation/a1"}, {"resource": _B1, "fullUrl":
                 "{store}/Observation/a1"}]})),
    row("P-270c-a-name-at-another-place", "GET /Observation", 200, sent=("GET *",), twin=_SEARCH, hides=("evil.example",),
        store=answers({"resourceType": "Bundle", "type": "searchset", "link": [
            {"relation": "self", "url": "{store}/Observation?subject=Patient/A"}], "entry": [
                {"resource": _A1, "fullUrl": "http://evil.example/" + SECRET}]})),
    media("P-272-lines-of-json", "application/fhir+ndjson", raw=_TEXT + b"\n" + _TEXT),
    media("P-272b-lines-said-to-be-json", "application/fhir+json", raw=_TEXT + b"\n" + _TEXT, status=400,
          reason="invalid-body"),
    body("P-273-a-prototype", _with('"__proto__":{"subject":{"reference":"Patient/B"}}'), 422, None),
    body("P-273b-a-constructor", _with('"constructor":{"prototype":{}}'), 422, None),
    body("P-273c-a-prototype-inside", b'{"resourceType":"Observation","status":"final","subject":{"reference":"Patient/A",'
         b'"__proto__":{"reference":"Patient/B"}}}', 422, None),
    row("P-274-parameters-as-a-search", "POST /Observation/_search", 415, "unsupported-media-type", headers=(JSON,),
        body={"resourceType": "Parameters", "parameter": [{"name": "subject", "valueString": "Patient/B"}]},
        twin=ask("POST /Observation/_search", body=b"code=x")),
    row("P-274b-json-in-a-form", "POST /Observation/_search", 400, body=b'{"subject":"Patient/B"}',
        twin=ask("POST /Observation/_search", body=b"code=x")),
)  # fmt: skip
