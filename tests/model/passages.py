"""The real passage of requests, without a wire: a caller, a request, a store in memory, the answer."""

import json
from dataclasses import dataclass
from typing import Any, cast

from authz.protocol.errors import OAuthError
from authz.protocol.request import BytesBody, HttpRequest
from authz.protocol.tokens import Caller
from authz.resource_server import Authenticated, Presented
from gateway.fhir.search import OPENABLE
from gateway.policy.engine import Engine
from gateway.proxy.answers.sealed_links import SealedLinks
from gateway.proxy.engine_holder import EngineHolder
from gateway.proxy.lookups.knowledge import Lookups
from gateway.proxy.pipeline import Passage
from gateway.proxy.sealed_jobs import SealedJobs
from gateway.settings import SelfLink, Upstream, UpstreamProfile
from gateway.telemetry import Metrics
from tests.model.brute_store import BASE, BruteStore

ORIGIN, MOUNT = "https://gw.example", "/fhir/r4"
PUBLIC = ORIGIN + MOUNT
_METRICS = Metrics()


@dataclass
class Reply:
    """Status, headers and whole body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Door:
    """One caller before one store, under the policies of one engine, at one time."""

    def __init__(self, engine: Engine, caller: Caller, store: BruteStore, *, now: int, peer: str) -> None:
        self._caller, self._peer = caller, peer
        self.records: list[Any] = []
        upstream = Upstream(
            "fhir",
            "fhir-r4",
            MOUNT,
            BASE,
            PUBLIC,
            frozenset({PUBLIC}),
            profile=UpstreamProfile(
                self_link=SelfLink.SILENT if store.hostile else SelfLink.CHECKED, opened_parameters=OPENABLE
            ),
            compress=False,
        )
        me = cast(Any, self)
        self._passage = Passage(
            upstream=upstream,
            client=cast(Any, store),
            resource_server=me,
            engines=EngineHolder(engine),
            sealed_links=SealedLinks(b"l" * 32, "fhir"),
            jobs=SealedJobs(b"l" * 32, "fhir"),
            store=me,
            audit=me,
            metrics=_METRICS,
            clock=lambda: now,
            oauth_uris={},
            lookups=Lookups(me, None, me, me.release),
        )

    async def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Reply:
        """The answer to a request; target is relative to the mount, or a whole URL of ours."""
        path, _, query = target.removeprefix(PUBLIC).partition("?")
        content = b"" if body is None else json.dumps(body).encode()
        sent = {"content-type": "application/fhir+json"} if content else {}
        http = HttpRequest(
            method,
            MOUNT + path,
            query,
            PUBLIC + path,
            ORIGIN,
            sent | headers,
            self._peer,
            body=BytesBody(content),
        )
        answer = await self._passage.handle(http)
        raw = (
            answer.body
            if isinstance(answer.body, bytes)
            else b"".join([piece async for piece in answer.body])
        )
        return Reply(answer.status, {name.lower(): text for name, text in answer.headers}, raw)

    # What stands around the passage

    async def present(
        self, request: HttpRequest, *, audience: frozenset[str]
    ) -> tuple[Presented, Authenticated]:
        """A token of the caller, whatever was sent, and the caller."""
        return Presented("dpop", "", "", self._caller, 0), Authenticated(self._caller, ())

    def challenge(self, error: OAuthError | None, request: HttpRequest) -> tuple[tuple[str, str], ...]:
        """The scheme alone."""
        return (("WWW-Authenticate", "DPoP"),)

    async def record(self, record: Any) -> None:
        """An audit record."""
        self.records.append(record)

    async def claim(self, *claimed: object, **until: object) -> bool:
        """Every claim is the first."""
        return True

    async def release(self, *claimed: object) -> None:
        """Nothing is kept."""
