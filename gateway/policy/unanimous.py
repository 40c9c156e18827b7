"""Judges of one resource who must agree: the narrowest of what each of them shows."""

from collections.abc import Mapping, Sequence

from gateway.fhir.outcome import Reason
from gateway.policy.decision import Judge, LookingJudge, Resource, Verdict


def unanimous(judges: Sequence[Judge]) -> Judge:
    """The judge who shows what every one of them shows, and of it only what is seen by every one."""

    def verdict(resource: Resource) -> Verdict:
        rules: dict[str, None] = {}
        seen: object = resource
        for judge in judges:
            found = judge(resource)  # the whole of it: what is hidden counts, too
            if not found.shown:
                return found
            rules.update(dict.fromkeys(found.rules))
            if found.seen is not None:
                seen = found.seen if seen is resource else _common(seen, found.seen)
        if not isinstance(seen, Mapping) or seen.get("resourceType") != resource.get("resourceType"):
            return Verdict(False, tuple(rules), Reason.POLICY_DENIED)
        return Verdict(True, tuple(rules), seen=None if seen is resource else seen)

    looking = [judge for judge in judges if isinstance(judge, LookingJudge)]
    if len(looking) < len(judges):
        return verdict
    return LookingJudge(verdict, frozenset({"resourceType"}).union(*(judge.looks_at for judge in looking)))


_NOTHING = object()


def _common(one: object, other: object) -> object:
    """What two views of one resource both show; lists of which one view lost an item are left out."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        pairs = ((name, _common(one[name], other[name])) for name in one if name in other)
        return {name: value for name, value in pairs if value is not _NOTHING}
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        items = [_common(*pair) for pair in zip(one, other, strict=True)]
        return _NOTHING if any(item is _NOTHING for item in items) else items
    return one if type(one) is type(other) and one == other else _NOTHING
