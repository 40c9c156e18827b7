"""A consent of a grant is held to the rules once for each kind: what comes of it is what came of asking each time."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from authz.protocol.tokens import Grant
from authz.storage.consents import ConsentVersion
from authz.storage.store import Store
from gateway.consent_service.grants import GrantConsents, consent_of
from gateway.consent_service.versions import next_version
from gateway.fhir.outcome import FhirError
from tests.support.store_contract import GRANT

BASE, ISSUER, NOW = "https://fhir.example/fhir/r4", "https://as.example", 1_800_000_000
NAMES = st.sampled_from(["App", "", "\x00", "Ap\x1fp", "\ud800", "Äpp", "A\n", " "]) | st.text(max_size=3)
SCOPES = st.lists(
    st.sampled_from(["openid", "patient/*.rs", "patient/Observation.rs", "patient/Nothing.rs", "x\x07", ""]),
    max_size=3,
).map(tuple)
PEOPLE = st.sampled_from(
    [
        None,
        "Patient/A",
        "RelatedPerson/r1",
        "Practitioner/dr1",
        "https://else.example/Patient/1",
        "Patient/",
        7,
    ]
)
GIVEN = st.builds(
    lambda client, scope, person, patient, at: replace(
        GRANT,
        client_id=client,
        scope=scope,
        claims={} if person is None else {"fhirUser": person},
        context={"patient": patient},
        created_at=at,
    ),
    st.sampled_from(["portal", "", "other", "\x01"]),
    SCOPES,
    PEOPLE,
    st.sampled_from(["A", "B", "a/b", "", "A\x00", 7]),
    st.integers(0, 4_000_000_000),
)


def made_by(make: Callable[[], ConsentVersion | None]) -> dict[str, Any] | str | None:
    """What is made, but for its id; why it may not be; None for none."""
    try:
        version = make()
    except FhirError as error:
        return str(error.diagnostics)
    said = None if version is None else json.loads(version.resource)
    return None if said is None else {name: inner for name, inner in said.items() if name != "id"}


def by_the_rules(grant: Grant, name: str) -> ConsentVersion:
    patient = str(grant.context["patient"])
    value = consent_of(grant, name, patient=patient, base=BASE, issuer=ISSUER)
    return next_version(value, None, base=BASE, id="one", now=NOW, by=grant.subject, grant_id=grant.grant_id)


@given(st.lists(st.tuples(GIVEN, NAMES), max_size=6))
def test_each_is_what_the_rules_make_of_it_whatever_was_found_right_before(
    many: list[tuple[Grant, str]],
) -> None:
    keeper = GrantConsents(base=BASE, issuer=ISSUER, store=cast(Store, None), clock=lambda: NOW)
    for grant, name in [*many, *many]:
        made = made_by(partial(keeper.of, grant, name))
        if made is not None:  # staff, and patients whose id is none, are nobody's consents
            assert made == made_by(partial(by_the_rules, grant, name))
