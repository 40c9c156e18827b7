"""What ends at one node of three ends at the others: no read that is sent a second later is let through."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import jwt
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.demo import world
from gateway.demo.client import Session
from tests.support.cluster import (
    CLOSE,
    SCOPE,
    Cluster,
    Visitor,
    ask,
    learn,
    said,
    three_nodes,
)
from tests.support.nodes import securus
from tests.support.workers_load import Store, own_chart, reading, until

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("cluster"),
]
TIMES = 10
CONSENT_SCOPE = {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}
POLICY = """\
policy: second-opinions
version: 1
owner: privacy-office
status: enforce
text: The app for second opinions reads the charts of those who agreed.
rules:
  - rule: only-who-agreed
    effect: require
    who: {client: portal-dpop-2}
    may: [read]
    resources: [Patient]
    where: {consent: {scope: patient-privacy, decision: permit}}
    because: The person agreed.
"""


class Charts(Store):
    """A store with a patient, and perhaps with the consent of that patient."""

    agreed = True

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The patient, or the consents that are active."""
        if request.path != "/fhir/Consent":
            return await super().handle(request)
        consent = {
            "resourceType": "Consent",
            "id": "c1",
            "status": "active",
            "scope": {"coding": [CONSENT_SCOPE]},
            "patient": {"reference": f"Patient/{world.PATIENT}"},
            "organization": [{"reference": "Organization/h1"}],
            "verification": [{"verified": True}],
            "provision": {"type": "permit"},
        }
        found = {
            "resourceType": "Bundle",
            "type": "searchset",
            "link": [{"relation": "self", "url": str(request.url)}],
        }
        if self.agreed:
            found["entry"] = [{"resource": consent, "search": {"mode": "match"}}]
        return web.Response(text=json.dumps(found), headers={"Content-Type": "application/fhir+json"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    def change(document: dict[str, Any]) -> None:
        consents = {"organizations": ["Organization/h1"], "keep": "1s"}
        document["upstreams"]["fhir"]["consents"] = consents

    folder = tmp_path_factory.mktemp("revocation")
    async with three_nodes(folder, change, policies={"90-consent.yaml": POLICY}, charts=Charts()) as running:
        yield running


async def status_of(cluster: Cluster, node: int, app: Session, token: str) -> int:
    """What this node says to a read with this token."""
    serving = cluster.nodes[node]
    reply = await ask(serving, reading(serving, app, token, CLOSE))
    assert reply is not None
    if reply.status == 200:
        learn(app, "gateway", [reply])
    return reply.status


async def passed_until(
    cluster: Cluster, app: Session, token: str, end: Callable[[], Awaitable[object]]
) -> list[float]:
    """Read at all nodes while that happens, until each refuses. How long after it the last read was sent that passed."""
    ended = float("inf")

    async def read(node: int) -> float:
        last = 0.0
        while True:
            sent = time.monotonic()
            if await status_of(cluster, node, app, token) != 200:
                return last
            last = max(last, sent - ended)

    async with asyncio.timeout(60):
        for node in range(3):
            assert await status_of(cluster, node, app, token) == 200
        tasks = [asyncio.create_task(read(node)) for node in range(3)]
        await end()
        ended = time.monotonic()
        return await asyncio.gather(*tasks)


def judge(what: str, found: list[list[float]]) -> None:
    """No read passed that was sent a second after the end."""
    latest = [max(times) for times in found]
    said(
        what, {"times": len(found), "last that passed was sent after": f"{max(latest) * 1000:.0f} ms at most"}
    )
    assert max(latest) < 1.0


async def test_I2_a_token_that_is_revoked_at_one_node_is_refused_by_all(cluster: Cluster) -> None:
    first = cluster.nodes[0]
    found = []
    async with first.session("portal-dpop") as app:
        await own_chart(first, app)
        for _ in range(TIMES):
            token = (await first.token_of(app, "stephen", SCOPE))["access_token"]
            form = {"token": token}

            async def revoke(form: dict[str, str] = form) -> None:
                assert (await app.post(app.endpoint("revocation_endpoint"), form)).status == 200

            found.append(await passed_until(cluster, app, token, revoke))
    judge("tokens revoked", found)


async def test_access_that_a_person_ends_on_the_own_page_at_one_node_ends_at_all(cluster: Cluster) -> None:
    first = cluster.nodes[0]
    user = next(user for user in first.facts["users"] if user["username"] == "stephen")
    found = []
    async with first.session("portal-dpop") as app:
        await own_chart(first, app)
        person = Visitor(app.http)
        for _ in range(TIMES // 2):
            token = (await first.token_of(app, "stephen", SCOPE))["access_token"]

            async def end() -> None:
                await person.end_access(first.facts["issuer"], "portal-dpop", "stephen", user["password"])

            found.append(await passed_until(cluster, app, token, end))
    judge("access ended by the person", found)


async def test_a_consent_that_is_withdrawn_in_the_store_ends_access_at_all_nodes(cluster: Cluster) -> None:
    first = cluster.nodes[0]
    charts = cluster.charts
    assert isinstance(charts, Charts)
    found = []
    async with first.session("portal-dpop-2") as app:
        token = await own_chart(first, app)

        async def withdraw() -> None:
            charts.agreed = False

        async def is_read() -> bool:
            return [await status_of(cluster, node, app, token) for node in range(3)] == [200] * 3

        for _ in range(TIMES // 2):
            charts.agreed = True
            await until(is_read, 60)
            found.append(await passed_until(cluster, app, token, withdraw))
        charts.agreed = True
        await until(is_read, 60)
    judge("consents withdrawn", found)


async def test_policies_that_one_node_read_anew_are_in_force_at_that_node_alone(cluster: Cluster) -> None:
    """Each node reads its policies when it is told to: whoever changes them tells every node."""
    first = cluster.nodes[0]
    path = first.folder / "policies" / "90-consent.yaml"
    async with first.session("portal-dpop-2") as app:
        token = await own_chart(first, app)
        path.write_text(
            POLICY.replace("effect: require", "effect: deny").replace(
                "    where: {consent: {scope: patient-privacy, decision: permit}}\n", ""
            )
        )
        try:
            first.send_signal(signal.SIGHUP)

            async def is_denied() -> bool:
                return await status_of(cluster, 0, app, token) == 403

            await until(is_denied, 60)
            assert [await status_of(cluster, node, app, token) for node in (1, 2)] == [200, 200]
        finally:
            path.write_text(POLICY)
            first.send_signal(signal.SIGHUP)

        async def is_read() -> bool:
            return await status_of(cluster, 0, app, token) == 200

        await until(is_read, 60)


async def test_M4_around_a_rotation_every_node_takes_what_any_other_signs(cluster: Cluster) -> None:
    async with cluster.nodes[0].session("portal-dpop") as app:
        token = await own_chart(cluster.nodes[0], app)
        made = await securus(cluster.nodes[1], "key", "rotate", "--now")
        async with asyncio.timeout(60):
            while jwt.get_unverified_header(token)["kid"] != made["kid"]:
                for signing in cluster.nodes:
                    async with signing.session("portal-dpop") as there:
                        there.proof_key = app.proof_key
                        token = (await signing.token_of(there, "stephen", SCOPE))["access_token"]
                    assert [await status_of(cluster, node, app, token) for node in range(3)] == [200] * 3


async def test_a_client_that_an_operator_suspends_is_refused_by_all(cluster: Cluster) -> None:
    first = cluster.nodes[0]
    found = []
    for name in ("portal-dpop", "portal-dpop-2"):
        async with first.session(name) as app:
            token = await own_chart(first, app)

            async def suspend(name: str = name) -> None:
                await securus(first, "client", "suspend", name, "--why", "broken in")

            found.append(await passed_until(cluster, app, token, suspend))
    judge("clients suspended", found)
