"""Recorded requests put to another policy set: which decisions would change, and for whom.

A record says who asked, what and when, and how it was decided; it holds no resource. So what is compared is the decision
about the request: with the set that was in force where it is given, else with what the record says came of it. Where
both sets leave it to the resource, and by rules that differ, the answer is that it may differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from authz.protocol.tokens import Caller, TokenError, caller_of
from gateway.fhir.interaction import FhirRequest
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.request_target import asked_in
from gateway.policy.decision import Decision, Deny, Environment, Nothing, Permit
from gateway.policy.engine import Engine
from gateway.policy.inquiries.difference import rule_changes
from gateway.policy.obligations import Emergency
from gateway.policy.rules import PolicySet

_OF_POLICIES = frozenset(
    {
        Reason.POLICY_DENIED, Reason.NO_PERMIT, Reason.SCOPE_INSUFFICIENT, Reason.DETAILS_INSUFFICIENT, Reason.NOT_FOUND,
        Reason.QUERY_CLOSED, Reason.COUNT_CLOSED, Reason.UNSUPPORTED_PARAMETER, Reason.INTERACTION_CLOSED,
        Reason.STEP_UP_REQUIRED, Reason.BREAK_GLASS_NEEDS_ONE_PATIENT, Reason.BREAK_GLASS_NEEDS_REASON,
    }
)  # fmt: skip
"""Reasons that a decision may have; a record with another tells nothing about policies."""
_PERMITTED, _EMPTY = "permit", "nothing found"
_MOST_EXAMPLES = 5


class Unreplayable(Exception):
    """A record from which the request and its caller cannot be told. The text says what is missing."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as the audit log has it. was: 'permit', 'deny <reason>', or None where no policy decided."""

    sequence: int
    at: str
    asked: FhirRequest
    caller: Caller
    claims: frozenset[str]  # names of the claims that were on record
    environment: Environment
    was: str | None


@dataclass(slots=True)
class Change:
    """Decisions that would change in the same way for the same caller: how many, and the first of their records."""

    client: str
    subject: str
    patient: str | None
    interaction: str
    type: str | None
    before: str
    after: str
    count: int = 0
    sequences: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay found.

    changes      decisions that would change
    open         decisions that may change, as the resource is: both sets leave it to rules that differ
    compared     records that were compared; left_out: those that were not, by why
    unrecorded   claims that the set speaks of and no record has
    """

    changes: list[Change]
    open: list[Change]
    compared: int
    left_out: Mapping[str, int]
    unrecorded: frozenset[str]


def read_record(
    line: Mapping[str, object], policies: PolicySet, locations: Mapping[str, str]
) -> Recorded | None:
    """The request of one line of the audit log; None for a line about something else.

    The caller is made as policies would read its token; locations gives the identifier of each mount by its name. Raises
    Unreplayable.
    """
    if line.get("event") != "access":
        return None
    request, who = line.get("request"), line.get("caller")
    if not isinstance(request, Mapping) or not isinstance(who, Mapping):
        raise Unreplayable("the request or its caller could not be read")
    text, claims, at = request.get("canonical"), who.get("claims"), line.get("at")
    if not isinstance(text, str) or not isinstance(claims, Mapping) or not isinstance(at, str):
        raise Unreplayable("the record is of a version that did not say all")
    try:
        now = int(datetime.fromisoformat(at).timestamp())
        asked, caller = asked_in(text), _caller(who, claims, policies, now)
    except (FhirError, TokenError, ValueError) as error:
        raise Unreplayable("the request cannot be read by this version") from error
    location = locations.get(str(line.get("route")), "")
    sequence = line.get("seq")
    return Recorded(
        sequence if isinstance(sequence, int) else 0,
        at,
        asked,
        caller,
        frozenset(map(str, claims)),
        Environment(now, str(line.get("peer", "")), location, emergency=_emergency(line)),
        _was(line),
    )


def _emergency(line: Mapping[str, object]) -> Emergency:
    """What was known of an emergency: of one that opened nothing, the record keeps no reason."""
    said = line.get("emergency")
    reason = said.get("reason") if isinstance(said, Mapping) else None
    return Emergency(reason if isinstance(reason, str) else None)


class Replay:
    """Puts recorded requests, one after the other, to the set `after`, and to `before` where it is given."""

    def __init__(
        self,
        after: PolicySet,
        *,
        before: PolicySet | None = None,
        bases: frozenset[str] = frozenset(),
        locations: Mapping[str, str] | None = None,
    ) -> None:
        self._policies = after
        self._after = Engine(after, bases=bases)
        self._before = None if before is None else Engine(before, bases=bases)
        self._changed_rules = (
            frozenset() if before is None else frozenset(c.rule for c in rule_changes(before, after))
        )
        self._locations = locations or {}
        self._changes: dict[tuple[object, ...], Change] = {}
        self._open: dict[tuple[object, ...], Change] = {}
        self._left_out: dict[str, int] = {}
        self._claims: set[str] = set()
        self._compared = 0

    def take(self, line: Mapping[str, object]) -> None:
        """Compare the request of one line of the audit log, where it is about one."""
        try:
            record = read_record(line, self._policies, self._locations)
        except Unreplayable as error:
            self._leave_out(str(error))
            return
        if record is None:
            return
        self._claims |= record.claims
        if record.was is None:
            self._leave_out("no policy decided it")
            return
        old, new, may_differ = self._decisions(record, record.was)
        if record.environment.known.wanted():
            self._leave_out("it is decided by facts, whose values are on no record")
            return
        self._compared += 1
        if old != new:
            _count(self._changes, record, old, new)
        elif may_differ:
            _count(self._open, record, old, new)

    def result(self) -> Replayed:
        """What was found so far."""
        unrecorded = frozenset(self._policies.claims) - self._claims - _ALWAYS_KNOWN
        return Replayed(
            _sorted(self._changes),
            _sorted(self._open),
            self._compared,
            dict(sorted(self._left_out.items())),
            unrecorded if self._compared else frozenset(),
        )

    def _leave_out(self, why: str) -> None:
        self._left_out[why] = self._left_out.get(why, 0) + 1

    def _decisions(self, record: Recorded, was: str) -> tuple[str, str, bool]:
        """The decision before and after, in words, and whether the same words may hide a difference."""
        new = self._after.decide(record.asked, record.caller, record.environment)
        if self._before is None:
            return _by_record(was, new)
        old = self._before.decide(record.asked, record.caller, record.environment)
        rules = frozenset((*old.rules, *new.rules))
        looks = isinstance(new, Permit) and not (new.unconditional and _is_unconditional(old))
        differ = old.rules != new.rules or not rules.isdisjoint(self._changed_rules)
        return in_words(old), in_words(new), looks and differ


_ALWAYS_KNOWN = frozenset({"acr"})


def _is_unconditional(decision: Decision) -> bool:
    return isinstance(decision, Permit) and decision.unconditional


def _by_record(was: str, new: Decision) -> tuple[str, str, bool]:
    """What came of it against what the request would be decided now; a resource may still change it."""
    words = in_words(new)
    if isinstance(new, Deny):
        # That a resource was refused, or not there, is told by the same reasons as that the request was.
        return (was, words, False) if was == _PERMITTED else (words, words, False)
    if was == _PERMITTED:
        return _PERMITTED, _PERMITTED, False
    if isinstance(new, Permit) and not new.unconditional:
        return was, was, True  # it was refused, perhaps for the resource; now the resource decides
    return was, words, False


def in_words(decision: Decision) -> str:
    """The decision about the request as far as a caller would notice it."""
    if isinstance(decision, Deny):
        return f"deny {decision.reason}"
    return _EMPTY if isinstance(decision, Nothing) else _PERMITTED


def _was(line: Mapping[str, object]) -> str | None:
    reason = line.get("reason")
    if line.get("decision") == "permit":
        return _PERMITTED
    return f"deny {reason}" if reason in _OF_POLICIES else None


def _count(changes: dict[tuple[object, ...], Change], record: Recorded, old: str, new: str) -> None:
    caller, asked = record.caller, record.asked
    patient = caller.claims.get("patient")
    key = (caller.client_id, caller.subject, patient, str(asked.interaction), asked.type, old, new)
    change = changes.setdefault(
        key,
        Change(
            caller.client_id,
            caller.subject,
            patient if isinstance(patient, str) else None,
            str(asked.interaction),
            asked.type,
            old,
            new,
        ),
    )
    change.count += 1
    if len(change.sequences) < _MOST_EXAMPLES:
        change.sequences.append(record.sequence)


def _sorted(changes: Mapping[tuple[object, ...], Change]) -> list[Change]:
    return sorted(changes.values(), key=lambda each: (-each.count, each.client, each.subject, each.before))


def _caller(
    who: Mapping[str, object], known: Mapping[object, object], policies: PolicySet, now: int
) -> Caller:
    """The caller as its token said, as far as it is on record. Raises TokenError."""
    claims: dict[str, object] = {}
    for name, values in known.items():
        claim = policies.claims.get(str(name))
        if claim is None or not isinstance(values, list) or not values:
            continue
        inner = claims
        for step in claim.path[:-1]:
            below = inner.setdefault(step, {})
            if not isinstance(below, dict):
                raise TokenError("two claims stand in each other's way")
            inner = below
        inner[claim.path[-1]] = values if claim.type == "codes" else values[0]
    for name in ("auth_time", "acr", "authorization_details", "patient"):
        if who.get(name) is not None:
            claims[name] = who[name]
    member = "x5t#S256" if who.get("binding") == "mtls" else "jkt"
    issuer = str(who.get("issuer", ""))
    claims |= {
        "iss": issuer, "sub": who.get("subject"), "client_id": who.get("client"), "aud": "recorded", "jti": who.get("token"),
        "scope": who.get("scope", ""), "iat": now, "exp": now + 300, "cnf": {member: who.get("key")},
    }  # fmt: skip
    return caller_of(claims, issuer=issuer)
