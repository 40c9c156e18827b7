"""A read that is asked for by its form goes out byte for byte as the passage would have written it."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authz.protocol.request import HttpRequest
from gateway.proxy import headers
from gateway.proxy.request_forms import RequestForm
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import Upstream
from gateway.wire.upstream_request import UnsendableRequest

VARYING = frozenset(
    {
        "dpop",
        "traceparent",
        "tracestate",
        "x-request-id",
        "x-forwarded-for",
        "x-fapi-interaction-id",
        "b3",
        "baggage",
    }
)
MARKS = (
    "securus-mark-id.",
    "securus-mark-interaction.",
    "securus-mark-traceparent.",
    "securus-mark-tracestate.",
)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
words = st.one_of(st.sampled_from(MARKS), st.from_regex(r"[!-~]([ -~]{0,40}[!-~])?", fullmatch=True))
said = st.dictionaries(st.sampled_from(sorted({*VARYING, "accept-language", "accept", "user-agent"})), words)
never = st.frozensets(st.sampled_from(["traceparent", "tracestate", "accept-language"]))


def upstream_of(never_headers: frozenset[str], base: str, authorization: str | None) -> Upstream:
    """A store that is told these headers never."""
    public = "https://gw.example/fhir/r4"
    plain = Upstream("fhir", "fhir-r4", "/fhir/r4", base, public, frozenset({public}), authorization)
    return replace(plain, profile=replace(plain.profile, never_headers=never_headers))


def request_of(fields: Mapping[str, str]) -> HttpRequest:
    """A read with these headers."""
    url = "https://gw.example/fhir/r4/Observation/x"
    return HttpRequest("GET", "/fhir/r4/Observation/x", "", url, "https://gw.example", fields, "192.0.2.1")


def sent(
    upstream: Upstream, client: UpstreamClient, fields: Mapping[str, str], id_: str, interaction: str
) -> bytes:
    """What the passage sends for it."""
    return client.written(
        f"Observation/{id_}", headers.to_upstream(request_of(fields), upstream, interaction)
    )


@settings(max_examples=400)
@given(
    said, st.fixed_dictionaries(dict.fromkeys(sorted(VARYING), words)), st.frozensets(st.sampled_from(sorted(VARYING))),
    never, st.sampled_from(["http://store.example/fhir", "http://a:b@store.example", f"http://store.example/{MARKS[0]}"]),
    st.one_of(st.none(), words), st.from_regex(r"[A-Za-z0-9\-]{1,64}", fullmatch=True), st.uuids(version=4).map(str),
)  # fmt: skip
@example(
    {"traceparent": TRACE}, dict.fromkeys(VARYING, "v"), VARYING, frozenset(), "http://s", None, "y", "i"
)
@example(
    {"accept-language": MARKS[2]},
    dict.fromkeys(VARYING, "v"),
    VARYING,
    frozenset(),
    "http://s",
    None,
    "y",
    "i",
)
def test_a_form_that_is_filled_in_is_what_the_passage_sends(
    fields: dict[str, str], own: dict[str, str], names: frozenset[str], closed: frozenset[str], base: str,
    authorization: str | None, id_: str, interaction: str,
) -> None:  # fmt: skip
    """Whatever texts stand in it that are not ours: with a mark in them there is no form."""
    upstream = upstream_of(closed, base, authorization)
    client = UpstreamClient(upstream, lambda _: None)
    varying = frozenset(fields) & names
    with suppress(UnsendableRequest, ValueError):
        form = RequestForm.of(client, upstream, "Observation", request_of(fields), varying)
        other = {**fields, **{name: own[name] for name in varying}}
        assert form.filled(id_, interaction, other) == sent(upstream, client, other, id_, interaction)


@pytest.mark.parametrize(
    "names", [each for n in range(3) for each in combinations(("traceparent", "tracestate"), n)]
)
@pytest.mark.parametrize("closed", [(), ("traceparent",), ("tracestate",), ("traceparent", "tracestate")])
def test_a_usual_read_has_a_form(names: tuple[str, ...], closed: tuple[str, ...]) -> None:
    """Or the property above could not fail."""
    upstream = upstream_of(frozenset(closed), "http://store.example/fhir", None)
    client = UpstreamClient(upstream, lambda _: None)
    fields = dict.fromkeys(("accept-language", *names, "x-request-id", "dpop"), "first")
    varying = frozenset({*names, "x-request-id", "dpop"})
    form = RequestForm.of(client, upstream, "Observation", request_of(fields), varying)
    other = {**fields, **dict.fromkeys(varying, "second")}
    filled = form.filled("y", "i", other)
    assert filled == sent(upstream, client, other, "y", "i")
    assert filled.count(b"second") == len(set(names) - set(closed))
