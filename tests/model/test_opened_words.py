"""P3 for what `query: open` opens: a filter, a List or full text tells nothing of what no read shows.

The same search is put, through the real passage, to two honest stores that differ in one resource of which single
reads of this caller say the same: it is hidden in both, or what differs in it is. The answers must be the same; those
of full text in how full their pages are as well.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.model.brute_store import BruteStore, Resource
from tests.model.charts import Chart, engine_of
from tests.model.passages import Door, Reply
from tests.model.seeds import over_seeds
from tests.model.test_ways_through_the_passage import PEER, plain, resources

CHARTS = over_seeds(110)
_seen: Counter[str] = Counter()


class OpenChart(Chart):
    """A chart whose policies open all of it by name, and of which fewer close something."""

    def permit(self, number: int) -> dict[str, Any]:
        """A rule that opens searches."""
        rule = super().permit(number)
        if self.one_in(2):
            rule = {name: said for name, said in rule.items() if name not in ("where", "return")} | {
                "shared": True
            }
        if "search" in rule["may"] and not self.one_in(5):
            rule["query"] = {"open": ["_filter", "_list", "_text", "_content"]}
        return rule

    def rules(self) -> list[dict[str, Any]]:
        """Rules that the language takes."""
        for _ in range(50):
            rules = [self.permit(n) for n in range(self.random.randint(1, 3))]
            rules += [self.closing(0)] if self.one_in(3) else []
            if engine_of(rules, or_none=True) is not None:
                return rules
        raise AssertionError("no policy could be drawn")

    def closing(self, number: int) -> dict[str, Any]:
        """A rule that closes; now and then it takes the names of people."""
        if not self.one_in(3):
            return super().closing(number)
        rule = {
            "rule": f"d{number}",
            "effect": "deny",
            "may": ["any"],
            "resources": ["Patient", "Practitioner"],
        }
        return {**rule, "fields": ["name"], "because": "x"}

    def others(self, old: Resource) -> Iterator[Resource]:
        """The resource as it might be as well: drawn anew, and without one of its members, or with another."""
        new = self.drawn(old["resourceType"], old["id"], int(old["meta"]["versionId"]))
        yield new
        yield json.loads(re.sub(r', "display": "[^"]*"', "", json.dumps(old)))
        members = sorted(old.keys() - {"resourceType", "id", "meta"})
        for name in self.some(members, 3):
            rest = {key: value for key, value in old.items() if key != name}
            yield {**rest, name: new[name]} if name in new and new[name] != old[name] else rest


async def told(door: Door, target: str) -> tuple[Any, Any]:
    """What a search shows on all its pages, and how full each of them is."""
    shown: list[Resource] = []
    pages: list[Any] = []
    reply: Reply = await door.ask("GET", target)
    while True:
        value = reply.json
        shown += resources(value) if reply.status == 200 else []
        links = {link["relation"]: link["url"] for link in value.get("link", [])}
        pages.append((reply.status, value.get("total"), len(value.get("entry", [])), sorted(links)))
        if reply.status != 200 or "next" not in links:
            return (reply.status, shown), pages
        reply = await door.ask("GET", links["next"])


async def play(seed: int) -> None:
    chart = OpenChart(seed)
    engine, who = engine_of(chart.rules()), chart.caller()
    held = {place: each[-1:] for place, each in chart.versions().items()}

    def door(versions: dict[str, list[Resource]]) -> Door:
        return Door(engine, who, BruteStore(versions), now=chart.now, peer=PEER)

    async def read(place: str, resource: Resource) -> Any:
        reply = await door({place: [resource]}).ask("GET", f"/{place}")
        return plain(reply.json) if reply.status == 200 else None

    searches = [chart.opened_search() for _ in range(8)]
    before = {target: await told(door(held), target) for target in searches}
    for target, ((status, shown), _) in before.items():
        word = next((w for w in ("_filter", "_list") if w in target), "full text")
        _seen[f"{word} {status}"] += 1
        _seen[f"{word} shown"] += len(shown)
    opened = [target for target, ((status, _), _) in before.items() if status == 200]
    for place in sorted(held) if opened else ():
        (old,) = held[place]
        is_read = await read(place, old)
        for new in chart.others(old):
            if is_read != await read(place, new):
                continue
            _seen["in part" if is_read else "hidden"] += 1
            other = door({**held, place: [new]})
            for target in opened:
                said, pages = await told(other, target)
                _seen["compared"] += 1
                assert said == before[target][0], (seed, target, place)
                if "_text" in target or "_content" in target:
                    _seen["pages"] += 1
                    assert pages == before[target][1], (seed, target, place)


@CHARTS
def test_P3_what_is_opened_by_name_tells_nothing_that_a_read_would_hide(seed: int) -> None:
    asyncio.run(play(seed))


def test_enough_was_opened_and_shown_and_compared() -> None:
    """The law above would say nothing if everything were refused."""
    if not _seen:  # in a process that has not played it
        test_P3_what_is_opened_by_name_tells_nothing_that_a_read_would_hide()
    for word in ("_filter", "_list", "full text"):
        assert _seen[f"{word} shown"] >= 10, _seen
        assert _seen[f"{word} 403"] >= 5, _seen
    assert min(_seen["compared"], _seen["pages"]) > 300, _seen
    assert min(_seen["hidden"], _seen["in part"]) > 50, _seen
