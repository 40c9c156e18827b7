"""A signed answer in other hands: whatever is changed, exchanged or moved, the signature does not fit any more."""

import copy
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.settings import ResponseSignatures
from tests.support.gateway import MOUNT, RunningGateway, start_gateway, stop_gateway
from tests.support.http_signatures import Exchange, NotSigned, verify
from tests.support.long_bundle import long_bundle

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
INTERACTION = "5b29e7b2-0a09-4bb3-9fa8-0b2e4bb1b0a4"
FORGED = {
    "Content-Digest": "sha-256=:AAAA:",
    "Repr-Digest": "sha-256=:AAAA:",
    "Signature-Input": 'fapi=("@status");created=1;keyid="upstream"',
    "Signature": "fapi=:AAAA:",
    "Accept-Signature": 'x=("@method")',
    "Trailer": "Signature",
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    running = await start_gateway(
        tmp_path_factory.mktemp("tampering"), response_signatures=ResponseSignatures.ON
    )
    yield running
    await stop_gateway(running)


async def chart(gateway: RunningGateway, path: str = "/Patient/A") -> Exchange:
    """A signed answer that has every field that is covered when it is there; the store forges what it can."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        headers = FORGED | {
            "ETag": 'W/"7"',
            "Last-Modified": "Sat, 28 Nov 2026 00:00:00 GMT",
            "Content-Location": f"{gateway.upstream.base}/Patient/A/_history/7",
        }
        patient = {"resourceType": "Patient", "id": "A"}
        return web.json_response(patient, content_type="application/fhir+json", headers=headers)

    gateway.upstream.answer = answer
    reply = await gateway.fhir("GET", path, headers=[("x-fapi-interaction-id", INTERACTION)])
    assert reply.status == 200
    url = gateway.origin + MOUNT + path
    return Exchange("GET", url, reply.status, reply.headers, reply.body)


async def bundle(gateway: RunningGateway) -> Exchange:
    """A signed answer with a trailer section."""
    gateway.upstream.answer = long_bundle(gateway, 6)
    reply = await gateway.fhir("GET", "/Observation?code=x")
    url = f"{gateway.origin}{MOUNT}/Observation?code=x"
    return Exchange("GET", url, reply.status, reply.headers, reply.body, reply.trailers)


def changed(fields: list[tuple[str, str]], name: str, change: Callable[[str], str]) -> None:
    places = [number for number, (said, _) in enumerate(fields) if said.lower() == name]
    assert places, f"there is no {name}"
    for number in places:
        fields[number] = (fields[number][0], change(fields[number][1]))


@pytest.mark.parametrize(
    "name",
    ["content-type", "content-digest", "x-fapi-interaction-id", "etag", "last-modified", "content-location"],
)
async def test_another_value_of_a_covered_field_is_found_out(gateway: RunningGateway, name: str) -> None:
    exchange = await chart(gateway)
    assert f'"{name}"' in verify(exchange, gateway.gateway.keys.jwks()).components
    changed(exchange.headers, name, lambda value: value.replace(value[-2], "~"))
    with pytest.raises(NotSigned):
        verify(exchange, gateway.gateway.keys.jwks())


@pytest.mark.parametrize("name", ["etag", "content-type", "signature", "signature-input", "content-digest"])
async def test_a_field_that_was_taken_away_or_doubled_is_found_out(
    gateway: RunningGateway, name: str
) -> None:
    exchange = await chart(gateway)
    without, twice = copy.deepcopy(exchange), copy.deepcopy(exchange)
    without.headers = [(said, value) for said, value in exchange.headers if said.lower() != name]
    twice.headers += [(said, value) for said, value in exchange.headers if said.lower() == name]
    for altered in (without, twice):
        with pytest.raises(NotSigned):
            verify(altered, gateway.gateway.keys.jwks())


async def test_another_status_or_body_is_found_out(gateway: RunningGateway) -> None:
    exchange = await chart(gateway)
    verify(exchange, gateway.gateway.keys.jwks())
    for status, body in ((404, exchange.body), (200, exchange.body.replace(b'"A"', b'"B"')), (200, b"")):
        altered = copy.deepcopy(exchange)
        altered.status, altered.body = status, body
        with pytest.raises(NotSigned):
            verify(altered, gateway.gateway.keys.jwks())


async def test_the_answer_to_one_request_is_none_to_another(gateway: RunningGateway) -> None:
    exchange = await chart(gateway)
    for method, url in (
        ("GET", exchange.url.replace("/Patient/A", "/Patient/B")),
        ("GET", exchange.url + "?_summary=true"),
        ("GET", exchange.url.replace("localhost", "other.example")),
        ("HEAD", exchange.url),
        ("DELETE", exchange.url),
    ):
        altered = copy.deepcopy(exchange)
        altered.method, altered.url = method, url
        with pytest.raises(NotSigned):
            verify(altered, gateway.gateway.keys.jwks())


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (";created=", ";created=1"),
        ('"@status" ', ""),
        (' "@method";req "@target-uri";req', ""),
        (' "@target-uri";req', ' "@target-uri"'),
        ('tag="fapi-2-response"', 'tag="fapi-2-request"'),
        ("fapi=(", "other=("),
        ("alg=", "gla="),
        ('"etag" ', ""),
    ],
)
async def test_what_the_signature_says_of_itself_cannot_be_changed(
    gateway: RunningGateway, was: str, becomes: str
) -> None:
    exchange = await chart(gateway)
    changed(exchange.headers, "signature-input", lambda value: value.replace(was, becomes, 1))
    assert was in str((await chart(gateway)).headers)
    with pytest.raises(NotSigned):
        verify(exchange, gateway.gateway.keys.jwks())


async def test_the_signature_of_one_answer_does_not_fit_the_next(gateway: RunningGateway) -> None:
    first, second = await chart(gateway), await chart(gateway)
    (signature,) = [value for name, value in first.headers if name == "Signature"]
    (created,) = [value for name, value in first.headers if name == "Signature-Input"]
    changed(second.headers, "signature", lambda _: signature)
    changed(second.headers, "signature-input", lambda _: created)
    verify(second, gateway.gateway.keys.jwks())  # all that is covered is the same: the same interaction id
    changed(second.headers, "x-fapi-interaction-id", lambda _: INTERACTION.replace("5", "6"))
    with pytest.raises(NotSigned):
        verify(second, gateway.gateway.keys.jwks())


async def test_another_key_under_the_same_name_does_not_verify(gateway: RunningGateway) -> None:
    exchange = await chart(gateway)
    (key,) = gateway.gateway.keys.jwks()["keys"]  # type: ignore[misc]
    other = {**gateway.key.public, "kid": key["kid"], "alg": "ES256"}
    with pytest.raises(NotSigned):
        verify(exchange, {"keys": [other]})


async def test_what_the_store_says_of_digests_and_signatures_is_never_passed_on(
    gateway: RunningGateway,
) -> None:
    exchange = await chart(gateway)
    verify(exchange, gateway.gateway.keys.jwks())
    for name, value in FORGED.items():
        assert (name, value) not in exchange.headers
    names = [name.lower() for name, _ in exchange.headers]
    assert [names.count(name.lower()) for name in FORGED] == [1, 0, 1, 1, 0, 0]


async def test_a_changed_bundle_is_found_out_by_its_trailer_section(gateway: RunningGateway) -> None:
    exchange = await bundle(gateway)
    jwks = gateway.gateway.keys.jwks()
    verify(exchange, jwks)
    shorter, other, moved, lost = (copy.deepcopy(exchange) for _ in range(4))
    shorter.body = exchange.body[: len(exchange.body) // 2]
    other.body = exchange.body.replace(b'"o1"', b'"o2"', 1)
    moved.headers, moved.trailers = [*exchange.headers, *exchange.trailers], []
    lost.trailers = [field for field in exchange.trailers if field[0] != "Content-Digest"]
    for altered in (shorter, other, moved, lost):
        with pytest.raises(NotSigned):
            verify(altered, jwks)
    changed(exchange.trailers, "content-digest", lambda value: value.replace("=:", "=:A"))
    with pytest.raises(NotSigned):
        verify(exchange, jwks)
