"""Requests to a store as bytes: whatever a caller or a store says in a value, it stays one value of one request."""

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy.upstream import UpstreamClient
from gateway.wire.upstream_request import UnsendableRequest, request_bytes
from tests.support.raw_store import OK, RawStore, client_of

INJECTED = [
    "x\r\nx-admin: 1", "x\nx-admin: 1", "x\rx-admin: 1", "x\0", "\r\n\r\nGET /other HTTP/1.1", "x\x0b", "x\x7f", "x\r\n",
    "x\r\nx: y\r\n\r\nGET / HTTP/1.1\r\nhost: z", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("value", INJECTED, ids=repr)
def test_a_value_that_is_more_than_a_value_is_not_written(value: str) -> None:
    with pytest.raises(UnsendableRequest):
        request_bytes("GET", "/fhir/Patient/A", "store", {"accept-language": value}, None)


@pytest.mark.parametrize("name", ["x y", "x:y", "", "x\r\ny", "X-Capital", "x\xe9", "\u212a"], ids=repr)
def test_a_name_that_is_none_is_not_written(name: str) -> None:
    with pytest.raises(UnsendableRequest):
        request_bytes("GET", "/fhir/Patient/A", "store", {name: "x"}, None)


@pytest.mark.parametrize(
    "target", ["/a b", "/a\r\nx: y", "/\xe9", "a", "", "http://x/", "/a\0", "/a\t"], ids=repr
)
def test_a_target_that_is_none_is_not_written(target: str) -> None:
    with pytest.raises(UnsendableRequest):
        request_bytes("GET", target, "store", {"accept": "x"}, None)


@pytest.mark.parametrize(
    "name",
    ["host", "connection", "transfer-encoding", "content-length", "te", "trailer", "upgrade", "expect"],
)
def test_what_frames_a_request_is_ours_alone(name: str) -> None:
    with pytest.raises(UnsendableRequest):
        request_bytes("POST", "/fhir/Patient", "store", {name: "2"}, b"{}")


@pytest.mark.parametrize("length", ["", "-1", "+1", "1, 1", "0x1", "\u0662", "1 "], ids=repr)
def test_the_length_of_a_streamed_body_is_a_number(length: str) -> None:
    async def body():  # type: ignore[no-untyped-def]
        yield b"x"

    with pytest.raises(UnsendableRequest):
        request_bytes("POST", "/fhir/Binary", "store", {"content-length": length}, body())


@pytest.mark.parametrize(
    ("method", "body", "said"),
    [
        ("GET", None, b""), ("HEAD", None, b""), ("DELETE", None, b""), ("POST", None, b"content-length: 0\r\n"),
        ("PUT", b"", b"content-length: 0\r\n"), ("PATCH", b"{}", b"content-length: 2\r\n"),
        ("GET", b"{}", b"content-length: 2\r\n"),
    ],
)  # fmt: skip
def test_each_request_says_its_length_where_one_may_be_expected(
    method: str, body: bytes | None, said: bytes
) -> None:
    (sent,) = request_bytes(method, "/fhir/X", "store:8080", {"accept": "x"}, body)
    assert sent == b"%b /fhir/X HTTP/1.1\r\nhost: store:8080\r\naccept: x\r\n%b\r\n%b" % (
        method.encode(),
        said,
        body or b"",
    )


class Read:
    """One request, as llhttp reads it."""

    def __init__(self, sent: bytes) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.url = self.body = b""
        self.messages = 0
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(sent)
        self.method = parser.get_method()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.messages += 1


TEXTS = some.text(some.characters(max_codepoint=0x2100), max_size=20)
NAMES = some.sampled_from(
    ["accept", "accept-language", "traceparent", "if-match", "x-a", "Bad", "b d", "content-type"]
)


@given(some.dictionaries(NAMES, TEXTS, max_size=6), some.none() | some.binary(max_size=50), TEXTS)
def test_what_is_written_is_read_as_it_was_meant(
    headers: dict[str, str], body: bytes | None, path: str
) -> None:
    try:
        sent = b"".join(request_bytes("POST", f"/{path}", "store", headers, body))
    except UnsendableRequest:
        return
    read = Read(sent)
    assert (read.method, read.url, read.body, read.messages) == (b"POST", f"/{path}".encode(), body or b"", 1)
    expected = [(name.encode(), value.strip("\t ").encode()) for name, value in headers.items()]
    said = [(name, value.strip(b"\t ")) for name, value in read.fields]
    assert said == [(b"host", b"store"), *expected, (b"content-length", b"%d" % len(body or b""))]


async def test_nothing_of_such_a_request_reaches_the_store(store: RawStore, client: UpstreamClient) -> None:
    store.answers = [OK]
    with pytest.raises(FhirError) as refused:
        await client.send("GET", "Patient/A", {"accept-language": "x\r\nx-admin: 1"})
    assert refused.value.reason is Reason.INTERNAL
    assert (store.connections, client.in_use) == ([], 0)


@pytest.mark.parametrize(
    ("base", "target", "asked"),
    [
        ("", "Patient/A", "/Patient/A"), ("/", "metadata", "/metadata"), ("", "", "/"), ("/fhir/R4", "", "/fhir/R4"),
        ("/fhir/R4/", "Patient?name=a%20b&x=%2F", "/fhir/R4/Patient?name=a%20b&x=%2F"),
        ("/a%2Fb", "Patient/A", "/a%2Fb/Patient/A"), ("/fhir", "Binary/1#part", "/fhir/Binary/1"),
        ("/fhir", "?_type=Patient", "/fhir/?_type=Patient"),
    ],
)  # fmt: skip
async def test_the_target_is_below_the_base_and_not_written_anew(
    store: RawStore, base: str, target: str, asked: str
) -> None:
    store.answers = [OK]
    client = client_of(store, base=f"http://127.0.0.1:{store.port}{base}")
    await client.open()
    (await client.send("GET", target, {})).close()
    await client.close()
    assert store.heads[0].split(b"\r\n")[:2] == [
        f"GET {asked} HTTP/1.1".encode(), b"host: 127.0.0.1:%d" % store.port
    ]  # fmt: skip


async def test_a_redirect_is_not_followed(store: RawStore, client: UpstreamClient) -> None:
    store.answers = [b"HTTP/1.1 307 X\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"]
    answer = await client.send("GET", "Patient/A", {})
    answer.close()
    assert (answer.status, len(store.heads)) == (307, 1)


async def test_credentials_of_the_base_are_sent_unless_there_are_others(store: RawStore) -> None:
    store.answers = [OK]
    client = client_of(store, base=f"http://me:pass%20word@127.0.0.1:{store.port}")
    await client.open()
    (await client.send("GET", "Patient/A", {})).close()
    (await client.send("GET", "Patient/A", {"authorization": "Bearer x"})).close()
    await client.close()
    assert b"\r\nauthorization: Basic bWU6cGFzcyB3b3Jk\r\n" in store.heads[0]
    assert store.heads[1].count(b"authorization: ") == 1
    assert b"\r\nauthorization: Bearer x\r\n" in store.heads[1]
