"""The read of a List before a search of its members: as the caller would read it, or there is none."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from authz.protocol.request import HttpRequest
from authz.protocol.tokens import Caller
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.policy import by_list
from gateway.policy.decision import Environment, Nothing, Permit
from gateway.policy.engine import Engine
from gateway.proxy import headers
from gateway.proxy.answers.delivery import resource_or_none, settle
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamClient
from gateway.proxy.writes.stored_version import NO_CACHE
from gateway.settings import Upstream

_NO_LIST = "there is no List of this id that the caller may read"


class ListReads:
    """Reads the Lists of one store."""

    def __init__(self, *, upstream: Upstream, client: UpstreamClient) -> None:
        self._upstream = upstream
        self._client = client

    async def decided(
        self, permit: Permit, trail: Trail, caller: Caller, engine: Engine, environment: Environment
    ) -> Permit | None:
        """What permits the read that a search waits for; None where it waits for none, or where nothing does.

        Raises FhirError where what the decision needs cannot be had.
        """
        if permit.by_list is None:
            return None
        asked = FhirRequest("GET", Interaction.READ, "List", id=permit.by_list.id)
        found = await trail.knowledge.decided(partial(engine.decide, asked, caller, environment))
        return found if isinstance(found, Permit) and found.by_search is None else None

    async def opened(
        self, http: HttpRequest, trail: Trail, permit: Permit, reading: Permit | None
    ) -> Permit | Nothing:
        """The search once its List is read; Nothing where the caller would not find the List. Raises FhirError."""
        if permit.by_list is None:
            return permit
        seen = None if reading is None else await self._seen(http, trail, reading, permit.by_list.id)
        if seen is None:
            return Nothing(permit.rules, _NO_LIST)
        return by_list.read(permit, by_list.members_of(seen, (*self._upstream.bases, self._upstream.base)))

    async def _seen(
        self, http: HttpRequest, trail: Trail, reading: Permit, list_id: str
    ) -> Mapping[str, Any] | None:
        """The List as the caller reads it; None where a read would not show it."""
        target = f"List/{list_id}"
        trail.upstream.append(f"GET {target}")
        sent = headers.to_upstream(http, self._upstream, trail.interaction_id) | NO_CACHE
        answer = await self._client.send("GET", target, sent)
        value = await resource_or_none(answer, self._upstream.max_resource)
        if value is None:
            return None
        await settle(trail, reading, value)
        verdict = None if reading.judge is None else reading.judge(value)
        if verdict is None or not verdict.shown:
            return None
        return value if verdict.seen is None else verdict.seen


def with_the_read(permit: Permit, reading: Permit | None) -> Permit:
    """The permit with all that it and the read of its List oblige to."""
    if reading is None:
        return permit
    return replace(permit, obligations=permit.obligations.and_those_of(reading.obligations))
