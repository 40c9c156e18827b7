"""The labels of encounters and of what they are part of, read at the store and kept for a short while."""

from collections import defaultdict
from collections.abc import Collection

from authz.clock import Clock
from gateway.fhir.ids import is_id
from gateway.fhir.search import encode_terms, make_term
from gateway.policy.inherited_labels import UNKNOWN, Labelled, labelled
from gateway.proxy.lookups.kept import Kept
from gateway.proxy.lookups.knowledge import AT_ONCE
from gateway.proxy.lookups.preflight import Preflight, TooMany, Unavailable

_KEEP_SECONDS = 30


class Labels:
    """The labels of resources of one store, by 'Type/id'."""

    def __init__(self, preflight: Preflight, clock: Clock) -> None:
        self._preflight = preflight
        self._kept: Kept[Labelled] = Kept(
            self._asked, clock, at_once=AT_ONCE, keep=_KEEP_SECONDS, count=lambda outcome: None
        )

    async def of(self, places: Collection[str]) -> dict[str, Labelled]:
        """The labels of these resources, without those that could not be had. Raises nothing."""
        by_type = defaultdict(list)
        for place in places:
            by_type[place.partition("/")[0]].append(place)
        found: dict[str, Labelled] = {}
        for same in by_type.values():
            found |= await self._kept.of(same)
        return found

    async def _asked(self, places: list[str]) -> dict[str, Labelled] | None:
        type_ = places[0].partition("/")[0]
        ids = [id_ for place in places if is_id(id_ := place.partition("/")[2])]
        terms = (make_term("_id", ids), make_term("_count", [str(AT_ONCE)]))
        try:
            resources = await self._preflight.search(f"{type_}?{encode_terms(terms)}", at_most=20 * AT_ONCE)
        except (Unavailable, TooMany):
            return None
        # What the store does not find has labels that nobody knows.
        found = dict.fromkeys(places, UNKNOWN)
        for each in resources:
            place = f"{each.get('resourceType')}/{each.get('id')}"
            if place in found:
                found[place] = labelled(each, self._preflight.bases)
        return found
