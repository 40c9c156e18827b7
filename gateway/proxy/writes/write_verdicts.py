"""One write, and the verdicts on it: may it be asked, may the stored version be written, may it become the new one."""

from dataclasses import dataclass
from typing import Any

from authz.protocol.request import HttpRequest
from authz.protocol.tokens import Caller
from gateway.fhir.interaction import FhirRequest
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Decision, Environment, Permit, Verdict
from gateway.policy.engine import Engine
from gateway.proxy.answers.delivery import settle
from gateway.proxy.documents.attachments import Asking
from gateway.proxy.trail import Trail
from gateway.proxy.writes.conditional_writes import Found


@dataclass(frozen=True, slots=True)
class Write:
    """One write that the engine lets go on: who asks for what, and everything that decides."""

    http: HttpRequest
    trail: Trail
    permit: Permit
    caller: Caller
    engine: Engine
    environment: Environment
    found: Found | None = None  # by the criteria of a conditional write
    fresh: frozenset[str] = frozenset()  # ids that stand for resources which are made in the same transaction

    @property
    def asking(self) -> Asking:
        """Who asks, and by what it is decided."""
        return Asking(self.http, self.trail, self.caller, self.engine, self.environment)

    @property
    def place(self) -> str:
        """Type and id, as the store is asked for it."""
        return f"{self.permit.request.type}/{self.permit.request.id}"


async def decided(write: Write, asked: FhirRequest) -> Decision:
    """The decision on another request of whoever asks for the write, with what it needs to know found out."""

    def decide() -> Decision:
        return write.engine.decide(asked, write.caller, write.environment)

    return await write.trail.knowledge.decided(decide)


async def judged(write: Write, permit: Permit, version: dict[str, Any]) -> Verdict:
    """The verdict on a version of the resource. Raises FhirError(INTERNAL) without a judge."""
    await settle(write.trail, permit, version)
    if permit.judge is None:
        raise FhirError(Reason.INTERNAL)
    return permit.judge(version)


async def changed(
    write: Write, permit: Permit, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> Verdict:
    """The verdict on a change: None before for what is made, after for what is deleted. Raises FhirError(INTERNAL)."""
    change = permit.judge_change
    if change is None:
        raise FhirError(Reason.INTERNAL)
    await write.trail.knowledge.settle([lambda: change(before, after).shown])
    return change(before, after)


def check(trail: Trail, verdict: Verdict, *, conceal: bool) -> None:
    """Raise FhirError unless the version, or the change, is allowed."""
    trail.rules = verdict.rules or trail.rules
    if not verdict.shown:
        trail.decision = "deny"
        raise FhirError(Reason.NOT_FOUND if conceal else verdict.reason or Reason.POLICY_DENIED)
