"""Why a request is decided as it is: every scope, every rule about it, and each rule condition by condition.

Nothing here interprets the language. The engine is asked again, about one scope or one condition at a time, and what
it answers is what is shown; a request that nobody wants explained pays nothing for it.
"""

from dataclasses import dataclass, fields, replace

from authz.protocol.tokens import Caller
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.outcome import Reason
from gateway.policy import by_list
from gateway.policy.decision import Decision, Deny, Environment, Permit, Resource, Verdict
from gateway.policy.engine import Engine
from gateway.policy.inquiries.explanation_parts import Outcome, RuleExplanation, ScopeExplanation, Truth
from gateway.policy.inquiries.inquiry import Inquiry
from gateway.policy.inquiries.plain import plain
from gateway.policy.rules import Effect, Rule
from gateway.policy.shadow import Aside, Difference, Shadows

_OF_THE_ANSWER = frozenset(
    {"request", "judge", "rules", "reason", "explanation", "by_search", "by_list", "leaves_to_judge"}
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole reasoning. opens: what the scopes leave of the request, whatever rules say. verdict: on the resource.

    shadow: what policies in shadow would change, were they enforced.
    """

    asked: FhirRequest
    decision: Decision
    opens: Truth
    scopes: tuple[ScopeExplanation, ...]
    rules: tuple[RuleExplanation, ...]
    verdict: Verdict | None
    shadow: tuple[Difference, ...] = ()

    @property
    def allowed(self) -> Truth:
        """Whether the request is allowed; open while it depends on a resource that was not given."""
        if isinstance(self.decision, Deny):
            return Truth.FALSE
        if self.verdict is not None:
            return Truth.TRUE if self.verdict.shown else Truth.FALSE
        if isinstance(self.decision, Permit) and self.asked.interaction is not Interaction.SEARCH:
            return Truth.TRUE if _is_certain(self) else Truth.OPEN
        return Truth.TRUE

    @property
    def reason(self) -> Reason | None:
        """The reason code of a refusal."""
        if isinstance(self.decision, Deny):
            return self.decision.reason
        return self.verdict.reason if self.verdict is not None else None


def explain(
    engine: Engine,
    asked: FhirRequest,
    caller: Caller,
    environment: Environment,
    *,
    resource: Resource | None = None,
) -> Explanation:
    """Why the engine decides so; resource is what is stored, or what is to be stored."""
    shadows = Shadows()
    decision = engine.decide(asked, caller, environment)
    decision = shadows.beside(engine, asked, caller, environment, (), decision)
    if isinstance(decision, Permit):  # that the List of a search must be read first is said by itself
        decision = replace(by_list.read(decision), by_list=decision.by_list)
    verdict = None
    judges = isinstance(decision, Permit) and decision.judge is not None and decision.by_search is None
    if resource is not None and isinstance(decision, Permit) and judges and decision.judge is not None:
        verdict = decision.judge(resource)
    # Rules that decide nothing here are explained by what is known anyway.
    inquiry = Inquiry(engine, asked, caller, replace(environment, known=Aside(environment.known)), resource)
    scopes = inquiry.scopes()
    opens = inquiry.opens(caller)
    rules = inquiry.rules(engine.policies.rules)
    return Explanation(asked, decision, opens[0], scopes, rules, verdict, shadows.differences)


def _is_certain(explanation: Explanation) -> bool:
    """Whether no resource could make it a refusal; the type of what is stored is the store's affair."""
    outcomes = {each.outcome for each in explanation.rules}
    return (
        explanation.opens is Truth.TRUE
        and Outcome.PERMITS in outcomes
        and not any(each.outcome is Outcome.OPEN and _closes(each.rule) for each in explanation.rules)
    )


def _closes(rule: Rule) -> bool:
    return rule.effect is not Effect.PERMIT and rule.fields is None


def obligations(decision: Decision) -> dict[str, object]:
    """What comes with a decision beside yes and no: what is added to a search, the audit level, the answer's form."""
    return {
        field.name: plain(getattr(decision, field.name))
        for field in fields(decision)
        if field.name not in _OF_THE_ANSWER
    }
