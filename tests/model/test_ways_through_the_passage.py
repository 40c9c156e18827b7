"""P3: no way shows more than single reads do, and a search that is not refused finds all that it may.

The real passage, in one process, before a store that is honest and one that is hostile. What reads show is asked of
the same passage, resource by resource and version by version, each alone in a store; what matches is found by brute
force. That reads are decided rightly is the claim of test_policy_model.py.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

from tests.model.brute_store import BruteStore, Resource, key
from tests.model.charts import Chart, engine_of, names_one_patient
from tests.model.passages import Door, Reply
from tests.model.seeds import over_seeds

CHARTS = over_seeds(110)
MARK = {
    "extension": [
        {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked"}
    ]
}
PEER = "10.1.2.3"
_seen: Counter[str] = Counter()


def within(part: Any, whole: Any) -> bool:
    """Whether part says nothing that whole does not say; marks of what is hidden, and the tag SUBSETTED, say nothing."""
    if part in (MARK, [MARK]):
        return True
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            _is_a_mark(value) or (name in whole and within(value, whole[name]))
            for name, value in part.items()
        )
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(within(item, other) for other in whole) for item in part)
    return bool(part == whole)


def _is_a_mark(value: Any) -> bool:
    return value in (MARK, [MARK])


def plain(resource: Resource) -> Resource:
    """The resource without the tag SUBSETTED."""
    meta = dict(resource.get("meta", {}))
    tags = [tag for tag in meta.pop("tag", []) if tag.get("code") != "SUBSETTED"]
    return {**resource, "meta": {**meta, **({"tag": tags} if tags else {})}}


def resources(value: Any) -> Iterator[Resource]:
    """Every resource in an answer, those in answers of a batch too."""
    if value["resourceType"] == "Bundle":
        for entry in value.get("entry", []):
            if "resource" in entry:
                yield from resources(entry["resource"])
    elif value["resourceType"] != "OperationOutcome":
        yield plain(value)


class Sights:
    """What single reads of one caller show, of every version."""

    def __init__(self) -> None:
        self.of: dict[str, list[tuple[Resource, Resource]]] = {}

    async def look(
        self, chart: Chart, engine: Any, who: Any, versions: dict[str, list[Resource]]
    ) -> "Sights":
        """Read every version, alone in a store."""
        for place, each in versions.items():
            self.of[place] = []
            for version in each:
                door = Door(engine, who, BruteStore({place: [version]}), now=chart.now, peer=PEER)
                reply = await door.ask("GET", f"/{place}")
                if reply.status == 200:
                    self.of[place].append((version, plain(reply.json)))
        return self

    def hold(self, shown: Resource) -> bool:
        """Whether what is shown of a resource is in a read of it."""
        return any(within(shown, read) for _, read in self.of.get(key(shown), []))

    def show(self, version: Resource) -> bool:
        """Whether a read shows this version."""
        return any(seen is version for seen, _ in self.of[key(version)])


async def every_page(door: Door, first: Reply) -> tuple[list[Resource], bool]:
    """What a search shows on all its pages, and whether none of them was refused."""
    found: list[Resource] = []
    reply = first
    while reply.status == 200:
        found += resources(reply.json)
        links = {link["relation"]: link["url"] for link in reply.json.get("link", [])}
        if "next" not in links:
            return found, True
        reply = await door.ask("GET", links["next"])
    return found, False


async def exported(door: Door) -> list[Resource]:
    """The lines of an export; none where it is refused."""
    begun = await door.ask("GET", "/$export", prefer="respond-async")
    if begun.status != 202:
        return []
    manifest = await door.ask("GET", begun.headers["content-location"])
    assert manifest.status == 200
    found: list[Resource] = []
    for file in manifest.json["output"]:
        reply = await door.ask("GET", file["url"])
        lines = reply.body.split(b"\n")[:-1]
        found += [plain(json.loads(line)) for line in lines]
    return found


async def play(seed: int) -> None:
    chart = Chart(seed)
    rules = chart.rules()
    engine, as_export = engine_of(rules), chart.as_export(rules)
    who, versions = chart.caller(), chart.versions()
    sights = await Sights().look(chart, engine, who, versions)
    in_files = await Sights().look(chart, as_export, who, versions) if chart.one_in(3) else None
    searches = [chart.search() for _ in range(10)]
    searches += [(chart.opened_search(), False) for _ in range(6)]
    others = [chart.one(versions) for _ in range(8)]
    for hostile in (False, True):
        store = BruteStore(versions, hostile=hostile)
        door = Door(engine, who, store, now=chart.now, peer=PEER)
        for target, is_plain in [*searches, *((each, False) for each in others)]:
            found, whole = await every_page(door, await door.ask("GET", target))
            _count(target, found)
            for shown in found:
                assert sights.hold(shown), (seed, hostile, target, shown)
            if whole and is_plain and chart.even and not hostile:
                check_complete(seed, store, sights, target, found)
        batch = {"resourceType": "Bundle", "type": "batch", "entry": [
            {"request": {"method": "GET", "url": each.removeprefix("/")}} for each in [*others, searches[0][0]]
        ]}  # fmt: skip
        reply = await door.ask("POST", "/", batch)
        if reply.status == 200:
            for shown in resources(reply.json):
                _seen["batch"] += 1
                assert sights.hold(shown), (seed, hostile, "batch", shown)
        if in_files is not None:
            for shown in await exported(door):
                _seen["export"] += 1
                assert in_files.hold(shown), (seed, hostile, "export", shown)
    _seen["hidden"] += sum(not sights.show(v) for each in versions.values() for v in each)


def check_complete(seed: int, store: BruteStore, sights: Sights, target: str, found: list[Resource]) -> None:
    """Everything that matches and that a read shows is found."""
    path, _, query = target.partition("?")
    for version in store.finds(path.removeprefix("/"), parse_qsl(query)):
        if sights.show(version) and names_one_patient(version):
            _seen["complete"] += 1
            assert key(version) in map(key, found), (seed, target, key(version))


def _count(target: str, found: list[Resource]) -> None:
    for word in (
        "_filter",
        "_list",
        "_text",
        "_content",
        "_include",
        "_revinclude",
        "_history/",
        "_history",
        "$everything",
        "$lastn",
        "male",
        "_elements",
    ):
        if word in target:
            _seen[word] += len(found)
            return
    _seen["search"] += len(found)


@CHARTS
def test_P3_no_way_shows_more_than_single_reads(seed: int) -> None:
    asyncio.run(play(seed))


def test_every_way_showed_something_and_much_was_hidden() -> None:
    """The law above would say nothing if everything were refused."""
    if not _seen:  # in a process that has not played it
        test_P3_no_way_shows_more_than_single_reads()
    ways = (
        "search",
        "_include",
        "_revinclude",
        "male",
        "_filter",
        "_elements",
        "_history/",
        "_history",
        "$everything",
        "$lastn",
    )
    assert all(_seen[way] >= 20 for way in (*ways, "batch", "export", "hidden", "complete")), _seen
