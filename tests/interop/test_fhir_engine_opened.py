"""HAPI FHIR behind the gateway carries out what a policy opens by name: filters as the gateway writes them, and Lists.

Of filters HAPI FHIR reads no `not`, and `pr` finds nothing; full text needs an index that is not set up here.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from gateway.config.profiles import shipped
from tests.attacks.table.worlds import DEFINITIONS, POLICIES
from tests.support.engines import ANNA, BERT, Engine, owner, resources, running_engine
from tests.support.gateway import Reply, RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.process, pytest.mark.xdist_group("hapi")]
CLAIMS: dict[str, Any] = {"patient": ANNA, "fhirUser": f"Patient/{ANNA}"}
BOTH = f"subject eq Patient/{ANNA} or subject eq Patient/{BERT}"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running_engine("hapi", tmp_path_factory.mktemp("engine") / "log") as running:
        yield running


@dataclass
class Setting:
    """A gateway before the engine; what Anna has of Observations."""

    gateway: RunningGateway
    own: dict[str, Any]

    async def ids(self, query: str) -> set[str]:
        """The ids that a search by Anna finds."""
        reply = await self.anna(query)
        assert reply.status == 200, reply.raw[:800]
        return {each["resource"]["id"] for each in reply.json.get("entry", [])}

    async def anna(self, query: str) -> Reply:
        """A search of Observations with Anna's token, all on one page."""
        token = await self.gateway.token("pA-r", **CLAIMS)
        reply = await self.gateway.fhir("GET", f"/Observation?{query}&_count=200", token=token)
        assert BERT not in reply.raw.decode() or BERT in query
        return reply


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def setting(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Setting]:
    for name, of in (("annas", ANNA), ("berts", BERT)):
        assert await asyncio.to_thread(engine.put, _list(name, of)) == 201
    folder = tmp_path_factory.mktemp("gateway")
    policies = folder / "policies"
    policies.mkdir()
    (policies / "00-definitions.yaml").write_text(DEFINITIONS)
    (policies / "opened.yaml").write_text(POLICIES["opened"])
    profile = replace(shipped("hapi"), opened_parameters=frozenset({"_filter", "_list", "_text"}))
    running = await start_gateway(folder, policies=policies, base=engine.base, profile=profile)
    current = {r["id"]: r for r in resources(engine.base) if r["resourceType"] == "Observation"}
    yield Setting(running, {id_: r for id_, r in current.items() if owner(r) == ANNA})
    await stop_gateway(running)


def _list(name: str, of: str) -> dict[str, Any]:
    """A List of this patient, of which one member is Anna's and one is Bert's."""
    entries = [{"item": {"reference": f"Observation/{id_}"}} for id_ in ("moved", "about-bert")]
    subject = {"reference": f"Patient/{of}"}
    value = {"resourceType": "List", "id": name, "status": "current", "mode": "working", "subject": subject}
    return value | {"entry": entries}


@pytest.mark.parametrize(
    ("filter", "keep"),
    [
        (BOTH, lambda r: True),
        ("(((status eq final)))", lambda r: r["status"] == "final"),
        ("status eq amended", lambda r: r["status"] == "amended"),
        ('code eq "http://loinc.org|8302-2" or (status eq amended and date lt 2020)',
         lambda r: any(c.get("code") == "8302-2" for c in r["code"].get("coding", [])) or r["status"] == "amended"),
        ("code eq 8302-2 and subject re Patient/x", None),
        ("_id eq moved or _id eq about-bert", lambda r: r["id"] == "moved"),
        (f"subject eq Patient/{BERT} or status eq final", lambda r: r["status"] == "final"),
    ],
)  # fmt: skip
async def test_a_filter_finds_what_it_says_of_the_own_record(
    setting: Setting, filter: str, keep: Any
) -> None:
    if keep is None:  # for somebody else alone: nobody is asked
        assert await setting.ids(f"_filter={quote(filter)}") == set()
        return
    expected = {id_ for id_, r in setting.own.items() if keep(r)}
    assert await setting.ids(f"_filter={quote(filter)}") == expected


async def test_the_members_of_a_list_are_the_own_ones_of_it(setting: Setting) -> None:
    assert await setting.ids("_list=annas") == {"moved"}
    assert await setting.ids("_list=berts") == set()
    assert await setting.ids("_list=nobodys") == set()


async def test_what_the_engine_does_not_carry_out_is_a_refusal(setting: Setting) -> None:
    for query in ("_text=x", f"_filter={quote('not (status eq final)')}"):
        reply = await setting.anna(query)
        assert (reply.status, reply.reason) == (400, "upstream-refused"), reply.raw[:500]
