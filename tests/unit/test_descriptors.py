"""How many connections the descriptors of a process are good for."""

import logging
import resource
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.settings import AuthorizationSettings
from authz.storage.postgresql.settings import PostgresqlSettings
from authz.storage.settings import StoreSettings
from authz.storage.valkey_settings import ValkeySettings
from gateway.consents.consent import ConsentSource
from gateway.descriptors import BESIDE, USUAL, at_stores, bounds_of, within
from gateway.settings import ConsentSettings, GatewaySettings, KeySettings, Limits, Operations, Upstream
from gateway.wire.places import Bounds

FHIR = Upstream("fhir", "fhir-r4", "/fhir", "http://127.0.0.1/fhir", "https://gw.example/fhir", frozenset())


def settings_of(
    limits: Limits, *upstreams: Upstream, storage: StoreSettings | None = None
) -> GatewaySettings:
    return GatewaySettings(
        file=Path("gateway.yaml"),
        listeners=(),
        operations=Operations(),
        authorization=AuthorizationSettings("https://gw.example", "https://mtls.gw.example", ()),
        storage=storage or StoreSettings(),
        keys=KeySettings(None),
        upstreams=upstreams,
        policies=Path("policies"),
        clients=(),
        accounts=(),
        limits=limits,
    )


class Descriptors:
    """Limits of a process: soft, hard, and whether they may be raised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> None:
        self.limits = (soft, hard)
        self.may_be_raised = True
        monkeypatch.setattr("gateway.descriptors.resource.getrlimit", lambda which: self.limits)
        monkeypatch.setattr("gateway.descriptors.resource.setrlimit", self.set)

    def set(self, which: int, limits: tuple[int, int]) -> None:
        if not self.may_be_raised:
            raise ValueError("not allowed to raise maximum limit")
        self.limits = limits


def test_with_many_descriptors_the_usual_bound_holds_and_no_more_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    descriptors = Descriptors(monkeypatch, 1024, resource.RLIM_INFINITY)
    assert bounds_of(settings_of(Limits(), FHIR)) == Bounds(USUAL, USUAL // 2)
    assert descriptors.limits == (USUAL + BESIDE + 100, resource.RLIM_INFINITY)


def test_a_hard_limit_bounds_connections_and_leaves_what_everything_else_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    descriptors = Descriptors(monkeypatch, 256, 1024)
    assert bounds_of(settings_of(Limits(), FHIR)) == Bounds(1024 - BESIDE - 100, (1024 - BESIDE - 100) // 2)
    assert descriptors.limits == (1024, 1024)


@pytest.mark.parametrize(
    ("soft", "hard"), [(60_000, 60_000), (resource.RLIM_INFINITY, resource.RLIM_INFINITY)]
)
def test_a_soft_limit_that_is_high_enough_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int
) -> None:
    descriptors = Descriptors(monkeypatch, soft, hard)
    assert bounds_of(settings_of(Limits())).connections == USUAL
    assert descriptors.limits == (soft, hard)


def test_what_the_configuration_says_holds_where_there_are_descriptors_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Descriptors(monkeypatch, 1024, 100_000)
    asked = Limits(connections=50_000, connections_of_address=7)
    assert bounds_of(settings_of(asked)) == Bounds(50_000, 7)
    assert bounds_of(settings_of(replace(asked, connections=5))) == Bounds(5, 5)


def test_more_than_there_are_descriptors_for_is_told_and_not_tried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    descriptors = Descriptors(monkeypatch, 1024, 100_000)
    descriptors.may_be_raised = False
    bounds = bounds_of(settings_of(Limits(connections=50_000)))
    assert bounds.connections == 1024 - BESIDE
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told == [
        "the limit of descriptors cannot be raised",
        "fewer connections than limits.connections.all says",
    ]


def test_every_pool_that_a_process_may_fill_counts() -> None:
    consents = replace(FHIR, consents=ConsentSettings(ConsentSource(), "https://consents.example"))
    assert at_stores(settings_of(Limits(), FHIR, replace(FHIR, connections=7), consents)) == 100 + 7 + 200
    storage = StoreSettings(
        postgresql=PostgresqlSettings("postgresql://db.example/x", pool=10),
        valkey=ValkeySettings("valkey://127.0.0.1:6379/0", connections=16),
    )
    assert at_stores(settings_of(Limits(), storage=storage)) == 11 + 16


@given(st.integers(1, 10**6), st.integers(8, 10**6), st.integers(0, 10**5))
def test_callers_have_a_quarter_at_least_and_never_all(wanted: int, there: int, beside: int) -> None:
    found = within(wanted, there=there, beside=beside)
    assert 1 <= found <= wanted
    assert found >= min(wanted, there // 4)
    assert found <= max(there - beside, there // 4)
