"""Policies in shadow, decided beside those in force: what each would change, for the record alone.

A request is decided by the policies in force and, for each policy in shadow, once more as if it were enforced. What
differs is written down; the answer is never another one, also when the shadow fails. Facts and consents that the
request itself did not need are not looked up: where they would decide, nothing can be told.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Any

from authz.protocol.tokens import Caller
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.policy.decision import (
    ChangeJudge,
    Decision,
    Deny,
    Environment,
    Judge,
    Nothing,
    Permit,
    Resource,
    Verdict,
)
from gateway.policy.engine import Engine
from gateway.policy.known import Known

_MOST_RESOURCES = 1000  # of one request; what comes after them is not compared
_OF_MANY = frozenset(
    {
        Interaction.SEARCH, Interaction.OPERATION,
        Interaction.HISTORY_INSTANCE, Interaction.HISTORY_TYPE, Interaction.HISTORY_SYSTEM,
    }
)  # fmt: skip


class Would(StrEnum):
    """What a policy in shadow would do to an answer, were it enforced."""

    PERMIT = "permit"  # give what is refused, or show more
    DENY = "deny"  # refuse what is given
    HIDE = "hide"  # show fewer entries, or less of a resource
    UNKNOWN = "unknown"  # it could not be told


@dataclass(slots=True)
class Difference:
    """What one policy in shadow would change. resources: what would become of each, by its name and version."""

    policy: str
    request: Would | None = None
    rules: tuple[str, ...] = ()
    resources: dict[str, tuple[Would | None, tuple[str, ...]]] = field(default_factory=dict)
    is_of_many: bool = False

    @property
    def would(self) -> frozenset[Would]:
        """Everything that it would do; empty where nothing differs."""
        if self.request is not None:
            return frozenset({self.request})
        return frozenset(would for would, _ in self.resources.values() if would is not None)

    @property
    def deciding(self) -> tuple[str, ...]:
        """Its rules by which something would differ."""
        changed = (by for would, by in self.resources.values() if would is not None)
        return tuple(dict.fromkeys((*self.rules, *(rule for by in changed for rule in by))))

    def as_record(self) -> dict[str, object]:
        """What the audit record says of it: the policy, what it would do by which of its rules, and to how many entries."""
        said: dict[str, object] = {
            "policy": self.policy,
            "would": sorted(self.would),
            "rules": list(self.deciding),
        }
        if self.request is None and self.is_of_many:
            words = [would for would, _ in self.resources.values()]
            said["entries"] = {str(word): words.count(word) for word in sorted(self.would)}
        return said


class Shadows:
    """The shadow of one request."""

    def __init__(self) -> None:
        self._differences: dict[str, Difference] = {}
        self._counted: set[tuple[str, Would]] = set()
        self._entries: list[Shadows] = []

    def of_entry(self) -> "Shadows":
        """The shadow of an entry of this Bundle: on the entry's record, and counted with the Bundle."""
        self._entries.append(Shadows())
        return self._entries[-1]

    def beside(
        self,
        engine: Engine,
        asked: FhirRequest,
        caller: Caller,
        environment: Environment,
        criteria: tuple[SearchTerm, ...],
        decision: Decision,
    ) -> Decision:
        """The decision as it was, with judges that compare what they judge. Never raises."""
        for policy, shadow in engine.shadows.items():
            difference = Difference(policy, is_of_many=asked.interaction in _OF_MANY)
            self._differences[policy] = difference
            aside = Aside(environment.known)
            try:
                other = shadow.decide(asked, caller, replace(environment, known=aside), criteria=criteria)
                decision = _compared(difference, decision, other, aside)
            except Exception:
                difference.request = Would.UNKNOWN
        return decision

    @property
    def differences(self) -> tuple[Difference, ...]:
        """What each policy would change that would change something."""
        return tuple(each for each in self._differences.values() if each.would)

    def record(self) -> list[dict[str, object]]:
        """What the audit record says: one item for each policy that would change something."""
        return [each.as_record() for each in self.differences]

    def uncounted(self) -> Iterator[tuple[str, str]]:
        """Policy and what it would do, each once for a request or an entry, however often this is asked."""
        for entry in self._entries:
            yield from entry.uncounted()
        for each in self._differences.values():
            for would in sorted(each.would):
                if (each.policy, would) not in self._counted:
                    self._counted.add((each.policy, would))
                    yield each.policy, str(would)


class Aside(Known):
    """What is known at the request, without asking for more and without a trace in what decides it."""

    def __init__(self, known: Known) -> None:
        super().__init__()
        self.facts = known.facts
        self.consents = known.consents
        self.labels = known.labels

    def told(self) -> bool:
        """Whether nothing was missed since this was asked last."""
        found = not self._gaps
        self._gaps.clear()
        self.wanted()
        return found


def _compared(difference: Difference, decision: Decision, other: Decision, aside: Aside) -> Decision:
    """Note what differs in the decision itself, and compare what its judges say."""
    if not aside.told() and type(decision) is not type(other):
        difference.request = Would.UNKNOWN
        return decision
    difference.rules = _own(difference, other.rules)
    match decision, other:
        case Deny(), Permit() | Nothing():
            difference.request = Would.PERMIT
        case Permit() | Nothing(), Deny():
            difference.request = Would.DENY
        case Permit(), Nothing():
            difference.request = Would.HIDE
        case Nothing(), Permit():
            difference.request = Would.PERMIT
        case Permit() as given, Permit() as would:
            difference.rules = ()
            return _judging(difference, given, would, aside)
        case _:
            difference.rules = ()
    return decision


def _judging(difference: Difference, given: Permit, would: Permit, aside: Aside) -> Permit:
    beside = partial(_beside, difference, aside)
    judges = {type_: beside(judge, would.judges.get(type_)) for type_, judge in given.judges.items()}
    included = given.included
    if included is not None:
        others: Mapping[str, Judge] = {} if would.included is None else would.included.judges
        found = {type_: beside(judge, others.get(type_)) for type_, judge in included.judges.items()}
        included = replace(included, judges=found)
    change, list_ = given.judge_change, given.by_list
    if list_ is not None:
        other = None if would.by_list is None else would.by_list.judge
        list_ = replace(list_, judge=beside(list_.judge, other))
    return replace(
        given,
        by_list=list_,
        judge=None if given.judge is None else beside(given.judge, would.judge),
        judges=judges,
        included=included,
        judge_change=None
        if change is None
        else _beside_change(difference, aside, change, would.judge_change),
    )


def _beside(difference: Difference, aside: Aside, judge: Judge, other: Judge | None) -> Judge:
    def verdict(resource: Resource) -> Verdict:
        found = judge(resource)
        _note(difference, aside, _name(resource), found, None if other is None else partial(other, resource))
        return found

    return verdict


def _beside_change(
    difference: Difference, aside: Aside, change: ChangeJudge, other: ChangeJudge | None
) -> ChangeJudge:
    def verdict(before: Resource | None, after: Resource | None) -> Verdict:
        found = change(before, after)
        told = None if other is None else partial(other, before, after)
        _note(difference, aside, "change", found, told)
        return found

    return verdict


def _note(
    difference: Difference, aside: Aside, name: str, found: Verdict, other: Callable[[], Verdict] | None
) -> None:
    """Note what another verdict on a resource would be; the last one counts, when it is judged several times."""
    resources = difference.resources
    if name not in resources and len(resources) >= _MOST_RESOURCES:
        return
    try:
        aside.told()
        would = Verdict(False, ()) if other is None else other()
        changes = _change(difference, found, would)
        if not aside.told() and changes is not None:
            changes = Would.UNKNOWN
        resources[name] = changes, _own(difference, would.rules)
    except Exception:
        resources[name] = Would.UNKNOWN, ()


def _change(difference: Difference, found: Verdict, would: Verdict) -> Would | None:
    if found.shown is not would.shown:
        if would.shown:
            return Would.PERMIT
        return Would.HIDE if difference.is_of_many else Would.DENY
    if not found.shown or (found.seen is None and would.seen is None) or found.seen == would.seen:
        return None
    if found.seen is None or (would.seen is not None and _size(would.seen) < _size(found.seen)):
        return Would.HIDE
    return Would.PERMIT


def _size(value: Any) -> int:
    if isinstance(value, Mapping):
        return 1 + sum(map(_size, value.values()))
    return 1 + sum(map(_size, value)) if isinstance(value, list) else 1


def _own(difference: Difference, rules: tuple[str, ...]) -> tuple[str, ...]:
    """The rules of the policy among these."""
    return tuple(rule for rule in rules if rule.rpartition("/")[0] == difference.policy)


def _name(resource: Resource) -> str:
    meta = resource.get("meta")
    version = meta.get("versionId") if isinstance(meta, Mapping) else None
    return f"{resource.get('resourceType')}/{resource.get('id')}/{version}"
