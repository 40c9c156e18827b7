"""An explanation for people, line by line, and for programs, as JSON."""

import json

from gateway.fhir import request_target
from gateway.fhir.outcome import REASONS
from gateway.policy.decision import Nothing, Permit
from gateway.policy.inquiries.explanation import Explanation, obligations
from gateway.policy.inquiries.explanation_parts import Part, RuleExplanation, Truth
from gateway.policy.inquiries.plain import plain

_MARKS = {Truth.TRUE: "+", Truth.FALSE: "-", Truth.OPEN: "?"}
_ANSWERS = {
    Truth.TRUE: "permit",
    Truth.FALSE: "deny",
    Truth.OPEN: "permit, if the resource is one that the rules open",
}


def as_json(explanation: Explanation) -> dict[str, object]:
    """The explanation as one JSON value."""
    decision, verdict, reason = explanation.decision, explanation.verdict, explanation.reason
    found: dict[str, object] = {
        "decision": _word(explanation),
        "reason": None if reason is None else str(reason),
        "depends_on_resource": explanation.allowed is Truth.OPEN,
        "explanation": "" if isinstance(decision, Permit) else decision.explanation,
        "deciding_rules": list(_deciding(explanation)),
        "obligations": obligations(decision),
        "scopes": [{"scope": s.scope, "counts": str(s.holds), "why": s.why} for s in explanation.scopes],
        "rules": [_rule(each) for each in explanation.rules],
    }
    if isinstance(decision, Permit):
        found["upstream"] = f"{decision.request.method} /{request_target.upstream_target(decision.request)}"
        if decision.by_list is not None:
            found["reads_first"] = f"List/{decision.by_list.id}"
    if explanation.shadow:
        found["shadow"] = [shadow.as_record() for shadow in explanation.shadow]
    if verdict is not None:
        found["resource"] = {"shown": verdict.shown, "rules": list(verdict.rules)}
    return found


def as_lines(explanation: Explanation) -> list[str]:
    """The explanation as text."""
    decision, reason = explanation.decision, explanation.reason
    lines = [f"decision: {_ANSWERS[explanation.allowed]}"]
    if reason is not None:
        lines.append(f"reason: {reason} ({REASONS[reason][2]})")
    if not isinstance(decision, Permit) and decision.explanation:
        lines.append(f"why: {decision.explanation}")
    if isinstance(decision, Nothing):
        lines.append("answer: an empty result; the store is not asked")
    if isinstance(decision, Permit):
        lines.append(
            f"the store is asked: {decision.request.method} /{request_target.upstream_target(decision.request)}"
        )
        lines += [f"  added: {term}" for term in decision.added]
        if decision.by_list is not None:
            lines.append(f"  once a read of List/{decision.by_list.id} shows it whole; else nothing is found")
    for name, value in obligations(decision).items():
        if name != "added" and value not in (None, False, [], {}):
            lines.append(f"{name}: {_text(value)}")
    if explanation.verdict is not None:
        said = "is shown" if explanation.verdict.shown else "is not shown"
        lines.append(f"the resource {said}: {', '.join(explanation.verdict.rules) or 'no rule'}")
    for shadow in explanation.shadow:
        would, rules = " and ".join(sorted(shadow.would)), ", ".join(shadow.deciding)
        lines.append(f"in shadow, policy {shadow.policy} would: {would}, by {rules or 'no rule of its own'}")
    lines.append("")
    lines.append("scopes:" if explanation.scopes else "scopes: none")
    lines += [f"  {_MARKS[each.holds]} {each.scope}: {each.why}" for each in explanation.scopes]
    lines.append("")
    lines.append(
        "rules about it:" if explanation.rules else "rules about it: none were asked, or there are none"
    )
    for each in explanation.rules:
        rule = each.rule
        lines.append(f"  {rule.effect} {rule.id}: {each.outcome}")
        lines += [f"    {_MARKS[part.holds]} {_part(part)}" for part in each.parts]
        if rule.returned is not None:
            lines.append(f"    shows: {_text(plain(rule.returned))}")
        if rule.fields is not None:
            lines.append(f"    takes away: {_text(plain(rule.fields))}")
        if rule.because:
            lines.append(f"    because: {rule.because}")
    lines += ["", "+ holds   - does not hold   ? depends on the resource"]
    return lines


def _word(explanation: Explanation) -> str:
    return "deny" if explanation.allowed is Truth.FALSE else "permit"


def _deciding(explanation: Explanation) -> tuple[str, ...]:
    if explanation.verdict is not None:
        return explanation.verdict.rules
    return explanation.decision.rules


def _rule(each: RuleExplanation) -> dict[str, object]:
    return {
        "rule": each.rule.id,
        "effect": str(each.rule.effect),
        "outcome": str(each.outcome),
        "place": plain(each.rule.place),
        "because": each.rule.because,
        "shows": plain(each.rule.returned),
        "takes_away": plain(each.rule.fields),
        "conditions": [
            {"name": p.name, "wanted": p.wanted, "found": p.found, "holds": str(p.holds)} for p in each.parts
        ],
    }


def _part(part: Part) -> str:
    found = "" if not part.name.startswith("who.") else f", found {_text(part.found)}"
    return f"{part.name}: wanted {_text(part.wanted)}{found}"


def _text(value: object) -> str:
    if value is None:
        return "nothing"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
