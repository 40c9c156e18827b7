"""Property P3: no search, compartment, version or history shows anything that a read of it would not show.

Policies and data are drawn at random; rules open reads together with the other ways, and so do the scopes. For every
resource that a way shows, the same caller reads it by its id, and sees it, and at least as much of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from gateway.policy.decision import Decision, Environment, Permit
from gateway.policy.engine import Engine
from tests.model import policy_model as model
from tests.model.seeds import over_seeds
from tests.model.test_policy_model import engine, words_of
from tests.model.worlds import World, known_of
from tests.support.policies import ask

WAYS = ["read", "vread", "history-instance", "search"]
WORLDS = over_seeds(120)
Resource = dict[str, Any]


def policies(world: World) -> list[dict[str, Any]]:
    """Policies whose rules are about all ways of seeing, or about everything."""
    found = world.policies()
    for policy in found:
        for rule in policy["rules"]:
            rule["may"] = ["any"] if rule["may"] == ["any"] else WAYS
    return found


def decide(judge: Engine, asker: model.Asker, path: str) -> Decision:
    """What the engine says to this caller about a path."""
    _, who = words_of(asker)
    return judge.decide(ask(f"GET {path}"), who, Environment(asker.now, asker.peer, known=known_of(asker)))


def seen(decision: Decision, resource: Resource) -> Mapping[str, Any] | None:
    """What of the resource the decision shows; None for nothing."""
    if not isinstance(decision, Permit) or decision.judge is None:
        return None
    verdict = decision.judge(resource)
    if not verdict.shown:
        return None
    return resource if verdict.seen is None else verdict.seen


def paths(resource: Resource) -> Iterator[str]:
    """Ways to the resource beside a read."""
    type_, id_ = resource["resourceType"], resource["id"]
    yield f"/{type_}/{id_}/_history/1"
    yield f"/{type_}/{id_}/_history"
    yield f"/{type_}"
    yield f"/{type_}?_id={id_}"
    if type_ in model.SUBJECT and type_ != "Account":
        yield from (f"/{type_}?subject=Patient/{patient}" for patient in ("A", "B"))
        yield f"/Patient/A/{type_}"


@WORLDS
def test_P3_no_way_shows_more_than_a_read(seed: int) -> None:
    world = World(seed)
    judge = engine(policies(world))
    for _ in range(12):
        drawn = world.asker()
        scopes = tuple((type_, "rs", query) for type_, _, query in drawn.scopes)
        asker = replace(drawn, interaction="read", id="A", scopes=scopes)
        for resource in (world.resource(asker) for _ in range(4)):
            read = seen(decide(judge, asker, f"/{resource['resourceType']}/{resource['id']}"), resource)
            for path in paths(resource):
                shown = seen(decide(judge, asker, path), resource)
                if shown is None:
                    continue
                assert read is not None, (path, resource, asker)
                assert is_part(shown, read), (path, shown, read)


def is_part(shown: Any, read: Any) -> bool:
    """Whether all that is shown is read as well. Tags, and marks in place of what is hidden, are no part of it."""
    if isinstance(shown, Mapping):
        names = [name for name in shown if name != "meta" and not name.startswith("_")]
        mark = shown.keys() == {"extension"}
        return mark or (
            isinstance(read, Mapping) and all(n in read and is_part(shown[n], read[n]) for n in names)
        )
    if isinstance(shown, list):
        return isinstance(read, list) and all(any(is_part(item, other) for other in read) for item in shown)
    return bool(shown == read)


def test_the_ways_are_taken_and_show_something() -> None:
    """The property above is about something: many reads and searches of these worlds show what they are asked for."""
    counted = dict.fromkeys(("read", "other"), 0)
    for seed in range(120):
        world = World(seed)
        judge = engine(policies(world))
        drawn = world.asker()
        asker = replace(
            drawn, interaction="read", id="A", scopes=tuple((t, "rs", q) for t, _, q in drawn.scopes)
        )
        for resource in (world.resource(asker) for _ in range(4)):
            place = f"/{resource['resourceType']}/{resource['id']}"
            counted["read"] += seen(decide(judge, asker, place), resource) is not None
            counted["other"] += sum(
                seen(decide(judge, asker, path), resource) is not None for path in paths(resource)
            )
    assert min(counted.values()) > 20, counted
