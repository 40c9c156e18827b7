"""Granular scopes in front of FHIR engines that we did not write: a search finds just what the scope says, on all pages.

What must be found is told here by plain loops over what the engine holds, and by nothing of the gateway's own.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from gateway.config.profiles import shipped
from tests.interop.test_fhir_engines import CLAIMS, ENGINES, FORM, Setting, engine, entries, ids
from tests.support.engines import ANNA, BERT, Engine, owner, resources
from tests.support.gateway import Reply, policies_with, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.process]
__all__ = ["ENGINES", "engine"]  # the fixture
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
LOINC = "http://loinc.org"
POLICY = """
policy: scopes
version: 1
owner: tests
status: enforce
text: All that is about a patient is open, so that scopes say what of it is shown.
rules:
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: [read, vread, history-instance, search]
    resources: [Condition, Encounter, Observation, Patient]
    where: {compartment: {patient: "{token.patient}", membership: subject}}
    query: {include: any-permitted, chain_depth: 2}
    conceal: true
    because: The scopes say what.
"""


def _observation(id_: str, patient: str, *categories: str, **more: Any) -> dict[str, Any]:
    coded = [{"coding": [{"system": CATEGORY, "code": each}]} for each in categories]
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        **({"category": coded} if coded else {}),
        "code": {"coding": [{"system": LOINC, "code": "4548-4"}]},
        "subject": {"reference": f"Patient/{patient}"},
    } | more


MORE = [
    _observation("a-multi", ANNA, "vital-signs", "laboratory"),
    _observation("a-none", ANNA),
    _observation("a-elsewhere", ANNA, category=[{"coding": [{"system": "urn:other", "code": "laboratory"}]}]),
    _observation("a-amended", ANNA, "laboratory", status="amended"),
    _observation("b-lab", BERT, "laboratory"),
    _observation("b-multi", BERT, "vital-signs", "laboratory"),
]
"""Two categories, none, one of another system; and the same of somebody else."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def setting(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Setting]:
    folder = tmp_path_factory.mktemp("scopes")
    for each in MORE:
        engine.put(each)
    running = await start_gateway(
        folder,
        policies=policies_with(folder, "90-scopes.yaml", POLICY),
        base=engine.base,
        profile=shipped(engine.name),
    )
    yield Setting(engine, running, [*resources(engine.base), *MORE])
    await stop_gateway(running)


def codings(resource: dict[str, Any], name: str) -> set[tuple[str | None, str | None]]:
    """System and code of every coding of an element."""
    found = resource.get(name, [])
    concepts = found if isinstance(found, list) else [found]
    return {(c.get("system"), c.get("code")) for each in concepts for c in each.get("coding", [])}


def category(code: str, system: str | None = None) -> Callable[[dict[str, Any]], bool]:
    """A test for a category, of this system or of any."""
    return lambda resource: any(
        each[1] == code and system in (None, each[0]) for each in codings(resource, "category")
    )


def both(*tests: Callable[[dict[str, Any]], bool]) -> Callable[[dict[str, Any]], bool]:
    return lambda resource: all(test(resource) for test in tests)


LAB, VITAL = category("laboratory", CATEGORY), category("vital-signs", CATEGORY)
SCOPES: dict[str, tuple[str, Callable[[dict[str, Any]], bool]]] = {
    "one-category": (f"patient/Observation.rs?category={CATEGORY}|laboratory", LAB),
    "a-code-of-any-system": ("patient/Observation.rs?category=laboratory", category("laboratory")),
    "either-of-two": (f"patient/Observation.rs?category={CATEGORY}|laboratory,{CATEGORY}|vital-signs",
                      lambda r: LAB(r) or VITAL(r)),
    "two-scopes": (f"patient/Observation.rs?category={CATEGORY}|laboratory "
                   f"patient/Observation.rs?category={CATEGORY}|vital-signs", lambda r: LAB(r) or VITAL(r)),
    "both-of-two": (f"patient/Observation.rs?category={CATEGORY}|laboratory&category={CATEGORY}|vital-signs",
                    both(LAB, VITAL)),
    "two-parameters": (f"patient/Observation.rs?category={CATEGORY}|laboratory&status=amended",
                       both(LAB, lambda r: r["status"] == "amended")),
    "a-code": (f"patient/Observation.rs?code={LOINC}|8302-2", lambda r: (LOINC, "8302-2") in codings(r, "code")),
    "every-type": ("patient/*.rs?category=vital-signs", category("vital-signs")),
    "letters-crossing": (f"patient/Observation.r?category={CATEGORY}|vital-signs "
                         f"patient/Observation.s?category={CATEGORY}|laboratory", LAB),
    "nothing": ("patient/Observation.rs?category=urn:nobody|x", lambda r: False),
}  # fmt: skip


def expected(setting: Setting, test: Callable[[dict[str, Any]], bool]) -> set[str]:
    current = {r["id"]: r for r in setting.held if r["resourceType"] == "Observation"}
    return {id_ for id_, each in current.items() if owner(each) == ANNA and test(each)}


async def ask(setting: Setting, scope: str, path: str, form: str | None = None) -> Reply:
    token = await setting.gateway.token("pA-r", **CLAIMS | {"scope": scope})
    if form is None:
        return await setting.gateway.fhir("GET", path, token=token)
    return await setting.gateway.fhir("POST", path, token=token, headers=FORM, body=form.encode())


@pytest.mark.parametrize("name", SCOPES)
@pytest.mark.parametrize("post", [False, True], ids=["GET", "POST"])
@pytest.mark.parametrize("criteria", ["", "status=final,amended&"], ids=["all", "some"])
async def test_a_granular_search_finds_all_of_its_filter_and_nothing_else_on_all_pages(
    setting: Setting, name: str, post: bool, criteria: str
) -> None:
    scope, test = SCOPES[name]
    query = f"{criteria}_count=5"
    place, form = ("/Observation/_search", query) if post else (f"/Observation?{query}", None)
    first = await ask(setting, scope, place, form)
    assert first.status == 200, first.raw[:500]
    bundles = await setting.pages(first, lambda path: ask(setting, scope, path))
    found = ids(*bundles)
    assert sorted(found) == sorted(expected(setting, test))
    assert bool(found) is (name != "nothing")
    for bundle in bundles:
        assert bundle.get("total", len(found)) == len(found)


@pytest.mark.parametrize("name", SCOPES)
async def test_a_granular_read_is_the_search_one_by_one(setting: Setting, name: str) -> None:
    scope, test = SCOPES[name]
    if name == "letters-crossing":
        test = VITAL
    for each in (*MORE, *(r for r in setting.held if r["id"] in ("moved", "about-bert"))):
        reply = await ask(setting, scope, f"/Observation/{each['id']}")
        shown = each["id"] in expected(setting, test)
        assert reply.status == (200 if shown else 404), (each["id"], reply.raw[:300])
        if not shown:
            missing = await ask(setting, scope, "/Observation/nobody-has-it")
            assert (missing.status, missing.body) == (reply.status, reply.body)


async def test_the_number_of_matches_is_the_filters_or_is_not_told(setting: Setting) -> None:
    scope, test = SCOPES["one-category"]
    counted = await ask(setting, scope, "/Observation?_summary=count")
    if counted.status == 200:
        assert counted.json.get("total", len(expected(setting, test))) == len(expected(setting, test))
    else:
        assert (counted.status, counted.reason) == (403, "count-closed")
    two, _ = SCOPES["two-scopes"]
    refused = await ask(setting, two, "/Observation?_summary=count")
    assert (refused.status, refused.reason) == (403, "count-closed")


async def test_what_is_brought_along_is_of_the_scope_too(setting: Setting) -> None:
    scope = f"patient/Patient.rs patient/Observation.rs?category={CATEGORY}|laboratory"
    first = await ask(setting, scope, f"/Patient?_id={ANNA}&_revinclude=Observation:subject")
    assert first.status == 200, first.raw[:500]
    shown = {
        e["resource"]["id"] for e in entries(first.json) if e["resource"]["resourceType"] == "Observation"
    }
    assert shown <= expected(setting, LAB)
    closed = await ask(setting, scope, f"/Patient?_id={ANNA}&_has:Observation:subject:category=vital-signs")
    assert (closed.status, closed.reason) == (403, "join-closed")


async def test_an_old_version_is_read_while_the_newest_is_the_own(setting: Setting) -> None:
    """'moved' was Bert's and is Anna's: to her its first version stays closed, to nobody it opens by the second."""
    history = await setting.direct("/Observation/moved/_history")
    versions = {owner(e["resource"]): e["resource"]["meta"]["versionId"] for e in history["entry"]}
    for patient, statuses in ((ANNA, {ANNA: 200, BERT: 404}), (BERT, {ANNA: 404, BERT: 404})):
        claims = {"patient": patient, "fhirUser": f"Patient/{patient}", "scope": "patient/Observation.rs"}
        for whose, status in statuses.items():
            token = await setting.gateway.token("pA-r", **claims)
            reply = await setting.gateway.fhir(
                "GET", f"/Observation/moved/_history/{versions[whose]}", token=token
            )
            assert reply.status == status, (patient, whose)
