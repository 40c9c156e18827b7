"""Rules that cannot do what they were written for: those that never match, and permits that a deny covers whole.

Only what is certain is said: a rule that is named here does nothing for any caller, request and resource.
"""

from collections.abc import Collection, Iterable, Sequence

from gateway.fhir.definitions import patient_compartment
from gateway.fhir.interaction import Interaction
from gateway.policy.inquiries.plain import conditions
from gateway.policy.rules import Dimension, Effect, Network, Rule
from gateway.yaml_source import Problem, did_you_mean

_ONE_VALUE = frozenset({"context", "client", "bound", "issuer"})


def warnings(rules: Sequence[Rule]) -> list[Problem]:
    """What is to be said of the rules of one set, at the place of each."""
    found = []
    denies = [rule for rule in rules if rule.effect is Effect.DENY and has_no_way_out(rule)]
    for rule in rules:
        name = rule.id.rpartition("/")[2]
        why = never_matches(rule)
        if why is not None:
            found.append(rule.place.problem(f"rule '{name}' can never match: {why}", warning=True))
        elif rule.effect is Effect.PERMIT:
            cover = next((deny for deny in denies if covers(deny, rule)), None)
            if cover is not None:
                said = f"permit '{name}' opens nothing: the deny '{cover.id.rpartition('/')[2]}' covers all of it"
                found.append(rule.place.problem(said, warning=True))
    return found


def of_their_own(rules: Iterable[Rule]) -> list[Problem]:
    """What is to be said of rules that are not in force, each by itself."""
    found = []
    for rule in rules:
        why = never_matches(rule)
        if why is not None:
            said = f"rule '{rule.id.rpartition('/')[2]}' can never match: {why}"
            found.append(rule.place.problem(said, warning=True))
    return found


def not_valid(rules: Iterable[Rule], now: int) -> list[Problem]:
    """The policies that are expired by now, or not valid yet, at the place that says so."""
    times = dict.fromkeys(rule.valid for rule in rules if rule.valid is not None)
    return [problem for valid in times if (problem := valid.warning(now)) is not None]


def unknown_receivers(rules: Iterable[Rule], known: Collection[str]) -> list[Problem]:
    """Rules that notify somebody whom the configuration does not know: they cannot be put in force there."""
    return [
        rule.place.problem(
            f"rule '{rule.id.rpartition('/')[2]}' notifies '{name}', which is no receiver of"
            f" 'notifications' in the configuration.{did_you_mean(name, known)}"
        )
        for rule in rules
        for name in rule.then.notify
        if name not in known
    ]


def never_matches(rule: Rule) -> str | None:
    """Why no request can ever be one that this rule is about; None when one can."""
    for dimension in rule.who:
        if not dimension.values and not dimension.negated:
            return f"nobody has a {dimension.name} of an empty set"
    if rule.networks == ():
        return "no address lies in an empty set of networks"
    if rule.resources is not None and not rule.resources:
        return "its set of resource types is empty"
    if rule.effect is not Effect.PERMIT:
        return None
    where = rule.where
    if where.ids is not None and not where.ids:
        return "no resource has an id of an empty set"
    if (
        where.compartment is not None
        and where.compartment.patient.claim is None
        and where.compartment.patient.fact is None
        and not where.compartment.patient.words
    ):
        return "nothing belongs to an empty set of patients"
    if where.match and rule.resources is not None and rule.resources.isdisjoint(where.match):
        return "'match' speaks of other resource types than 'resources'"
    contexts = [d for d in rule.who if d.name == "context" and not d.negated]
    only_patients = any(dimension.values == {"patient"} for dimension in contexts)
    if only_patients and not rule.shared and rule.resources is not None and where.binary is None:
        outside = [t for t in rule.resources if t != "Patient" and not patient_compartment(t)]
        if len(outside) == len(rule.resources):
            return "a patient's app reaches what is of no patient only where it is said to be 'shared: true'"
    return None


def covers(deny: Rule, permit: Rule) -> bool:
    """Whether whatever the permit could open is closed by the deny, which has no condition on resources."""
    if not permit.may <= deny.may:
        return False
    if Interaction.OPERATION in permit.may and permit.operation != deny.operation:
        return False
    if deny.resources is not None and (permit.resources is None or not permit.resources <= deny.resources):
        return False
    if deny.networks is not None and (
        permit.networks is None or not all(_lies_in(network, deny.networks) for network in permit.networks)
    ):
        return False
    spoken = {dimension.name: dimension for dimension in permit.who}
    return all(_is_implied(dimension, spoken.get(dimension.name)) for dimension in deny.who)


def has_no_way_out(deny: Rule) -> bool:
    """Whether a deny asks for nothing but who, where from, what: a condition that is new to us is a way out."""
    return deny.fields is None and set(conditions(deny)) <= {"networks"}


def _is_implied(wanted: Dimension, given: Dimension | None) -> bool:
    """Whether everybody whom given accepts is accepted by wanted too. A claim may have several values at once."""
    if given is None:
        return False
    if wanted.negated and given.negated:
        return wanted.values <= given.values
    if wanted.negated:
        return given.name in _ONE_VALUE and given.values.isdisjoint(wanted.values)
    return not given.negated and given.values <= wanted.values


def _lies_in(network: Network, others: Iterable[Network]) -> bool:
    return any(
        other.version == network.version and network.subnet_of(other)  # type: ignore[arg-type]
        for other in others
    )
