"""authz.http: what has one reading passes as it is, what has two is refused; how answers are rendered."""

import base64
import ipaddress
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.http import ListenerFace, error_answer, json_answer, method_not_allowed, read, read_form
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.request import BytesBody, HttpRequest, RequestError
from tests.support.jose import certificate_authority, issue_certificate, pem

ORIGIN = "https://fhir.example"
FACE = ListenerFace(ORIGIN)
PROXY = ListenerFace(
    ORIGIN,
    trusted=(ipaddress.ip_network("10.0.0.0/29"), ipaddress.ip_network("2001:db8::/64")),
    certificate_header="x-client-cert",
    certificate_form="nginx",
)
Raw = list[tuple[bytes, bytes]]


def parse(
    target: str = "/", headers: Raw | None = None, *, method: str = "GET", peer: str = "192.0.2.1",
    face: ListenerFace = FACE, certificate: bytes | None = None,
) -> HttpRequest:  # fmt: skip
    return read(method, target, headers or [], peer_address=peer, face=face, certificate=certificate)


def refused(target: str = "/", headers: Raw | None = None, **more: object) -> int:
    with pytest.raises(RequestError) as caught:
        parse(target, headers, **more)  # type: ignore[arg-type]
    return caught.value.status


def attempt(target: str, headers: Raw) -> HttpRequest | None:
    try:
        return parse(target, headers)
    except RequestError:
        return None


def test_the_url_is_made_of_configuration_and_path_alone() -> None:
    headers = [
        (b"Host", b"evil.example"),
        (b"X-Forwarded-Host", b"evil.example"),
        (b"Forwarded", b"host=evil.example"),
    ]
    request = parse("/fhir/r4/Patient/A?x=1", headers)
    assert (request.url, request.origin) == (f"{ORIGIN}/fhir/r4/Patient/A", ORIGIN)
    assert (request.path, request.query) == ("/fhir/r4/Patient/A", "x=1")


@pytest.mark.parametrize(
    "target",
    [
        "/", "/a//b", "/a/../b", "/a/%2e%2E/b", "/a;x=1", "/a:b@c", "/$export", "/a?b=c|d", "/a?b=%7c", "/a?", "/?a?b",
        "/~a-b_c.d!e'(f)*+,", '/a?b="c"', "//evil.example/x",
    ],
)  # fmt: skip
def test_a_path_with_one_reading_is_left_as_it_came(target: str) -> None:
    path, _, query = target.partition("?")
    request = parse(target)
    assert (request.path, request.query) == (path, query)


@pytest.mark.parametrize(
    "target",
    [
        "", "a", "*", "https://fhir.example/a", "fhir.example:443", "http:/a", "/a#b", "/a?b#c", "/a b", "/a\tb", "/a\r\nb",
        "/a\\b", "/a%", "/a%2", "/a%zz", "/a%u0041", "/ä", "/a?ä", "/a\x00", "/a?b c", "/a\x7f", "/a{b}", "/a<b", "/a|b",
        '/a"b', "/a^b", "/a`b", "\ud83d",
    ],
)  # fmt: skip
def test_a_target_that_is_no_plain_path_is_400(target: str) -> None:
    assert refused(target) == 400


@pytest.mark.parametrize("method", ["get", "Get", "GE T", "GET\r\n", "", "G" * 33, "GET/"])
def test_a_method_that_is_not_in_capitals_is_400(method: str) -> None:
    assert refused(method=method) == 400


def test_a_target_that_is_too_long_is_414_and_headers_431() -> None:
    assert refused("/" + "a" * 8192) == 414
    assert parse("/" + "a" * 8191).path
    assert refused(headers=[(b"x", b"y" * 16_384)]) == 431
    assert refused(headers=[(b"x-%d" % n, b"") for n in range(101)]) == 431


@pytest.mark.parametrize(
    "name",
    [b"Authorization", b"DPoP", b"Host", b"Content-Type", b"Content-Length", b"x-client-cert", b"If-Modified-Since",
     b"Transfer-Encoding", b"Origin", b"x-fapi-interaction-id"],
)  # fmt: skip
def test_a_header_with_one_value_that_comes_twice_is_400_even_with_the_same_value(name: bytes) -> None:
    assert refused(headers=[(name, b"x"), (name.swapcase(), b"x")]) == 400


def test_list_headers_are_joined_in_order_and_cookies_as_cookies() -> None:
    headers = [(b"Accept", b"a"), (b"COOKIE", b"a=1"), (b"accept", b" b "), (b"cookie", b"b=2")]
    assert parse(headers=headers).headers == {"accept": "a, b", "cookie": "a=1; b=2"}


@pytest.mark.parametrize("name", ["tracestate", "baggage", "cdn-loop", "keep-alive", "priority"])
def test_what_proxies_and_tracers_add_may_come_in_several_lines(name: str) -> None:
    """W3C Trace Context 3.3.1.1, W3C Baggage 3.1, RFC 8586 2, RFC 9218 5: each is a list."""
    lines = [(name.encode(), b"a=1"), (name.title().encode(), b"b=2")]
    assert parse(headers=lines).headers == {name: "a=1, b=2"}


def test_an_empty_line_adds_nothing_to_the_lines_beside_it() -> None:
    """A value that ends in a separator would be another one when it is read again."""
    lines = [(b"Cookie", b"a=b"), (b"Cookie", b""), (b"Accept", b""), (b"Accept", b"*/*")]
    assert parse(headers=lines).headers == {"cookie": "a=b", "accept": "*/*"}


def test_names_are_in_lower_case_and_values_without_white_space_around() -> None:
    assert parse(headers=[(b"X-Name", b" \tv w\t ")]).headers == {"x-name": "v w"}


def test_a_name_with_an_underscore_is_dropped() -> None:
    headers = [(b"X_Patient_Id", b"B"), (b"Content_Length", b"5"), (b"DPoP_", b"x"), (b"x-patient-id", b"A")]
    assert parse(headers=headers).headers == {"x-patient-id": "A"}


@pytest.mark.parametrize(
    "name", [b"", b"a b", b"a:b", b"a\r\n", b"\xe4", b"a_b\x00", b"(a)", b"a@b", b" a", b"a "]
)
def test_a_name_that_is_no_token_is_400(name: bytes) -> None:
    assert refused(headers=[(name, b"x")]) == 400


@pytest.mark.parametrize("value", [b"a\rb", b"a\nb", b"a\x00b", b"a\x0bb", b"a\x7f", b"a\x1b"])
@pytest.mark.parametrize("name", [b"x-name", b"user-agent"])
def test_a_control_character_in_a_value_is_400(name: bytes, value: bytes) -> None:
    assert refused(headers=[(name, value)]) == 400


def test_bytes_outside_ASCII_are_refused_but_in_free_text() -> None:
    assert refused(headers=[(b"authorization", "DPoP ä".encode())]) == 400
    assert refused(headers=[(b"if-match", 'W/"ä"'.encode())]) == 400
    assert "app" in parse(headers=[(b"User-Agent", "Größe app".encode())]).headers["user-agent"]


def test_both_framings_at_once_are_400() -> None:
    assert refused(headers=[(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")]) == 400


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=20)), max_size=8), st.text(max_size=30))
def test_any_bytes_are_read_or_refused_and_never_anything_else(headers: Raw, target: str) -> None:
    request = attempt(target, headers)
    if request is None:
        return
    assert request.path.isascii()
    for name in request.headers:
        assert name == name.lower()
        assert "_" not in name


# Behind a proxy


def test_headers_of_somebody_who_is_no_proxy_say_nothing() -> None:
    authority = certificate_authority()
    said = pem(issue_certificate(authority)).replace("\n", "%0A").replace(" ", "%20").encode()
    request = parse(headers=[(b"X-Client-Cert", said), (b"X-Forwarded-For", b"203.0.113.9")], face=PROXY)
    assert (request.certificate, request.peer) == (None, "192.0.2.1")


def test_a_trusted_proxy_speaks_for_the_client() -> None:
    certificate = issue_certificate(certificate_authority())
    said = pem(certificate).replace("\n", "%0A").replace(" ", "%20").replace("+", "%2B").encode()
    headers = [(b"X-Client-Cert", said), (b"X-Forwarded-For", b"1.1.1.1, 203.0.113.9, 10.0.0.2")]
    request = parse(headers=headers, peer="10.0.0.1", face=PROXY)
    assert (request.certificate, request.peer) == (certificate, "203.0.113.9")


def test_the_proxys_own_certificate_never_stands_for_a_client() -> None:
    own = issue_certificate(certificate_authority())
    assert parse(certificate=own, peer="10.0.0.1", face=PROXY).certificate is None
    without_header = ListenerFace(ORIGIN, trusted=PROXY.trusted)
    assert parse(certificate=own, peer="10.0.0.1", face=without_header).certificate is None
    assert parse(certificate=own, peer="10.0.0.9", face=PROXY).certificate == own


def test_a_certificate_header_that_cannot_be_read_is_400() -> None:
    assert refused(headers=[(b"X-Client-Cert", b"-----BEGIN")], peer="10.0.0.1", face=PROXY) == 400


def test_the_chain_comes_in_a_header_of_its_own_in_the_form_of_RFC_9440() -> None:

    authority = certificate_authority()
    leaf = issue_certificate(authority)
    face = ListenerFace(ORIGIN, PROXY.trusted, "client-cert", "rfc9440")
    encoded = [b":" + base64.b64encode(der) + b":" for der in (leaf, authority.der)]
    request = parse(
        headers=[(b"Client-Cert", encoded[0]), (b"Client-Cert-Chain", encoded[1])], peer="10.0.0.1", face=face
    )
    assert (request.certificate, request.chain) == (leaf, (authority.der,))


@pytest.mark.parametrize(
    ("forwarded", "peer"),
    [
        (b"203.0.113.9", "203.0.113.9"),
        (b"203.0.113.9:4711", "203.0.113.9"),
        (b"[2001:db8:1::7]:4711", "2001:db8:1::7"),
        (b"2001:db8:1::7", "2001:db8:1::7"),
        (b"203.0.113.9, unknown", "10.0.0.1"),
        (b"_hidden", "10.0.0.1"),
        (b"", "10.0.0.1"),
        (b"10.0.0.3, 10.0.0.2", "10.0.0.1"),
        (b"1.2.3.4, 203.0.113.9, 2001:db8::1", "203.0.113.9"),
    ],
)
def test_the_caller_is_the_right_most_address_that_is_no_proxy_of_ours(forwarded: bytes, peer: str) -> None:
    for proxy in ("10.0.0.1", "::ffff:10.0.0.1"):
        found = parse(headers=[(b"X-Forwarded-For", forwarded)], peer=proxy, face=PROXY).peer
        assert found == (peer if peer != "10.0.0.1" else proxy)


# Answers


def test_an_error_is_JSON_that_nobody_keeps() -> None:
    answer = error_answer(OAuthError(ErrorCode.INVALID_SCOPE, "no such scope", fields={"scope": "x"}))
    assert answer.status == 400
    assert dict(answer.headers) == {
        "Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache",
    }  # fmt: skip
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body) == {
        "error": "invalid_scope", "error_description": "no such scope", "scope": "x",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("scheme", "status", "challenge"),
    [
        ("", 400, None),
        ("Basic", 401, 'Basic realm="clients",'),
        ("b@d", 401, "Bearer"),
        ('x" y="', 401, "Bearer"),
    ],
)
def test_a_401_names_a_scheme_and_never_what_is_no_scheme(
    scheme: str, status: int, challenge: str | None
) -> None:
    answer = error_answer(OAuthError(ErrorCode.INVALID_CLIENT, "no"), scheme=scheme)
    assert answer.status == status
    said = dict(answer.headers).get("WWW-Authenticate")
    assert said == (None if challenge is None else f'{challenge} error="invalid_client"')


def test_who_showed_nothing_is_told_of_no_error() -> None:
    """RFC 6750 3.1."""
    answer = error_answer(OAuthError(ErrorCode.INVALID_TOKEN, "no"))
    assert (answer.status, dict(answer.headers)["WWW-Authenticate"]) == (401, "Bearer")


def test_503_says_when_to_come_back_and_405_what_is_allowed() -> None:
    answer = error_answer(OAuthError(ErrorCode.TEMPORARILY_UNAVAILABLE, "later"))
    assert (answer.status, dict(answer.headers)["Retry-After"]) == (503, "2")
    answer = method_not_allowed(["GET", "HEAD"])
    assert (answer.status, dict(answer.headers)["Allow"]) == (405, "GET, HEAD")


def test_JSON_is_in_UTF_8() -> None:
    assert json_answer(200, {"a": "ä"}).body == '{"a":"ä"}'.encode()


async def test_a_form_is_read_up_to_its_limit_and_only_as_a_form() -> None:
    def posted(media_type: str) -> HttpRequest:
        headers = [(b"content-type", media_type.encode())]
        face, body = FACE, BytesBody(b"a=b")
        return read("POST", "/", headers, peer_address="192.0.2.1", face=face, body=body)

    assert await read_form(posted("Application/X-WWW-Form-Urlencoded ;charset=utf-8")) == b"a=b"
    with pytest.raises(OAuthError):
        await read_form(posted("application/json"))
    with pytest.raises(RequestError) as caught:
        await read_form(posted("application/x-www-form-urlencoded"), limit_bytes=2)
    assert caught.value.status == 413
