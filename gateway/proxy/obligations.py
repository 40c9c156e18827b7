"""What a permit obliges to, done before anything goes out: rates, emergency access, notifications, answer headers.

It fails closed: where the store cannot write what is owed, there is no data.
"""

import json
import re
import secrets
from contextlib import suppress
from hashlib import sha256
from urllib.parse import unquote

from authz.clock import Clock
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.tokens import Caller
from authz.storage.effects import Emergency as EmergencyRecord
from authz.storage.effects import Notification, RateLimit
from authz.storage.store import Store, StoreUnavailable
from gateway.audit.log import AuditLog, AuditUnavailable
from gateway.emergencies import described
from gateway.fhir.outcome import FhirError, Reason
from gateway.notifications import message
from gateway.policy.decision import Deny, Permit
from gateway.policy.engine import Engine
from gateway.policy.obligations import Emergency, EmergencyAccess, Obligations, Rate
from gateway.proxy.trail import Trail
from gateway.telemetry import Metrics

_REASON = "x-break-glass-reason"
_SAID = re.compile(r"x-break-glass.*")
_REVIEW_SECONDS = 400 * 86400  # so long emergency access stays in the list for its review


class Obliged:
    """Meets the obligations of permits at one mount."""

    def __init__(self, *, route: str, store: Store, audit: AuditLog, metrics: Metrics, clock: Clock) -> None:
        self._route = route
        self._store = store
        self._audit = audit
        self._metrics = metrics
        self._clock = clock

    async def emergency(
        self, http: HttpRequest, trail: Trail, caller: Caller, engine: Engine
    ) -> Emergency | None:
        """What is known of an emergency; None where no rule speaks of one. Raises StoreUnavailable."""
        if not engine.has_emergencies:
            return None
        trail.under_way = tuple(
            await self._store.emergencies_of(
                issuer=caller.issuer,
                client_id=caller.client_id,
                subject=caller.subject,
                now=self._clock(),
            )
        )
        return Emergency(
            _reason(http), frozenset((record.rule, record.patient) for record in trail.under_way)
        )

    def refused(self, http: HttpRequest, decision: Deny) -> None:
        """Count a refusal to somebody who speaks of an emergency: the operator is told by the metric."""
        lacks = (Reason.BREAK_GLASS_NEEDS_ONE_PATIENT, Reason.BREAK_GLASS_NEEDS_REASON)
        if decision.reason in lacks or any(_SAID.fullmatch(name) for name in http.headers):
            self._metrics.break_glass.labels("refused").inc()

    async def meet(self, trail: Trail, permit: Permit, caller: Caller) -> None:
        """Do what the permit obliges to and was not done for this request.

        Raises FhirError(RATE_EXCEEDED), StoreUnavailable, AuditUnavailable.
        """
        owed, met = permit.obligations, trail.obligations
        if owed.is_empty:
            return
        await self._spend(tuple(rate for rate in owed.rates if rate not in met.rates), trail, caller)
        for access in owed.emergency:
            if access not in met.emergency:
                trail.emergency = await self._open(access, owed, trail, caller)
        opened = {access.rule for access in owed.emergency}
        messages = []
        for receiver, named in owed.notify:
            before = dict(met.notify).get(receiver, ())
            rules = [rule for rule in named if rule not in opened and rule not in before]
            if rules:
                messages.append(self._message(receiver, "access", rules, trail, caller))
        if messages:
            await self._store.put_notifications(messages)
        trail.obligations = met.and_those_of(owed)

    async def _spend(self, rates: tuple[tuple[str, Rate], ...], trail: Trail, caller: Caller) -> None:
        if not rates:
            return
        limits = [RateLimit(_key(rule, rate, caller), rate.at_most, rate.seconds) for rule, rate in rates]
        wait = await self._store.spend(limits, now=self._clock())
        if wait:
            trail.explanation = f"the rate of {', '.join(rule for rule, _ in rates)} is used up"
            raise FhirError(Reason.RATE_EXCEEDED, headers=(("Retry-After", str(wait)),))

    async def _open(
        self, access: EmergencyAccess, owed: Obligations, trail: Trail, caller: Caller
    ) -> EmergencyRecord:
        """The emergency access that this request goes by: the one under way, or one that begins now."""
        if access.reason is None:
            self._metrics.break_glass.labels("continued").inc()
            return _under_way(access, trail.under_way)
        now = self._clock()
        record = EmergencyRecord(
            id=secrets.token_urlsafe(12),
            rule=access.rule,
            issuer=caller.issuer,
            client_id=caller.client_id,
            subject=caller.subject,
            patient=access.patient,
            reason=access.reason,
            started_at=now,
            ends_at=now + access.lasts_seconds,
            expires_at=now + access.lasts_seconds + _REVIEW_SECONDS,
        )
        messages = [
            self._message(receiver, "break-glass-start", [access.rule], trail, caller, record)
            for receiver, rules in owed.notify
            if access.rule in rules
        ]
        if not await self._store.begin_emergency(record, messages, now=now):
            # Another request of this principal was first: one session, one start.
            self._metrics.break_glass.labels("continued").inc()
            found = await self._store.emergencies_of(
                issuer=caller.issuer, client_id=caller.client_id, subject=caller.subject, now=now
            )
            return _under_way(access, tuple(found))
        start = {
            "event": "break-glass-start",
            "audit": "full",
            "interaction_id": trail.interaction_id,
            "peer": trail.request.peer,
            "base": trail.base,
            "emergency": described(record),
        }
        try:
            await self._audit.record(start)
        except AuditUnavailable:
            # Nothing may go on under a start that nobody recorded.
            with suppress(StoreUnavailable):
                await self._store.end_emergency(record.id, now=now)
            raise
        self._metrics.break_glass.labels("started").inc()
        return record

    def _message(
        self,
        receiver: str,
        event: str,
        rules: list[str],
        trail: Trail,
        caller: Caller,
        emergency: EmergencyRecord | None = None,
    ) -> Notification:
        asked = trail.asked
        said: dict[str, object] = {
            "event": event,
            "rules": rules,
            "issuer": caller.issuer,
            "client": caller.client_id,
            "subject": caller.subject,
            "route": self._route,
            "interaction": trail.interaction,
            "interaction_id": trail.interaction_id,
        }
        if asked is not None:
            said |= {"type": asked.type, "resource": asked.id}
        if emergency is not None:
            # Not the reason: a sentence may say more of the patient than an id. It is read at the review.
            said |= {"emergency": emergency.id, "patient": emergency.patient, "ends_at": emergency.ends_at}
        return message(receiver, said, now=self._clock())


def shortened(trail: Trail, answer: Answer) -> Answer:
    """The answer to a write: without its body where a rule says `answer: minimal` (FHIR R4 3.1.0.1.8)."""
    if not trail.obligations.minimal or answer.status >= 300 or not isinstance(answer.body, bytes):
        return answer
    kept = tuple(header for header in answer.headers if header[0].lower() != "content-type")
    return Answer(answer.status, kept, b"")


def with_headers(trail: Trail, answer: Answer) -> Answer:
    """The answer with the headers that rules give it: those that it has not, and never on a refusal."""
    given = trail.obligations.headers
    if not given or answer.status >= 400 or trail.decision != "permit":
        return answer
    there = {name.lower() for name, _ in (*answer.headers, *trail.answer_headers)}
    return answer.with_headers(tuple(header for header in given if header[0].lower() not in there))


def _under_way(access: EmergencyAccess, records: tuple[EmergencyRecord, ...]) -> EmergencyRecord:
    for record in records:
        if (record.rule, record.patient) == (access.rule, access.patient):
            return record
    raise FhirError(Reason.BREAK_GLASS_NEEDS_REASON)  # it ended while this was decided


def _key(rule: str, rate: Rate, caller: Caller) -> bytes:
    """A rule that is given another rate counts anew; principals are apart whatever their names hold."""
    whose = [rule, rate.at_most, rate.seconds, caller.issuer, caller.client_id, caller.subject]
    return sha256(json.dumps(whose).encode()).digest()


def _reason(http: HttpRequest) -> str | None:
    """The reason of a request: ASCII as it is, other characters as UTF-8, percent-encoded (RFC 3986 2.1)."""
    said = http.headers.get(_REASON)
    if said is None:
        return None
    try:
        return unquote(said, "utf-8", "strict")
    except UnicodeDecodeError:
        return ""  # no reason: it is too short for every rule
