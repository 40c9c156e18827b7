"""Which reads may be followed by those like them: usual ones, of which nothing but their head decides how they go."""

from collections.abc import Iterable
from contextlib import suppress
from weakref import WeakSet

from authz.protocol.request import Answer
from gateway.fhir.formats import Format
from gateway.fhir.interaction import Interaction
from gateway.policy.engine import Engine
from gateway.proxy.read_precedent import Around, ReadPrecedent
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamClient
from gateway.wire.upstream_request import UnsendableRequest

_HEADERS = frozenset(
    {
        "accept", "accept-encoding", "accept-language", "authorization", "cache-control", "connection", "dpop", "forwarded",
        "host", "pragma", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "user-agent", "via", "x-fapi-interaction-id",
        "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-forwarded-scheme",
        "x-forwarded-server", "x-real-ip", "x-scheme",
    }
)  # fmt: skip
"""Those that a read may have and still be like others; of any other nobody has thought here what it decides."""
_VARYING = frozenset(
    {
        "b3", "baggage", "dpop", "forwarded", "traceparent", "tracestate", "x-amzn-trace-id", "x-b3-flags",
        "x-b3-parentspanid", "x-b3-sampled", "x-b3-spanid", "x-b3-traceid", "x-cloud-trace-context", "x-correlation-id",
        "x-datadog-origin", "x-datadog-parent-id", "x-datadog-sampling-priority", "x-datadog-tags", "x-datadog-trace-id",
        "x-fapi-interaction-id", "x-forwarded-for", "x-request-id",
    }
)  # fmt: skip
"""Those of which each may have a value of its own: what they decide is looked at, or told, each time.

The proof by the resource server; the interaction id in answer, record and to the store; a traceparent to the store and in
the record; x-forwarded-for as the address, which is the same. The others decide nothing.
"""


class Precedents:
    """Makes reads that were answered at one mount the precedents of those like them."""

    def __init__(self, at: Around, client: UpstreamClient) -> None:
        self._at = at
        self._client = client
        self._followed = WeakSet[ReadPrecedent]()
        self._by: Engine | None = None  # what those that are followed were decided by

    def follow(self, trail: Trail, answer: Answer) -> None:
        """Let reads like this one follow it, where it was a usual one."""
        at, http, asked, presented = self._at, trail.request, trail.asked, trail.presented
        if http.likeness is None or asked is None or asked.type is None or presented is None:
            return
        engine = at.engines.engine
        client = self._client.reading(asked.type)
        if (
            asked.interaction is not Interaction.READ
            or asked.type == "Binary"
            or asked.terms
            or http.path != f"{at.upstream.at}/{asked.type}/{asked.id}"
            or answer.status != 200
            or engine is None
            or engine.has_emergencies
            or engine.shadows
            or engine.policy_hash != trail.policy_hash
            or not trail.obligations.is_empty
            or not trail.knowledge.is_untouched
            or trail.wish.format is not Format.JSON
            or not _are_usual(http.headers, http.likeness.varying)
            or at.upstream.documents is not None
            or at.upstream.mtls_only
            or client is None
        ):
            return
        with suppress(UnsendableRequest, ValueError):
            precedent = ReadPrecedent(at, client, engine, presented, trail, asked.type)
            self._forget_those_before(engine)
            self._followed.add(precedent)
            http.likeness.follow(precedent)

    def _forget_those_before(self, engine: Engine) -> None:
        """Let go of what was decided by policies that are in force no more: heads of then may never come again."""
        if self._by is not engine:
            for precedent in self._followed:
                precedent.end()
            self._followed.clear()
            self._by = engine


def _are_usual(names: Iterable[str], varying: frozenset[str]) -> bool:
    """Whether it is known of all headers that a read may have them, with values of its own or with those of others."""
    return all(name in (_VARYING if name in varying else _HEADERS) for name in names)
