"""Everything that reads FHIR from strangers, under a fuzzer: requests, searches, filters, statements, Bundles, NDJSON, XML.

What is not refused by the documented exception means the same however it is read: again, in pieces, by the strict
decoder, in the other format. The corpus stands in tests/corpus, a folder for each target; files that begin with
'taken-' are taken, the others refused, and every run begins with all of them. SECURUS_FUZZ_SECONDS says how long all
targets together may take (6), SECURUS_FUZZ_SEED repeats a run.
"""

import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.fhir import filter_expression, joins, request, request_target, search
from gateway.fhir.expressions import StatementError, Subject, compile_statement
from gateway.fhir.fhirpath import ExpressionError, Steps, TooManySteps, compile_expression
from gateway.fhir.interaction import SearchTerm
from gateway.fhir.ndjson import LineReader
from gateway.fhir.outcome import FhirError
from gateway.fhir.pieces import End, Entry, Member
from gateway.fhir.resource import Number, parse_json, write_resource
from gateway.fhir.stream import BundleReader
from gateway.fhir.xml_reading import parse_resource_xml
from gateway.fhir.xml_writing import write_resource_xml
from tests.support.fuzzing import Target, fuzz
from tests.unit.test_fhir_stream import entry_by_entry

CORPUS = Path(__file__).parents[1] / "corpus"
SECONDS = float(os.environ.get("SECURUS_FUZZ_SECONDS", "6"))
SEED = int(os.environ.get("SECURUS_FUZZ_SEED", secrets.randbelow(2**32)))
CLAIMS = ("org", "roles", "patient")
RESOURCES: tuple[dict[str, Any], ...] = (
    {"resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/A"}},
    {"resourceType": "Observation", "code": {"coding": [{"code": "a"}, {"code": "b"}]}, "valueQuantity": {"value": 7}},
    {"resourceType": "Patient", "id": "A", "name": [{"family": "x"}, {}], "birthDate": "1970-01-01"},
    {"resourceType": "Observation", "subject": [[None, {"reference": 5}]], "status": {"x": []}, "category": "odd"},
)  # fmt: skip


def refused(error: FhirError) -> bool:
    """False, once the refusal is shown to be in words that may be sent."""
    assert error.diagnostics.isascii()
    assert not set(error.diagnostics) & {'"', "\\", "\n", "\r"}
    return False


# Targets


def read_request(sample: bytes) -> bool:
    """P1 and P2: the canonical form is its own, and the store reads the request that was decided about."""
    method, _, target = sample.decode("latin-1").partition(" ")
    path, _, query = target.partition("?")
    try:
        asked = request.parse(method, path, query)
    except FhirError as error:
        return refused(error)
    if asked.sealed is None:
        text = request_target.canonical_text(asked)
        assert request_target.canonical_text(request_target.asked_in(text)) == text
        sent = request_target.upstream_target(asked)
        at, _, terms = sent.partition("?")
        assert request_target.upstream_target(request.parse(asked.method, f"/{at}", terms)) == sent
    return True


def read_search(sample: bytes) -> bool:
    """Terms mean the same after they are written; of a chain every reading has one reading, itself."""
    type_, _, query = sample.decode("latin-1").partition("?")
    if not type_.isalpha():
        return False  # another path than that of a search
    try:
        terms = _terms(type_, query)
    except FhirError as error:
        return refused(error)
    encoded = search.encode_terms(terms)
    assert _terms(type_, encoded) == terms
    assert search.encode_terms(_terms(type_, encoded)) == encoded
    for term in terms:
        if term.code in ("_include", "_revinclude"):
            assert joins.include(term).types
        elif joins.is_join(term):
            for reading in joins.readings(term.name, term.text, type_):
                again = joins.readings(reading.name, term.text, type_)
                assert [each.name for each in again] == [reading.name]
    return True


def _terms(type_: str, query: str) -> tuple[SearchTerm, ...]:
    asked = request.parse("GET", f"/{type_}", query)
    return asked.terms


def read_filter(sample: bytes) -> bool:
    """It has one form, which means the same; what it demands and compares stands in it."""
    text = sample.decode("utf-8", "replace")
    try:
        expression = filter_expression.read(text, "Observation")
    except FhirError as error:
        return refused(error)
    form = filter_expression.written(expression)
    assert filter_expression.read(form, "Observation") == expression
    assert filter_expression.written(filter_expression.read(f"({form})", "Observation")) == form
    compared = list(filter_expression.comparisons(expression))
    assert 0 < len(compared) <= filter_expression.MAX_COMPARISONS
    assert {term.code for term in filter_expression.demands(expression)} <= {each.code for each in compared}
    for each in compared:
        assert each.term.code == each.code
        assert not set(each.value) & set('",\\')
        assert search.encode_terms([each.term]).isascii()
    return True


def read_expression(sample: bytes) -> bool:
    """It ends, on whatever resource, within its steps."""
    try:
        expression = compile_expression(sample.decode("latin-1"))
    except ExpressionError:
        return False
    for resource in RESOURCES:
        try:
            assert isinstance(expression.values(resource, Steps(2000)), list)
        except TooManySteps:
            continue
    return True


def read_statement(sample: bytes) -> bool:
    """It is true, false or cannot be told, and says the same twice in one statement."""
    text = sample.decode("latin-1")
    try:
        statement = compile_statement(text, "Observation", claims=CLAIMS)
    except StatementError:
        return False
    doubled: list[Callable[[Subject], Any]] = []
    for word in ("or", "and"):
        try:
            doubled.append(compile_statement(f"({text}) {word} ({text})", "Observation", claims=CLAIMS))
        except StatementError:
            assert len(text) > 400 or text.count("(") >= 18, text  # twice of it is too long or too deep
    for resource in RESOURCES:
        for claims in ({}, {"org": ["a"], "roles": ["a", "b"], "patient": "A"}):
            try:
                found = statement(Subject(resource, RESOURCES[0], claims))
                assert found in (True, False, None)
                for other in doubled:
                    assert other(Subject(resource, RESOURCES[0], claims)) is found
            except TooManySteps:
                continue
    return True


def by_value(value: Any) -> Any:
    """The value with decimals as numbers."""
    if isinstance(value, Number):
        return float(value.text)
    if isinstance(value, dict):
        return {name: by_value(each) for name, each in value.items()}
    return [by_value(each) for each in value] if isinstance(value, list) else value


def strictly(raw: bytes) -> Any:
    """What the strict decoder reads; None where it refuses."""
    try:
        return parse_json(raw)
    except FhirError:
        return None


def pieces_of(raw: bytes, size: int, *, plain: bool = True) -> list[Any] | None:
    """What the reader of Bundles finds in chunks of a size; None where it refuses."""
    reader = BundleReader()
    if not plain:
        reader._attempts = 0
    found = []
    try:
        for start in range(0, len(raw), size):
            found += reader.feed(raw[start : start + size])
        found += reader.finish()
    except FhirError as error:
        refused(error)
        return None
    return [
        (piece.raw, by_value(piece.value)) if isinstance(piece, Entry) else piece
        for piece in entry_by_entry(found)
    ]


def read_bundle(sample: bytes) -> bool:
    """P6, with and without the path for plain entries; and the entries are those of the strict decoder."""
    found = pieces_of(sample, max(1, len(sample)))
    padded = sample + b" " * (40_000 - len(sample))  # long enough for the plain path
    for other in (
        pieces_of(sample, 1),
        pieces_of(sample, 7),
        pieces_of(sample, len(sample) or 1, plain=False),
        pieces_of(padded, len(padded)),
        pieces_of(padded, len(padded), plain=False),
    ):
        assert other == found
    strict = strictly(sample)
    if found is None:
        return False
    assert isinstance(strict, dict)
    assert strict["resourceType"] == "Bundle"
    entries = [piece for piece in found if isinstance(piece, tuple) and not isinstance(piece, Member | End)]
    assert [value for _, value in entries] == by_value(strict.get("entry", []))
    assert [by_value(strictly(raw)) for raw, _ in entries] == by_value(strict.get("entry", []))
    return True


def read_lines(sample: bytes) -> bool:
    """P6, and every line is what the strict decoder reads."""
    found = [_lines(sample, size) for size in (1, 5, max(1, len(sample)))]
    assert found[0] == found[1] == found[2]
    if found[0] is None:
        return False
    for raw, value in found[0]:
        assert by_value(strictly(raw)) == value
        assert isinstance(value["resourceType"], str)
    return True


def _lines(raw: bytes, size: int) -> list[tuple[bytes, Any]] | None:
    reader = LineReader(max_line_bytes=300)
    found = []
    try:
        for start in range(0, len(raw), size):
            found += reader.feed(raw[start : start + size])
        found += reader.finish()
    except FhirError as error:
        refused(error)
        return None
    return [(line.raw, by_value(line.value)) for line in found]


def read_xml(sample: bytes) -> bool:
    """The value is the same after XML and after JSON."""
    try:
        value = parse_resource_xml(sample)
    except FhirError as error:
        return refused(error)
    assert parse_json(write_resource(value)) == value
    assert parse_resource_xml(write_resource_xml(value)) == value
    return True


# Mutations


def mutation(*words: str) -> Callable[[bytes, bytes, Random], bytes]:
    """Changes bytes, and puts words where they were not meant."""
    encoded = [word.encode("utf-8") for word in words]

    def mutate(one: bytes, other: bytes, random: Random) -> bytes:
        found = one
        for _ in range(random.choice((1, 1, 2, 3))):
            begin = random.randint(0, len(found))
            end = min(len(found), begin + random.choice((0, 1, 1, 3, 9)))
            start = random.randint(0, len(other))
            middle: Sequence[bytes] = (
                b"", random.choice(encoded), random.choice(encoded), found[begin:end] * 2,
                bytes([random.randrange(256)]), other[start : start + random.choice((4, 12, 40))],
            )  # fmt: skip
            found = found[:begin] + random.choice(middle) + found[end:]
        return found[:600]

    return mutate


JSON_WORDS = (
    '"resourceType":"Bundle"', '"entry":[', '"fullUrl":"', '},{"fullUrl":', "1.50", "1E5", "-0", "1e400", "NaN", "\\u0041",
    "\\ud800", "\\/", '"a":1,"a":1', "[[[[", "]]", "{}", "null", "true", "\ufeff", "\n", "\r\n", "\t", "é", "\x00", '"', ",",
)  # fmt: skip
URL_WORDS = (
    "%2F", "%2e", "%25", "%00", "%E9", "%C3%A9", "..", "//", ";", "?", "&", "=", "+", "_history", "_search", "$everything",
    "Patient", "Observation", "_has:", ":Patient.", ":iterate", ":not", ":missing", "_include", "_revinclude", "subject",
    "\\,", "\\|", "|", ",", "$", "_count", "_sort", "-date", "code", "*", ":", ".name", "general-practitioner", "_elements",
    "POST", "HEAD", "/metadata", "/_job/abc", "_format=json", "ge2020-01-01", "_summary=count", "_type", "[", "#",
)  # fmt: skip
FILTER_WORDS = (
    " and ", " or ", "not(", "not (", "(", ")", "((((", " eq ", " ne ", " co ", " ge ", " po ", " pr true", " in ", " re ",
    "code", "subject", "date", "status", "value-quantity", "value-string", "_id", "_security", "_filter", "Patient/A",
    "2020-01", "5.4|u|mg", '"a b"', '"', "\\", ",", "|", ".", "[", "]", "final", "  ", "\t", "\x00", "é", "\u00a0", "$", "%",
    "&subject=",
)  # fmt: skip
PATH_WORDS = (
    "and", "or", "not()", "exists()", "empty()", "where(", "resolve()", " is ", "as(", ".ofType(", "in", "!=", "%token.org",
    "%token.roles", "%before.", "%resource", "'final'", "@2020-01-01", "12.5", "true", "(", ")", "((((((", "|",
    "status", "subject", "reference", "value", "code.coding", ".", "{}", "first()", "extension", "'\\''", "é",
)  # fmt: skip
XML_WORDS = (
    '<Patient xmlns="http://hl7.org/fhir">', "</Patient>", "<active value='true'/>", '<id value="a"/>', "<name>", "</name>",
    "<!--x-->", "<![CDATA[x]]>", "<!DOCTYPE x>", "&amp;", "&#0;", "&#x41;", "&lt;", "<?x?>", '<?xml version="1.0"?>',
    "<contained>", "</contained>", "<extension url='x'>", "</extension>", "<div xmlns='http://www.w3.org/1999/xhtml'>",
    "<valueDecimal value='1.50'/>", "<text>", "</text>", "value='1e5'", "\ufeff", "é", " id='x'", "</div>", "\x00",
)  # fmt: skip
READERS: dict[str, tuple[Callable[[bytes], bool], tuple[str, ...], str]] = {
    "requests": (read_request, URL_WORDS, "/gateway/fhir/"),
    "searches": (read_search, URL_WORDS, "/gateway/fhir/"),
    "filters": (read_filter, FILTER_WORDS, "/gateway/fhir/"),
    "expressions": (read_expression, PATH_WORDS, "/gateway/fhir/fhirpath"),
    "statements": (read_statement, PATH_WORDS, "/gateway/fhir/"),
    "bundles": (read_bundle, JSON_WORDS, "/gateway/fhir/"),
    "lines": (read_lines, JSON_WORDS, "/gateway/fhir/"),
    "xml": (read_xml, XML_WORDS, "/gateway/fhir/"),
}


def files_of(name: str) -> list[Path]:
    """The corpus of a target."""
    return sorted((CORPUS / name).iterdir())


@pytest.mark.parametrize("name", READERS)
def test_what_strangers_send_as_fhir_is_refused_as_documented_or_has_one_reading(name: str) -> None:
    print(f"SECURUS_FUZZ_SEED={SEED}")  # pytest shows it when the test fails
    reader, words, code = READERS[name]
    seeds = [(path.read_bytes(), path.name.startswith("taken-")) for path in files_of(name)]
    target = Target(name, seeds, mutation(*words), reader)
    outcome = fuzz(target, seed=SEED, code=code, seconds=SECONDS / len(READERS))
    assert outcome.tried > len(seeds)
    assert outcome.accepted


@pytest.mark.parametrize(
    "path",
    [path for name in READERS for path in files_of(name)],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_every_file_of_the_corpus_is_read_as_its_name_says(path: Path) -> None:
    reader, _, _ = READERS[path.parent.name]
    assert reader(path.read_bytes()) is path.name.startswith("taken-")
    assert path.stat().st_size <= 600
