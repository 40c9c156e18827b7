"""The record of a request, durable before its answer goes out; without a record there is no answer."""

import time

from authz.protocol.request import Answer
from gateway.audit.log import AuditLog, AuditUnavailable
from gateway.counting import Count
from gateway.fhir.outcome import FhirError, Reason, operation_outcome
from gateway.proxy import headers
from gateway.proxy.obligations import with_headers
from gateway.proxy.trail import Trail
from gateway.proxy.whole_answers import let_go
from gateway.settings import Upstream
from gateway.telemetry import Metrics


class Recording:
    """Records and counts the requests to one store."""

    def __init__(self, *, upstream: Upstream, audit: AuditLog, metrics: Metrics) -> None:
        self._upstream = upstream
        self._audit = audit
        self._metrics = metrics
        self._seconds = metrics.request_seconds.labels(upstream.name)
        # Each with its labels looked up once: that costs more than to count.
        self._requests: dict[tuple[str, int], Count] = {}
        self._decisions: dict[tuple[str, str], Count] = {}

    async def recorded(self, trail: Trail, answer: Answer) -> Answer:
        """The answer, once its record is durable; without a record there is no answer (fail closed)."""
        try:
            await self._audit.record(trail.record(self._upstream.name, answer.status))
        except AuditUnavailable:
            await let_go(answer.body)
            answer = self.unrecorded(trail)
        except BaseException:
            await let_go(answer.body)  # the caller went away while the record was written
            raise
        return self.counted(trail, answer)

    def counted(self, trail: Trail, answer: Answer) -> Answer:
        """The answer as it goes out, counted, with the headers that it has from its trail."""
        if trail.reason is not None:
            self._metrics.refusals.labels(trail.reason).inc()
        self._metrics.shadowed(trail.shadows.uncounted())
        self.count(trail.interaction, answer.status, trail.rules, trail.decision, trail.started)
        answer = with_headers(trail, answer)
        return answer.with_headers((*trail.answer_headers, ("x-fapi-interaction-id", trail.interaction_id)))

    def unrecorded(self, trail: Trail) -> Answer:
        """The answer where the record could not be written."""
        trail.reason = str(Reason.AUDIT_UNAVAILABLE)
        error = FhirError(Reason.AUDIT_UNAVAILABLE, headers=(("Retry-After", "5"),))
        fields = (headers.JSON_BODY, *headers.PRIVATE, *error.headers)
        return Answer(error.status, fields, operation_outcome(error.reason))

    def count(
        self, interaction: str, status: int, rules: tuple[str, ...], decision: str, started: float
    ) -> None:
        """Count an answer and what was decided by these rules; started is a reading of time.perf_counter()."""
        self._answered(interaction, status // 100).inc()
        self._seconds.observe(time.perf_counter() - started)
        for rule in rules:
            self._decided(rule, decision).inc()

    def _answered(self, interaction: str, class_: int) -> Count:
        found = self._requests.get((interaction, class_))
        if found is None:
            found = self._metrics.requests.labels(self._upstream.name, interaction, f"{class_}xx")
            self._requests[(interaction, class_)] = found
        return found

    def _decided(self, rule: str, effect: str) -> Count:
        found = self._decisions.get((rule, effect))
        if found is None:
            policy, _, name = rule.rpartition("/")
            found = self._decisions[(rule, effect)] = self._metrics.decisions.labels(policy, name, effect)
        return found
