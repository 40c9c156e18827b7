"""Attacks on views (cases 68, 69, 246, 249): what is hidden is looked for in copies, in searches and in sorts.

The store is hostile: it ignores every criterion and answers with the whole world.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.gateway import RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]

POLICIES = """\
policy: views
version: 1
owner: o
status: enforce
text: The own record, without values, names and labels.
rules:
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: [read, vread, history-instance, search, create]
    resources: [Observation]
    where: {compartment: {patient: "{token.patient}"}}
    return: {hide: [Observation.value, Patient.name]}
    because: x
  - rule: own-person
    effect: permit
    who: {context: patient}
    may: [read]
    resources: [Patient]
    where: {compartment: {patient: "{token.patient}"}}
    because: x
  - rule: no-labels
    effect: deny
    may: [any]
    resources: any
    fields: [meta.security]
    because: The label itself would tell.
tests:
  - {test: t, as: {context: patient, patient: A}, request: GET /Patient/A, expect: {decision: permit}}
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("views")
    (folder / "policies").mkdir()
    (folder / "policies" / "views.yaml").write_text(POLICIES)
    running = await start_gateway(folder, policies=folder / "policies")
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


@pytest.mark.parametrize(
    "path",
    [
        "/Observation/a1", "/Observation/a1/_history/1", "/Observation/a1/_history", "/Observation",
        "/Observation?code=4548-4", "/Observation/a-mh", "/Observation/a-mh/_history",
    ],
)  # fmt: skip
async def test_246_249_hidden_values_names_and_labels_leave_by_no_way(
    gateway: RunningGateway, path: str
) -> None:
    reply = await gateway.fhir("GET", path)
    assert reply.status == 200
    assert b'"Observation"' in reply.raw
    for hidden in (b"6.30", b"valueQuantity", b"Own Person", b"PSY", b'"security"'):
        assert hidden not in reply.raw
    assert b"SUBSETTED" in reply.raw


async def test_246_what_nothing_was_taken_from_leaves_byte_for_byte(gateway: RunningGateway) -> None:
    reply = await gateway.fhir("GET", "/Patient/A")
    assert reply.status == 200
    assert b"SUBSETTED" not in reply.raw
    assert reply.json["name"] == [{"family": "Own"}]


@pytest.mark.parametrize(
    "query",
    [
        "value-quantity=gt5", "_sort=value-quantity", "_sort=code,-value-quantity", "value-quantity:missing=false",
        "combo-value-quantity=6.3", "code-value-quantity=4548-4$gt5", "combo-code-value-quantity=4548-4$gt5",
        "value-string=x",
    ],
)  # fmt: skip
async def test_68_69_96_a_search_for_hidden_values_reaches_no_store(
    gateway: RunningGateway, query: str
) -> None:
    for method, path, body in [
        ("GET", f"/Observation?{query}", b""),
        ("POST", "/Observation/_search", query.encode()),
    ]:
        form = [("Content-Type", "application/x-www-form-urlencoded")] if body else []
        reply = await gateway.fhir(method, path, headers=form, body=body)
        assert (reply.status, reply.reason) in ((403, "unsupported-parameter"), (400, "invalid-parameter"))
    assert gateway.upstream.requests == []
