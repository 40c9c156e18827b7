"""The OpenID Foundation's own conformance suite judges the server: each module of each plan ends as the ledger says.

The suite is a Java program that no package registry has, so it is not installed here: who has one running names it.
"""

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.conformance_ledger import results
from tests.support.conformance_plans import PLANS, Chosen, Site, start_site
from tests.support.conformance_suite import Outcome, Suite

ADDRESS = os.environ.get("OPENID_SUITE", "").rstrip("/")
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.skipif(
        not ADDRESS,
        reason="needs a running conformance suite of the OpenID Foundation, named by OPENID_SUITE"
        " (make conformance SUITE=https://localhost:8443, docs/conformance.md)",
    ),
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    running = await start_site(tmp_path_factory.mktemp("site"), ADDRESS)
    yield running
    await running.stop()


@pytest.mark.parametrize("chosen", PLANS, ids=lambda chosen: chosen.name)
async def test_every_module_of_the_plan_ends_as_the_ledger_says(site: Site, chosen: Chosen) -> None:
    async with Suite(ADDRESS) as suite:
        plan = await suite.create(chosen.plan, chosen.variant, site.configs[chosen.name])
        outcomes = [await suite.run(plan, module) for module in plan.modules]
    expected = results()[chosen.name]
    assert {each.module: each.result for each in outcomes} == expected, "\n".join(
        _told(each) for each in outcomes if each.result != expected.get(each.module)
    )


def _told(outcome: Outcome) -> str:
    return "\n  ".join((f"{outcome.module}: {outcome.result}", *outcome.findings))
