"""A finder of records in memory: who may see whom is a table, and every question is written down."""

from dataclasses import dataclass, field, replace
from typing import Any

from authz.login.finding import Asker, Choice, FinderUnavailable, Found
from authz.settings import Protected
from tests.support.authorization_server import FHIR, SETTINGS, World

PEOPLE = {
    "A": Choice("A", "Anna Own", "born 1 May 1980"),
    "B": Choice("B", "Bert Other", "born 2 May 1981"),
    "C": Choice("C", "Carl Hidden", "born 3 May 1982"),
}
VISITS = {
    "E-1": ("A", Choice("E-1", "Emergency visit", "4 March 2026, 10:00")),
    "E-2": ("B", Choice("E-2", "Check-up", "5 March 2026, 11:00")),
    "E-3": ("B", Choice("E-3", "Hidden visit", "6 March 2026, 12:00")),
}


@dataclass
class FinderInMemory:
    """authz.login.finding.Finder. sees is by subject: the patients and visits that somebody may see."""

    sees: dict[str, set[str]] = field(default_factory=dict)
    asked: list[tuple[Asker, str]] = field(default_factory=list)
    searches_per_minute: int = 30
    lists_at_once: bool = False
    is_down: bool = False
    is_whole: bool = True
    refuses: bool = False

    def _ask(self, asker: Asker, what: str) -> set[str]:
        self.asked.append((asker, what))
        if self.is_down:
            raise FinderUnavailable
        return self.sees.get(asker.caller.subject, set())

    async def find_patients(self, asker: Asker, words: str) -> Found:
        seen = self._ask(asker, f"search {words}")
        if self.refuses:
            return Found(is_refused=True)
        found = [p for p in PEOPLE.values() if p.id in seen and words.lower() in p.label.lower()]
        return Found(tuple(found), is_whole=self.is_whole)

    async def patient(self, asker: Asker, id: str) -> Choice | None:
        seen = self._ask(asker, f"read {id}")
        return PEOPLE.get(id) if id in seen else None

    async def find_encounters(self, asker: Asker, patient: str) -> Found:
        seen = self._ask(asker, f"visits of {patient}")
        return Found(tuple(c for id, (whose, c) in VISITS.items() if whose == patient and id in seen))

    async def encounter(self, asker: Asker, id: str, patient: str) -> Choice | None:
        seen = self._ask(asker, f"visit {id}")
        whose, choice = VISITS.get(id, ("", None))
        return choice if whose == patient and id in seen else None


def with_picker(finder: FinderInMemory, **settings: Any) -> dict[str, Any]:
    """Settings of a world whose FHIR base has this finder."""
    resources: tuple[Protected, ...] = tuple(
        replace(resource, picker=resource.identifier == FHIR) for resource in SETTINGS.resources
    )
    return {"resources": resources, "finders": {FHIR: finder}, **settings}


async def reopened(world: World, finder: FinderInMemory, **settings: Any) -> World:
    """The same store with this finder."""
    return await world.reopen(**with_picker(finder, **settings))
