"""Attack group N: documents that are hostile to whoever reads them, from a FHIR store and from a plain one."""

from typing import Any

import pytest

from tests.attacks.test_document_views import PAGE, gateway, lab, plain, store
from tests.support.document_store import MRN, DocumentStore
from tests.support.gateway import RunningGateway
from tests.support.hostile_documents import PAIRS
from tests.support.plain_documents import PatientIndex, PlainDocuments
from tests.support.world import SECRET

__all__ = ["gateway", "plain", "store"]  # the fixtures

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("hostile-documents")]
FHIR = ("Accept", "application/fhir+json")
WAYS = ([], [FHIR], [PAGE])


@pytest.mark.parametrize("name", sorted(PAIRS))
async def test_a_hostile_document_of_a_fhir_store_is_nobodys_and_its_twin_passes(
    gateway: RunningGateway, store: DocumentStore, name: str
) -> None:
    token = await lab(gateway)
    for headers in WAYS:
        store.document("d", "A", PAIRS[name].refused)
        unknown = await gateway.fhir("GET", "/Binary/nobody", token=token, headers=headers)
        gateway.upstream.requests.clear()
        reply = await gateway.fhir("GET", "/Binary/d", token=token, headers=headers)
        assert (reply.status, reply.body) == (unknown.status, unknown.body) == (404, unknown.body)
        assert SECRET.encode() not in reply.raw
        assert {r.method for r in gateway.upstream.requests} <= {"GET"}
        store.document("d", "A", PAIRS[name].passes)
        reply = await gateway.fhir("GET", "/Binary/d", token=token, headers=headers)
        assert reply.status == 200, reply.raw[:500]


@pytest.mark.parametrize("name", sorted(PAIRS))
async def test_a_hostile_document_of_a_plain_store_is_nobodys_and_its_twin_passes(
    gateway: RunningGateway, store: DocumentStore, plain: PlainDocuments, name: str
) -> None:
    gateway.upstream.answer = PatientIndex(MRN).answer
    token = await gateway.token("pA-r", aud=f"{gateway.origin}/cda", scope="patient/*.rs")
    for headers in WAYS:
        more: dict[str, Any] = {"token": token, "headers": headers, "mount": "/cda"}
        plain.contents["d"] = PAIRS[name].refused
        unknown = await gateway.fhir("GET", "/documents/nobody", **more)
        reply = await gateway.fhir("GET", "/documents/d", **more)
        assert (reply.status, reply.body) == (unknown.status, unknown.body) == (404, unknown.body)
        assert SECRET.encode() not in reply.raw
        plain.contents["d"] = PAIRS[name].passes
        reply = await gateway.fhir("GET", "/documents/d", **more)
        assert reply.status == 200, reply.raw[:500]
