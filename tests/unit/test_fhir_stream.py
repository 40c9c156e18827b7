"""gateway.fhir.stream: P6, chunk borders never change the pieces; and what is no Bundle is refused."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.pieces import End, EntriesBegin, EntriesEnd, Entry, Member, Piece, PlainEntries
from gateway.fhir.resource import DECODER, MAX_DEPTH
from gateway.fhir.stream import BundleReader

HOSTILE = r"""
{ "type" : "searchset", "link":[{"relation":"self","url":"http:\/\/x\/\"entry\":[{"}],
  "total": 12 , "entry" : [ {"fullUrl":"a","resource":{"resourceType":"Patient","id":"a","x":"}]\\\"{é😀\u00e9\ud83d"}},
  {"resource": {"n": 1.50, "e": 1e400, "deep": [[[{"a":[]}]]] } } ,{}],
  "\u0069d":"b", "flag":true, "none" : null,"neg":-0.5
 ,"resourceType":"Bundle"}
"""


def _read(content: bytes, sizes: list[int] | None = None, **options: int) -> list[Piece]:
    reader = BundleReader(**options)
    pieces: list[Piece] = []
    position, turn = 0, 0
    while position < len(content):
        size = len(content) if sizes is None else sizes[turn % len(sizes)]
        pieces += reader.feed(content[position : position + size])
        position, turn = position + size, turn + 1
    return entry_by_entry(pieces + reader.finish())


def entry_by_entry(pieces: list[Piece]) -> list[Piece]:
    """The pieces with every entry as a piece of its own."""
    found: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, PlainEntries):
            found += [Entry(raw, value) for raw, value in piece.entries]
        else:
            found.append(piece)
    return found


def test_each_member_comes_in_its_order_with_its_exact_bytes() -> None:
    pieces = _read(HOSTILE.encode())
    assert [piece.name if isinstance(piece, Member) else type(piece).__name__ for piece in pieces] == [
        "type", "link", "total", "EntriesBegin", "Entry", "Entry", "Entry", "EntriesEnd",
        "id", "flag", "none", "neg", "resourceType", "End",
    ]  # fmt: skip
    for piece in pieces:
        if isinstance(piece, Member | Entry):
            assert piece.raw in HOSTILE.encode()
            assert DECODER.decode(piece.raw.decode()) == piece.value
    entries = [piece for piece in pieces if isinstance(piece, Entry)]
    assert entries[1].raw == b'{"resource": {"n": 1.50, "e": 1e400, "deep": [[[{"a":[]}]]] } }'


def test_P6_one_byte_at_a_time_gives_the_same_pieces() -> None:
    assert _read(HOSTILE.encode(), [1]) == _read(HOSTILE.encode())


@given(st.lists(st.integers(1, 90), min_size=1, max_size=12))
def test_P6_any_chunks_give_the_same_pieces(sizes: list[int]) -> None:
    assert _read(HOSTILE.encode(), sizes) == _read(HOSTILE.encode())


_text = st.text(st.sampled_from('"\\/{}[],: \n\tentry\u00e9\U0001f600a0\u0000'), max_size=12)
_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)
_space = st.sampled_from(["", "", " ", "\n", " \t\r\n "])


@st.composite
def _bundles(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """A Bundle with odd members in any order, and one of its texts."""
    members = draw(
        st.dictionaries(_text.filter(lambda n: n not in ("entry", "resourceType")), _value, max_size=4)
    )
    members["resourceType"] = "Bundle"
    if draw(st.booleans()):
        members["entry"] = draw(st.lists(st.dictionaries(_text, _value, max_size=3), max_size=4))
    bundle = {name: members[name] for name in draw(st.permutations(list(members)))}
    ascii_only = draw(st.booleans())

    def gap() -> str:
        return draw(_space)

    def text(value: Any) -> str:
        return json.dumps(value, ensure_ascii=ascii_only, indent=draw(st.sampled_from([None, 1])))

    parts = []
    for name, value in bundle.items():
        shown = text(value)
        if name == "entry":
            shown = f"[{gap()}" + f"{gap()},{gap()}".join(text(entry) for entry in value) + f"{gap()}]"
        parts.append(f"{gap()}{text(name)}{gap()}:{gap()}{shown}{gap()}")
    return bundle, f"{gap()}{{{','.join(parts)}}}{gap()}".encode()


@given(_bundles(), st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_P6_the_pieces_of_any_bundle_are_those_of_the_whole(
    bundle: tuple[dict[str, Any], bytes], sizes: list[int]
) -> None:
    value, content = bundle
    pieces = _read(content, sizes)
    expected: list[object] = []
    for name, member in value.items():
        if name == "entry":
            expected += [EntriesBegin(), *member, EntriesEnd()]
        else:
            expected.append((name, member))
    found = [
        (piece.name, piece.value)
        if isinstance(piece, Member)
        else piece.value
        if isinstance(piece, Entry)
        else piece
        for piece in pieces
    ]
    assert found == [*expected, End()]


@given(_bundles(), st.data())
def test_P6_a_damaged_bundle_is_taken_or_refused_whatever_the_chunks(
    bundle: tuple[dict[str, Any], bytes], data: st.DataObject
) -> None:
    content = bytearray(bundle[1])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["drop", "change", "double", "cut"])):
            case "drop":
                del content[at]
            case "change":
                content[at] = data.draw(st.sampled_from(list(b'"\\{}[],:x\xff\x00 1')))
            case "double":
                content[at:at] = content[at : at + 5]
            case "cut":
                del content[at + 1 :]
        if not content:
            return
    outcomes = [
        _outcome(bytes(content), sizes)
        for sizes in (None, [1], data.draw(st.lists(st.integers(1, 30), min_size=1)))
    ]
    assert outcomes[0] == outcomes[1] == outcomes[2]
    if outcomes[0] is not None:
        assert json.loads(bytes(content))["resourceType"] == "Bundle"


def _outcome(content: bytes, sizes: list[int] | None) -> list[Piece] | None:
    try:
        return _read(content, sizes)
    except FhirError as refusal:
        if refusal.reason is not Reason.UPSTREAM_INVALID:
            raise
        return None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "[]",
        '"Bundle"',
        "{}",
        '{"type":"searchset"}',
        '{"resourceType":"Patient"}',
        '{"resourceType":"OperationOutcome","issue":[]}',
        '{"resourceType":["Bundle"]}',
        '{"resourceType":"Bundle"} {}',
        '{"resourceType":"Bundle"}x',
        '{"resourceType":"Bundle"}}',
        '{"resourceType":"Bundle","resourceType":"Bundle"}',
        '{"resourceType":"Bundle","entry":[],"entry":[]}',
        '{"resourceType":"Bundle","entry":[],"\\u0065ntry":[]}',
        '{"resourceType":"Bundle","total":1,"total":2}',
        '{"resourceType":"Bundle","entry":{}}',
        '{"resourceType":"Bundle","entry":null}',
        '{"resourceType":"Bundle","entry":[[]]}',
        '{"resourceType":"Bundle","entry":["x"]}',
        '{"resourceType":"Bundle","entry":[{},]}',
        '{"resourceType":"Bundle","entry":[,{}]}',
        '{"resourceType":"Bundle","entry":[{} {}]}',
        '{"resourceType":"Bundle","entry":[{}',
        '{"resourceType":"Bundle","entry":[{}]',
        '{"resourceType":"Bundle","entry":[{"a":1,"a":2}]}',
        '{"resourceType":"Bundle","entry":[{"a":NaN}]}',
        '{"resourceType":"Bundle","entry":[{"a":"\n"}]}',
        '{"resourceType":"Bundle","entry":[{"a":]}]}',
        '{"resourceType":"Bundle","entry":[{]]}',
        '{"resourceType":"Bundle","entry":[{"a":' + "1" * 5000 + "}]}",
        '{"resourceType":"Bundle","total":01}',
        '{"resourceType":"Bundle","total":tru}',
        '{"resourceType":"Bundle","total":Infinity}',
        '{"resourceType":"Bundle","total":' + "1" * 2000,
        '{"resourceType":"Bundle",}',
        '{"resourceType":"Bundle",,"type":"x"}',
        '{"resourceType" "Bundle"}',
        '{resourceType:"Bundle"}',
        '{"resourceType":"Bundle" /* x */}',
        '\ufeff{"resourceType":"Bundle"}',
        '\u00a0{"resourceType":"Bundle"}',
        '{"' + "x" * 2000,
        "{" + ",".join(f'"m{n}":0' for n in range(100)) + ',"resourceType":"Bundle"}',
        '{"resourceType":"Bundle","entry":[{"a":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}]}",
        '{"resourceType":"Bundle","entry":[{"a":' + "[" * 50_000 + "]" * 50_000 + "}]}",
        '{"resourceType":"Bundle","link":' + "[" * 50_000,
    ],
)
def test_what_is_no_single_bundle_is_refused(content: str) -> None:
    for sizes in (None, [7], [1]) if len(content) < 5000 else (None, [4000]):
        assert _outcome(content.encode(), sizes) is None


@pytest.mark.parametrize("tail", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf"])
def test_what_is_not_UTF8_is_refused(tail: bytes) -> None:
    content = b'{"resourceType":"Bundle","x":"' + tail + b'"}'
    assert _outcome(content, None) is _outcome(content, [1]) is None
    assert _outcome(b'{"resourceType":"Bundle"}' + tail[:1], None) is None


def test_C269_entries_come_out_before_the_type_is_known_and_the_end_only_behind_it() -> None:
    reader = BundleReader()
    assert [type(piece) for piece in reader.feed(b'{"entry":[{"a":1},{"b":')] == [EntriesBegin, Entry]
    assert [type(piece) for piece in reader.feed(b"2}]}")] == [Entry, EntriesEnd]
    with pytest.raises(FhirError, match="resourceType"):
        reader.finish()


@pytest.mark.parametrize("sizes", [None, [1000], [1]])
def test_C258_an_entry_above_the_cap_is_refused_and_one_below_is_not(sizes: list[int] | None) -> None:
    entry = json.dumps({"resource": {"x": "é" * 400}}, ensure_ascii=False).encode()
    content = b'{"resourceType":"Bundle","entry":[' + entry + b"]}"
    assert _read(content, sizes, max_entry_bytes=len(entry))
    with pytest.raises(FhirError, match=f"more than {len(entry) - 1} bytes"):
        _read(content, sizes, max_entry_bytes=len(entry) - 1)


def test_an_entry_that_never_ends_is_refused_at_the_cap() -> None:
    reader = BundleReader(max_entry_bytes=100_000)
    reader.feed(b'{"entry":[{"a":"')
    for _ in range(19):
        reader.feed(b"x" * 5000)
    with pytest.raises(FhirError, match="more than 100000 bytes"):
        reader.feed(b"x" * 5000)


def test_memory_stays_flat_over_many_entries() -> None:
    entry = b'{"resource":{"resourceType":"Patient","text":"' + b"x" * 10_000 + b'"}},'
    reader = BundleReader()
    reader.feed(b'{"resourceType":"Bundle","entry":[')
    for _ in range(20):
        reader.feed(entry)
    tracemalloc.start()
    try:
        for _ in range(500):
            reader.feed(entry[:4000])
            reader.feed(entry[4000:])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(entry)


@pytest.mark.parametrize("size", [7, 64, 20_000, 1_000_000])
def test_pieces_that_are_asked_for_one_by_one_are_those_that_are_fed(size: int) -> None:
    entries = ",".join(f'{{"fullUrl":"u{n}","resource":{{"n":{n}}}}}' for n in range(2_000))
    content = f'{{"resourceType":"Bundle","entry":[{entries}],"total":3}}'.encode()
    reader, found = BundleReader(), []
    for start in range(0, len(content), size):
        for piece in reader.pieces(content[start : start + size]):
            found += [Entry(*each) for each in piece.entries] if isinstance(piece, PlainEntries) else [piece]
    found += entry_by_entry(reader.finish())
    assert found == _read(content, [size])
    assert len([piece for piece in found if isinstance(piece, Entry)]) == 2_000


def test_an_entry_that_nobody_asked_for_is_read_all_the_same() -> None:
    content = (b'{"entry":[' + b",".join([b'{"a":1}'] * 9) + b',{"a":1,"a":2}]}').ljust(20_000)
    with pytest.raises(FhirError, match="twice"):
        list(BundleReader().pieces(content))
