"""What speaks about one request, layer by layer: the patients it limits to, whether a search can say all of it, and the
judge of each resource."""

from dataclasses import dataclass

from gateway.fhir.compartment import subject_parameter
from gateway.fhir.interaction import FhirRequest
from gateway.fhir.outcome import Reason
from gateway.policy.conditions import Condition
from gateway.policy.decision import Judge, Resource, Verdict

Named = tuple[str, Condition]


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
    if layers.denies or not layers.total:
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
        named = {value.removeprefix(prefix) for value in term.values}
        if not named & limits and all(
            "/" not in name and ":" not in name and "|" not in name for name in named
        ):
            return True
    return False


def judge(layers: Layers, type_: str, id_: str | None) -> Judge:
    """The judge of this request: the type and id that were asked for, then every layer. Errors are refusals."""
    scopes, permits, denies, requires = layers.scopes, layers.permits, layers.denies, layers.requires

    def verdict(resource: Resource) -> Verdict:
        if resource.get("resourceType") != type_ or (id_ is not None and resource.get("id") != id_):
            return Verdict(False, (), Reason.NOT_FOUND)
        if layers.types is not None and resource.get("resourceType") not in layers.types:
            return Verdict(False, (), Reason.DETAILS_INSUFFICIENT)
        for name, condition in denies:
            if _holds(condition, resource, on_error=True):
                return Verdict(False, (name,), Reason.POLICY_DENIED)
        for name, condition in requires:
            if not _holds(condition, resource, on_error=False):
                return Verdict(False, (name,), Reason.POLICY_DENIED)
        if not any(_holds(condition, resource, on_error=False) for _, condition in scopes):
            return Verdict(False, (), Reason.SCOPE_INSUFFICIENT)
        holding = tuple(name for name, condition in permits if _holds(condition, resource, on_error=False))
        return Verdict(bool(holding), holding, None if holding else Reason.NO_PERMIT)

    return verdict


def show_nothing(resource: Resource) -> Verdict:
    """The judge of an answer that only counts."""
    return Verdict(False, (), Reason.NO_PERMIT)


def _holds(condition: Condition, resource: Resource, *, on_error: bool) -> bool:
    """Whether the condition holds; a resource on which it cannot be evaluated counts as on_error."""
    try:
        return condition.holds(resource)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError, ArithmeticError):
        return on_error
