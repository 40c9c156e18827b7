"""What speaks about one request, layer by layer: the patients it limits to, whether a search can say all of it, and the
judge of each resource."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gateway.fhir.compartment import subject_parameter
from gateway.fhir.interaction import FhirRequest
from gateway.fhir.outcome import Reason
from gateway.policy.conditions import NOT_TOLD, Condition, holds, looked_at
from gateway.policy.decision import ChangeJudge, Judge, LookingJudge, Resource, Verdict
from gateway.policy.obligations import NO_OBLIGATIONS, Obligations
from gateway.policy.sight import Sight

Named = tuple[str, Condition]
Held = Callable[[Resource], Verdict]
WriteTest = Callable[[Resource | None, Resource | None], bool]  # of the versions before and after


@dataclass(frozen=True, slots=True)
class Layers:
    """Everything that speaks about one request: scopes and permits (one of each must hold), denies, requires."""

    scopes: tuple[Named, ...]
    permits: tuple[Named, ...]
    denies: tuple[Named, ...]
    requires: tuple[Named, ...]
    conceal: bool
    audit: str
    types: frozenset[str] | None  # those that authorization details open; None without details
    page: int | None = None  # entries of a page at most, by the permits
    total: bool = True  # whether the permits let the number of matches be told
    sight: Sight | None = None  # None where every resource is seen as it is
    obligations: Obligations = NO_OBLIGATIONS
    # By rule: of a permit whether it lets a write through, of a deny whether the write changes what it closes.
    writes: Mapping[str, WriteTest] = field(default_factory=dict)
    # By scope, the permits that its filter does not open: it asks for what they hide.
    blind: Mapping[str, frozenset[str]] = field(default_factory=dict)
    # Of what holds other resources: whether all that it holds may pass, and what is seen of it without what is hidden.
    held: Held | None = None


def ids(named: tuple[Named, ...]) -> tuple[str, ...]:
    """The names, for audit."""
    return tuple(name for name, _ in named)


def limit(layers: Layers) -> frozenset[str] | None:
    """The patients that scopes, permits and requires together limit to; None when some way in has no such limit."""
    found: frozenset[str] | None = None
    for layer in (layers.scopes, layers.permits):
        allowed: frozenset[str] | None = frozenset()
        for _, condition in layer:
            allowed = None if allowed is None or condition.patients is None else allowed | condition.patients
        found = allowed if found is None else (found if allowed is None else found & allowed)
    for _, condition in layers.requires:
        if condition.patients is not None:
            found = condition.patients if found is None else found & condition.patients
    return found


def is_exact(layers: Layers) -> bool:
    """Whether the added criteria say all that the judge will check, so that the store's total is right."""
    if layers.denies or layers.blind or layers.held is not None or not layers.total:
        return False
    for layer in (layers.permits, layers.scopes):
        plain = all(condition.exact and not condition.terms for _, condition in layer)
        if not plain and not (len(layer) == 1 and layer[0][1].exact):
            # Scopes place by any parameter of the compartment, permits by the subject: the narrower one decides.
            if layer is layers.scopes and all(not c.terms for _, c in layer) and _limited_by_subject(layers):
                continue
            return False
    return all(condition.exact for _, condition in layers.requires)


def _limited_by_subject(layers: Layers) -> bool:
    return all(condition.exact and condition.patients is not None for _, condition in layers.permits)


def asks_only_for_strangers(asked: FhirRequest, type_: str, limits: frozenset[str]) -> bool:
    """Whether a criterion names patients, by reference or id, of whom the caller may see none."""
    codes = {"_id"} if type_ == "Patient" else {subject_parameter(type_), "patient", "subject"}
    for term in asked.terms:
        if term.code not in codes or term.modifier not in (None, "Patient") or term.chain is not None:
            continue
        prefix = "" if type_ == "Patient" else "Patient/"
        named = {value.removeprefix(prefix).partition("/_history/")[0] for value in term.values}
        # Without a scheme a reference is one of the store's own, and the subject is one patient: Group/g is no A.
        if not named & limits and all(":" not in name and "|" not in name for name in named):
            return True
    return False


def judge(layers: Layers, type_: str, id_: str | None) -> Judge:
    """The judge of this request: the type and id that were asked for, then every layer. Errors are refusals."""
    scopes, permits, requires = layers.scopes, layers.permits, layers.requires
    denies = tuple(each for each in layers.denies if each[0] not in layers.writes)
    shown: dict[tuple[str, ...], Verdict] = {}  # a verdict does not change: entries alike share it
    no_permit = Verdict(False, (), Reason.NO_PERMIT)
    in_scope = tuple(condition.holds for _, condition in scopes)
    # Of what is not permitted, the reason must not tell whether it meets a filter that the caller chose.
    is_filtered = bool(layers.blind) or any(condition.terms for _, condition in scopes)
    permitting = tuple((name, condition.holds) for name, condition in permits)
    held = layers.held

    def verdict(resource: Resource) -> Verdict:
        if resource.get("resourceType") != type_ or (id_ is not None and resource.get("id") != id_):
            return Verdict(False, (), Reason.NOT_FOUND)
        if layers.types is not None and resource.get("resourceType") not in layers.types:
            return Verdict(False, (), Reason.DETAILS_INSUFFICIENT)
        for name, condition in denies:
            if holds(condition, resource, on_error=True):
                return Verdict(False, (name,), Reason.POLICY_DENIED)
        for name, condition in requires:
            if not holds(condition, resource, on_error=False):
                return Verdict(False, (name,), Reason.POLICY_DENIED)
        is_in_scope = False
        for scope in in_scope:
            try:  # as holds() does, which would be half of the cost for each entry
                if scope(resource):
                    is_in_scope = True
                    break
            except NOT_TOLD:
                pass
        if not is_in_scope and not is_filtered:
            return Verdict(False, (), Reason.SCOPE_INSUFFICIENT)
        holding: tuple[str, ...] = ()
        for name, permit in permitting:
            try:
                if permit(resource):
                    holding = (*holding, name)
            except NOT_TOLD:
                pass
        if not holding:
            return no_permit
        if not is_in_scope:
            return Verdict(False, (), Reason.SCOPE_INSUFFICIENT)
        if layers.blind:
            # A filter is not even looked at beside what it may not ask of: the reason would tell what it says.
            holding = tuple([name for name in holding if _is_opened(name, layers, resource)])
            if not holding:
                return Verdict(False, (), Reason.SCOPE_INSUFFICIENT)
        if held is not None:
            return _seen_with_held(_within(held, resource), layers.sight, resource, holding)
        if layers.sight is None:
            return shown.get(holding) or shown.setdefault(holding, Verdict(True, holding))
        return _seen(layers.sight, resource, holding)

    looks_at = _looks_at(layers, id_)
    return verdict if looks_at is None else LookingJudge(verdict, looks_at)


def _looks_at(layers: Layers, id_: str | None) -> frozenset[str] | None:
    """What the judge looks at of a resource that contains no other; None for all of it."""
    if layers.held is not None:
        return None
    if layers.sight is not None and not layers.sight.is_plain(ids(layers.permits)):
        return None
    named = (*layers.scopes, *layers.permits, *layers.requires, *layers.denies)
    found = looked_at(condition for _, condition in named)
    return None if found is None else found | ({"resourceType"} if id_ is None else {"resourceType", "id"})


def _is_opened(permit: str, layers: Layers, resource: Resource) -> bool:
    return any(
        permit not in layers.blind.get(name, ()) and holds(condition, resource, on_error=False)
        for name, condition in layers.scopes
    )


def show_nothing(resource: Resource) -> Verdict:
    """The judge of an answer that only counts."""
    return Verdict(False, (), Reason.NO_PERMIT)


def judge_change(layers: Layers, type_: str, id_: str | None) -> ChangeJudge:
    """The judge of a write: every layer must allow the stored version as well as the one that is to be stored.

    One permit must hold for both: of two permits, one that lets go of a resource and one that takes it, no move is
    made. Denies close a write that either version falls under. Who sees a version only in part does not write it:
    what was hidden would be lost, or be found out.
    """
    one = judge(layers, type_, id_)
    permits = {name for name, _ in layers.permits}

    def verdict(before: Resource | None, after: Resource | None) -> Verdict:
        versions = [version for version in (before, after) if version is not None]
        for name, condition in layers.denies:
            if (
                name in layers.writes
                and any(holds(condition, version, on_error=True) for version in versions)
                and _tested(layers.writes[name], before, after, on_error=True)
            ):
                return Verdict(False, (name,), Reason.POLICY_DENIED)
        holding: tuple[str, ...] | None = None
        for version in versions:
            found = one(version)
            if not found.shown:
                return found
            if found.seen is not None:
                return Verdict(False, found.rules, Reason.POLICY_DENIED)
            holding = tuple(n for n in found.rules if n in permits and (holding is None or n in holding))
        holding = tuple(
            name
            for name in holding or ()
            if name not in layers.writes or _tested(layers.writes[name], before, after, on_error=False)
        )
        return Verdict(bool(holding), holding, None if holding else Reason.NO_PERMIT)

    return verdict


def _tested(test: WriteTest, before: Resource | None, after: Resource | None, *, on_error: bool) -> bool:
    try:
        return test(before, after)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError, ArithmeticError):
        return on_error


def _within(held: Held, resource: Resource) -> Verdict:
    try:
        return held(resource)
    except NOT_TOLD:
        return Verdict(False, (), Reason.POLICY_DENIED)  # what cannot be walked cannot be hidden


def _seen_with_held(
    within: Verdict, sight: Sight | None, resource: Resource, holding: tuple[str, ...]
) -> Verdict:
    """What is seen of a holder of others, of which this is seen by what it holds."""
    if not within.shown:
        return within
    left = resource if within.seen is None else within.seen
    verdict = Verdict(True, holding) if sight is None else _seen(sight, left, holding)
    if not verdict.shown:
        return verdict
    return replace(
        verdict, rules=tuple(dict.fromkeys((*verdict.rules, *within.rules))), seen=verdict.seen or within.seen
    )


def _seen(sight: Sight, resource: Resource, holding: tuple[str, ...]) -> Verdict:
    try:
        seen, taking = sight.see(resource, holding)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError, ArithmeticError):
        # What cannot be walked cannot be hidden.
        return Verdict(False, holding, Reason.POLICY_DENIED)
    return Verdict(True, (*holding, *taking), seen=None if seen is resource else seen)
