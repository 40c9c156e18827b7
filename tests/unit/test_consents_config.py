"""`consents` of an upstream: which consents count is said, or the configuration is refused."""

from pathlib import Path

import pytest

from gateway.config.consents import read_consents
from gateway.config.schema import Section
from gateway.consents.consent import SCOPES, ConsentReading, ConsentSource
from gateway.fhir.labels import ORDER
from gateway.settings import ConsentSettings
from gateway.yaml_source import Mapping, Problem, parse


def read(text: str) -> tuple[ConsentSettings | None, list[str]]:
    problems: list[Problem] = []
    node = parse(f"consents: {text}\n", "g.yaml")
    assert isinstance(node, Mapping)
    section = Section(node, "upstreams.fhir", problems, Path(), {"KEY": "Bearer x"})
    return read_consents(section), [str(problem) for problem in problems]


def test_consents_of_organizations_and_with_tags_count() -> None:
    settings, problems = read(
        "{organizations: [Organization/h1], tags: ['urn:t|desk'], verified: false, keep: 10s, timeout: 1s}"
    )
    assert problems == []
    source = ConsentSource(frozenset({"Organization/h1"}), frozenset({("urn:t", "desk")}), verified=False)
    assert settings == ConsentSettings(source, keep=10, timeout=1)


def test_who_never_said_anything_has_agreed_to_the_scopes_that_are_named() -> None:
    settings, problems = read("{tags: ['a|b'], opt_out: [patient-privacy, 'urn:s|study'], unlabelled: N}")
    assert problems == []
    assert settings is not None
    assert settings.reading.opt_out == {(SCOPES, "patient-privacy"), ("urn:s", "study")}
    assert settings.reading.unlabelled == ORDER.index("N")
    plain, _ = read("{tags: ['a|b']}")
    assert plain is not None
    assert plain.reading == ConsentReading()


def test_consents_of_a_store_of_their_own_count() -> None:
    settings, problems = read("{base: 'https://consents.lan/fhir', authorization: {env: KEY}}")
    assert problems == []
    assert settings == ConsentSettings(ConsentSource(), "https://consents.lan/fhir", "Bearer x")
    assert "Bearer" not in repr(settings)


def test_consents_that_are_kept_here_all_count_verified_or_not() -> None:
    settings, problems = read("{kept: here}")
    assert problems == []
    assert settings == ConsentSettings(ConsentSource(verified=False), kept_here=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{kept: here, keep: 30s}", "upstreams.fhir.consents.keep is for consents of another store"),
        ("{kept: there, tags: ['a|b']}", "upstreams.fhir.consents.kept"),
        ("{kept: upstream}", "must say which consents count"),
        ("{verified: true}", "must say which consents count: 'organizations', 'tags', or the 'base'"),
        ("{organizations: [h1]}", "'h1', expected a reference such as Organization/h1"),
        ("{tags: [desk]}", "'desk', expected system|code"),
        ("{base: 'ftp://x'}", "upstreams.fhir.consents.base"),
        ("{tags: ['a|b'], authorization: {env: KEY}}", "is for the store at 'base'"),
        ("{tags: ['a|b'], keep: 2d}", "keep"),
        ("{tags: ['a|b'], opt_out: ['|x']}", "'|x', expected the code of a scope such as patient-privacy"),
        ("{tags: ['a|b'], unlabelled: S}", "unlabelled"),
        ("{tags: ['a|b'], organisations: []}", "Did you mean 'organizations'?"),
    ],
)
def test_a_mistake_is_found_at_its_place(text: str, message: str) -> None:
    _, problems = read(text)
    assert len(problems) == 1
    assert problems[0].startswith("g.yaml:1:")
    assert message in problems[0]
