"""The ledger of a run of the OpenID Foundation's suite: every plan, no failure, and docs/conformance.md says the same."""

import re
from pathlib import Path

import pytest

from tests.support.conformance_ledger import results, summary
from tests.support.conformance_plans import MESSAGE_SIGNING, PLANS, SECURITY_PROFILE

ROOT = Path(__file__).parents[2]
FOUND = results()
PREFIX = "fapi2-security-profile-final-"
DOCUMENTED = {
    name: (security_profile, message_signing)
    for name, security_profile, message_signing in re.findall(
        r"^\| `([a-z0-9A-Z_-]+)` \| ([^|]*?) ?\| ([^|]*?) ?\|$",
        (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
}


def test_every_plan_that_is_run_has_its_column() -> None:
    assert list(FOUND) == [chosen.name for chosen in PLANS]
    assert all(FOUND.values())


def test_no_module_failed_or_warned() -> None:
    assert {result for modules in FOUND.values() for result in modules.values()} <= {
        "PASSED",
        "REVIEW",
        "SKIPPED",
    }


def test_every_module_is_one_that_our_own_tests_stand_for() -> None:
    rows = (ROOT / "tests" / "conformance" / "fapi_modules.tsv").read_text(encoding="utf-8").splitlines()
    ours = {row.split("\t")[0]: row.split("\t")[1] for row in rows[1:]}
    ran = {module for modules in FOUND.values() for module in modules}
    assert ran <= set(ours)
    assert {ours[module] for module in ran} == {"met"}


@pytest.mark.parametrize("module", sorted({module for modules in FOUND.values() for module in modules}))
def test_the_documentation_says_what_became_of_a_module(module: str) -> None:
    told = tuple(
        summary(FOUND, module, [chosen.name for chosen in PLANS if chosen.plan == plan])
        for plan in (SECURITY_PROFILE, MESSAGE_SIGNING)
    )
    assert DOCUMENTED[module.removeprefix(PREFIX)] == told


def test_the_documentation_tells_of_no_other_module() -> None:
    assert set(DOCUMENTED) == {
        module.removeprefix(PREFIX) for modules in FOUND.values() for module in modules
    }
