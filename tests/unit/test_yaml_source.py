"""gateway.yaml_source: one reading of every file, and a place for every mistake."""

import pytest

from gateway.yaml_source import Mapping, YamlError, did_you_mean, parse


def refused(text: str) -> str:
    with pytest.raises(YamlError) as error:
        parse(text, "f.yaml")
    return str(error.value)


def test_values_of_yaml_1_1_that_surprise_stay_text() -> None:
    node = parse("a: no\nb: on\nc: 010\nd: 12:30\ne: 0x1F\nf: yes\ng: .inf\nh: 2026-01-01", "f.yaml")
    assert node.plain() == {
        "a": "no", "b": "on", "c": "010", "d": "12:30", "e": "0x1F", "f": "yes", "g": ".inf", "h": "2026-01-01",
    }  # fmt: skip


def test_core_schema_values_are_typed() -> None:
    node = parse("a: true\nb: 5\nc: -1.5\nd: null\ne: '5'\nf:", "f.yaml")
    assert node.plain() == {"a": True, "b": 5, "c": -1.5, "d": None, "e": "5", "f": None}


def test_a_duplicate_key_names_both_places() -> None:
    assert (
        refused("a: 1\nb:\n  c: 1\n  c: 2\n") == "f.yaml:4:3: error: key 'c' is used twice (first in line 3)"
    )


def test_every_duplicate_key_is_reported_in_one_run() -> None:
    assert refused("a: 1\na: 2\nb: 1\nb: 2").count("is used twice") == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1\nb: 2", "f.yaml:1:4: error: anchors"),
        ("a: *x", "found undefined alias"),
        ("a: &x 1\nb: *x", "f.yaml:2:4: error: aliases"),
        ("a: !!python/object:os.system 1", "f.yaml:1:4: error: tags"),
        ("a: !x {b: 1}", "f.yaml:1:4: error: tags"),
        ("a: 1\n---\nb: 2", "second document"),
        ("<<: {a: 1}", "merge keys"),
        ("[a]: 1", "a key must be text, found a list"),
        ("a: 1\n\tb: 2", "f.yaml:2:1: error: "),
        ("a: [1, 2", "f.yaml:"),
        ("a: \x01", "f.yaml:1:1: error: this is not YAML"),
        ("[" * 100 + "]" * 100, "nested deeper than 64"),
    ],
)
def test_what_has_surprised_somebody_is_refused(text: str, message: str) -> None:
    found = refused(text)
    assert message in found or (message == "found undefined alias" and "aliases" in found)


def test_places_count_from_one() -> None:
    node = parse("a:\n  - b: x\n", "f.yaml")
    assert isinstance(node, Mapping)
    entry = node.entry("a")
    assert entry is not None
    assert (entry.place.line, entry.place.column) == (1, 1)
    assert (entry.value.place.line, entry.value.place.column) == (2, 3)


def test_did_you_mean_prefers_a_difference_of_case_only() -> None:
    assert did_you_mean("birthdate", ["birthDate", "death"]) == " Did you mean 'birthDate'?"
    assert did_you_mean("serach", ["search", "read"]) == " Did you mean 'search'?"
    assert did_you_mean("zzz", ["search"]) == ""
