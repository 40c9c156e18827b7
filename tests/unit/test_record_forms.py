"""The record of a read by its form is byte for byte the record that the trail writes."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authz.protocol.request import HttpRequest
from gateway.audit.lines import members_of
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.proxy.answers.tally import About, Tally
from gateway.proxy.record_forms import RecordForm
from gateway.proxy.trail import Trail
from tests.support.policies import caller

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MARKS = (
    "securus-mark-i",
    "securus-mark-r",
    "securus-mark-p",
    "securus-mark-t".ljust(55, "-"),
    '["securus-mark-p"]',
    '"',
    "\\",
    "é",
    "\ud800",
    "\x00",
)
words = st.one_of(
    st.sampled_from(MARKS),
    st.text(max_size=12),
    st.builds("{}{}".format, st.sampled_from(MARKS), st.text(max_size=9)),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=2)),
    max_leaves=6,
)
ids = st.one_of(st.sampled_from(MARKS[:3]), st.from_regex(r"[A-Za-z0-9\-]{1,64}", fullmatch=True))
interactions = st.one_of(st.sampled_from(MARKS[:3]), st.uuids(version=4).map(str))
patients = st.lists(
    st.one_of(ids, st.from_regex(r"[A-Za-z0-9.\-]{1,64}", fullmatch=True)), max_size=4, unique=True
)
CLAIMS = (
    "patient",
    "acr",
    "auth_time",
    "authorization_details",
    "acting_as",
    "organization",
    "roles",
    "fhirUser",
    "purpose_of_use",
)


def trail_of(
    said: dict[str, Any],
    known: dict[str, list[str]],
    rules: tuple[str, ...],
    peer: str,
    trace: str,
    route: str,
) -> Trail:
    """A trail as a read has left it that shows one resource."""
    claims = {name: value for name, value in said.items() if name in CLAIMS}
    url = "https://gw.example/fhir/r4/Observation/x"
    http = HttpRequest(
        "GET", "/fhir/r4/Observation/x", "", url, "https://gw.example", {"traceparent": trace}, peer
    )
    trail = Trail(
        http, "", 0.0, "https://gw.example/fhir/r4", FhirRequest("GET", Interaction.READ, "Observation", "x")
    )
    who = caller()
    trail.caller = replace(
        who, claims={**who.claims, **claims}, subject=said.get("sub", "s"), client_id=said.get("client", "c")
    )
    trail.known, trail.policy_hash = known, "hash"
    trail.decision, trail.rules = "permit", rules
    return trail


@settings(max_examples=400)
@given(
    st.dictionaries(st.sampled_from(CLAIMS), values, max_size=4),
    st.dictionaries(words, st.lists(words, max_size=2), max_size=2),
    st.lists(words, max_size=3).map(tuple),
    words,
    st.one_of(st.just("0" * 55), words.map(lambda text: (text * 55)[:55])),
    words,
    ids, interactions, patients, st.booleans(), st.from_regex(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True),
)  # fmt: skip
@example(
    {"purpose_of_use": ["securus-mark-p"]},
    {},
    ("p/r",),
    "192.0.2.1",
    "0" * 55,
    "fhir",
    "x",
    "i",
    ["A"],
    True,
    TRACE,
)
@example(
    {"acr": '["securus-mark-p"]'}, {}, ("p/r",), "192.0.2.1", "0" * 55, "fhir", "x", "i", ["A"], True, TRACE
)
@example({}, {}, ("p/securus-mark-r",), "192.0.2.1", "0" * 55, "fhir", "x", "i", ["A"], True, TRACE)
@example(
    {},
    {},
    ("securus-mark-p",),
    "192.0.2.1",
    "0" * 55,
    "fhir",
    "securus-mark-r",
    "securus-mark-i",
    ["securus-mark-p"],
    False,
    TRACE,
)
@example(
    {"acr": "securus-mark-t".ljust(55, "-")},
    {},
    ("p/r",),
    "192.0.2.1",
    TRACE,
    "fhir",
    "x",
    "i",
    ["A"],
    True,
    TRACE,
)
@example(
    {},
    {},
    ("p/r",),
    "192.0.2.1",
    "securus-mark-r" * 3 + "securus-mark-",
    "fhir",
    "x",
    "i",
    ["A"],
    True,
    TRACE,
)
def test_a_form_that_is_filled_in_is_what_the_trail_records(
    said: dict[str, Any], known: dict[str, list[str]], rules: tuple[str, ...], peer: str, trace: str, route: str,
    id_: str, interaction: str, about: list[str], traces_vary: bool, own: str,
) -> None:  # fmt: skip
    """Whatever texts stand in it that are not ours: with a mark in them where it counts there is no form."""
    trail = trail_of(said, known, rules, peer, trace, route)
    form = RecordForm.of(trail, route, traces_vary=traces_vary)
    told = About()
    told.is_noted = True
    told.patients = dict.fromkeys(about)
    whole = replace(
        trail,
        interaction_id=interaction,
        asked=FhirRequest("GET", Interaction.READ, "Observation", id_),
        upstream=[f"GET Observation/{id_}"],
        tally=Tally(shown=1, about=told),
    )
    if traces_vary:
        whole.request = replace(trail.request, headers={"traceparent": own})
    if form is not None:
        assert form.filled(interaction, id_.encode("ascii"), about, own) == members_of(
            whole.record(route, 200)
        )


@pytest.mark.parametrize("about", [[], ["A"], ["A", "B"]])
@pytest.mark.parametrize("traces_vary", [False, True])
def test_a_usual_read_has_a_form(about: list[str], traces_vary: bool) -> None:
    """Or the property above could not fail."""
    trail = trail_of(
        {"patient": "A", "roles": ["physician"]}, {"patient": ["A"]}, ("p/r",), "::1", "0" * 55, "fhir"
    )
    form = RecordForm.of(trail, "fhir", traces_vary=traces_vary)
    assert form is not None
    filled = form.filled("i", b"x", about, TRACE)
    assert filled.count(b'"id":"x"') == 1
    assert b'"entries":{"dropped":0,"shown":1}' in filled
    trace = TRACE if traces_vary else "0" * 55
    assert filled.count(f'"trace":"{trace}"'.encode()) == 1
