"""What docs/ says is what the program does."""

import argparse
import contextlib
import io
import re
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml

from authz.endpoints.administration import GrantAdministration
from authz.endpoints.client_administration import ClientAdministration
from authz.protocol.client_metadata import METADATA
from gateway.cli import main
from gateway.commands import keys
from gateway.config.document import load
from gateway.counting import Counter, Histogram
from gateway.demo import world
from gateway.fhir.outcome import REASON_SYSTEM, REASONS
from gateway.policy import language
from gateway.policy.reading.rule import RULE_KEYS
from gateway.policy.selftests import selftest
from gateway.telemetry import Metrics
from tests.support.oauth_errors import errors

DOCS = Path(__file__).parents[2] / "docs"


def rows(text: str) -> list[list[str]]:
    """The cells of every table row."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]


def test_every_reason_code_is_in_the_table_as_it_is_sent() -> None:
    text = (DOCS / "reasons.md").read_text()
    said = [row for row in rows(text) if row[0].startswith("`")]
    sent = [[f"`{reason}`", str(s), f"`{code}`", sentence] for reason, (s, code, sentence) in REASONS.items()]
    assert said == sent
    assert f"`{REASON_SYSTEM}`" in text


def test_every_metric_is_in_the_table_with_its_labels() -> None:
    text = (DOCS / "operations.md").read_text()
    said = {row[0].strip("`"): row[2] for row in rows(text) if row[0].startswith("`securus_")}
    registry = Metrics().registry
    known = {}
    for name, metric in registry._names_to_collectors.items():
        if name.startswith("securus_") and not re.search(r"_(created|bucket|sum|count)$", name):
            names = metric.label_names if isinstance(metric, Counter | Histogram) else metric._labelnames
            known[name] = ", ".join(names)
    total = {name for name in known if name.endswith("_total")}
    known = {n: labels for n, labels in known.items() if n in total or f"{n}_total" not in total}
    assert said == known


def test_the_examples_of_the_policy_guide_load_and_their_tests_hold() -> None:
    text = (DOCS / "policies.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.S)
    assert len(blocks) >= 3
    policies = language.load({f"guide-{number}.yaml": block for number, block in enumerate(blocks)})
    report = selftest.run(policies)
    assert (report.passed, report.failures) == ("".join(blocks).count("  - test: "), ())


def test_the_policy_of_the_consent_guide_loads_and_its_tests_hold() -> None:
    text = (DOCS / "consent.md").read_text()
    (block,) = [
        each for each in re.findall(r"```yaml\n(.*?)```", text, re.S) if each.startswith("policy: consents")
    ]
    definitions = (DOCS.parent / "policies" / "00-definitions.yaml").read_text()
    report = selftest.run(language.load({"00-definitions.yaml": definitions, "90-consents.yaml": block}))
    assert (report.passed, report.failures) == (3, ())


def test_the_policy_guide_names_every_key_of_a_rule() -> None:
    text = (DOCS / "policies.md").read_text()
    said = {row[0].strip("`") for row in rows(text) if row[0].startswith("`")}
    assert said == set(RULE_KEYS) - {"rule"}


def test_the_guide_to_the_keys_names_every_verb_and_every_setting() -> None:
    text = (DOCS / "keys.md").read_text()
    parser = argparse.ArgumentParser()
    keys.add(parser.add_subparsers())
    with pytest.raises(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
        parser.parse_args(["key", "--help"])
    verbs = re.findall(r"^ {4}(\w+) {2,}", shown.getvalue(), re.M)
    assert len(verbs) == 5
    for verb in verbs:
        assert f"`securus key {verb}" in text
    for setting in ("algorithm", "algorithms", "announced_for", "active_for", "published_after_retirement"):
        assert f"keys.{setting}" in text


def test_every_OAuth_error_is_in_the_table_with_what_to_change_and_no_other_is() -> None:
    text = (DOCS / "errors.md").read_text()
    table = rows(text)
    said = {(row[0].strip("`"), row[2]) for row in table if len(row) == 4 and row[0].startswith("`")}
    of_tokens = {row[0] for row in table if len(row) == 2} - {"Description", "---"}
    given = errors()
    known = {pair for pair in given if "," not in pair[0]}
    assert sorted(known - said) == [], "add a row to docs/errors.md"
    assert sorted(said - known) == [], "no code gives this any more: take the row away"
    assert of_tokens == {pattern for code, pattern in given if "," in code}
    assert all(row[-1].endswith(".") for row in table if row[0] not in ("Error", "Description", "---"))
    assert len([row for row in table if row[0].startswith("`")]) == len(said)


def test_the_client_of_the_conformance_guide_is_one_that_the_configuration_takes(tmp_path: Path) -> None:
    text = (DOCS / "conformance.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.S)
    world.build(tmp_path, world.Ports(20443, 20444, 20090, 20080))
    document = yaml.safe_load((tmp_path / "gateway.yaml").read_text())
    document["clients"] = yaml.safe_load(block)["clients"]
    (tmp_path / "suite-1.jwks.json").write_bytes((tmp_path / "portal-dpop.jwks.json").read_bytes())
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(document))
    (client,) = load(tmp_path / "gateway.yaml", {}).clients
    assert client.redirect_uris[1].endswith("/callback?dummy1=lorem&dummy2=ipsum")


def test_the_registration_guide_names_every_member_that_is_looked_at() -> None:
    text = (DOCS / "registration.md").read_text()
    said = set(re.findall(r"`(\w+)`", text))
    said |= {"tls_client_auth" + name for name in said if name.startswith("_san_")}
    assert said >= METADATA


def test_every_door_of_the_administration_is_in_its_table() -> None:
    text = (DOCS / "administration.md").read_text()
    said = set()
    for cell in (row[0] for row in rows(text) if "/admin/" in row[0]):
        method, path = re.findall(r"`(\w+) (\S+)`", cell)[0]
        also = [path.rsplit("/", 1)[0] + "/" + verb for verb in re.findall(r"`…/(\w+)`", cell)]
        said |= {(method, each) for each in (path, *also)}
    tables = [
        ClientAdministration(Mock()).routes(),
        GrantAdministration(
            store=Mock(), revocations=Mock(), access_token_seconds=1, emit=Mock(), clock=Mock()
        ).routes(),
    ]
    known = {
        (method, "/".join(("/admin", *pattern)).replace("*", "{id}"))
        for table in tables
        for pattern, doors in table.items()
        for method in doors
    }
    assert said == known


def test_every_verb_about_clients_is_in_the_guide_to_administration(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (DOCS / "administration.md").read_text()
    with pytest.raises(SystemExit):
        main(["client", "--help"])
    verbs = re.findall(r"^    ([a-z-]+) ", capsys.readouterr().out, re.M)
    assert len(verbs) > 10
    assert [verb for verb in verbs if f"securus client {verb}" not in text] == []


def test_every_link_to_a_part_of_the_policy_guide_finds_it() -> None:
    text = (DOCS / "policies.md").read_text()
    titles = re.findall(r"^## (.+)$", text, re.M)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    within = re.findall(r"\]\(#([^)]+)\)", text)
    from_others = [
        anchor
        for page in sorted(DOCS.glob("*.md"))
        for anchor in re.findall(r"\]\(policies\.md#([^)]+)\)", page.read_text())
    ]
    assert {*within, *from_others} <= anchors
    contents = text.partition("## Contents\n")[2].partition("\n## ")[0]
    assert re.findall(r"^- \[(.+)\]\(#", contents, re.M) == titles[1:]
