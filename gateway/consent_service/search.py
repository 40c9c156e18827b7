"""A search of consents: criteria, order and pages over the versions that the store gave, as a searchset."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from authz.protocol.encoding import parse_query
from authz.storage.consents import ConsentVersion
from gateway.fhir.interaction import SearchTerm
from gateway.fhir.links import local_reference
from gateway.fhir.matching import Criteria, CriteriaError, compile_criteria
from gateway.fhir.outcome import FhirError, Reason

PAGE = "_cursor"
"""The parameter of our page links: the id of the last consent of the page before."""
_RESULTS = frozenset({PAGE, "_count", "_sort", "_total", "_summary", "_format", "_pretty"})
_SORTS = frozenset({"_id", "_lastUpdated", "date", "status"})
_COUNT = 50
_MAX_COUNT = 200
_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Search:
    """A search as asked.

    path      what was searched, 'Consent' or 'Patient/A/Consent'
    query     all of it, for links
    criteria  None finds everything
    patients  ids, where criteria name the patients; None where they do not
    ids       of consents, where criteria name them
    """

    path: str
    query: str
    criteria: Criteria | None
    patients: frozenset[str] | None
    ids: frozenset[str] | None
    count: int
    sort: tuple[str, ...]
    after: str
    only_total: bool


def read_search(path: str, query: str, bases: frozenset[str]) -> Search:
    """The search of a query. Raises FhirError(UNSUPPORTED_PARAMETER) for what cannot be judged on a consent."""
    pairs = parse_query(query)
    results = {name: value for name, value in pairs if name in _RESULTS}
    wanted = [(name, value) for name, value in pairs if name not in _RESULTS]
    if path != "Consent":
        wanted.append(("patient", path.removesuffix("/Consent")))
    try:
        criteria = compile_criteria("Consent", urlencode(wanted), bases=bases) if wanted else None
    except CriteriaError as error:
        raise FhirError(Reason.UNSUPPORTED_PARAMETER, f"consents are kept here: {error}") from error
    sort = tuple(each for each in results.get("_sort", "").split(",") if each)
    for each in sort:
        if each.removeprefix("-") not in _SORTS:
            known = ", ".join(sorted(_SORTS))
            raise FhirError(Reason.UNSUPPORTED_PARAMETER, f"consents are sorted by {known}")
    terms = () if criteria is None else criteria.terms
    return Search(
        path,
        query,
        criteria,
        _patients(terms, bases),
        _ids(terms),
        min(int(results.get("_count") or _COUNT), _MAX_COUNT),
        sort,
        results.get(PAGE, ""),
        results.get("_summary") == "count" or results.get("_count") == "0",
    )


async def matching(search: Search, versions: Sequence[ConsentVersion]) -> list[ConsentVersion]:
    """Those that the criteria find. Others have their turn in between: there may be very many."""
    found = []
    for number, version in enumerate(versions, 1):
        if search.criteria is None or search.criteria.matches(parsed(version)):
            found.append(version)
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return found


async def found(search: Search, matches: list[ConsentVersion], base: str) -> bytes:
    """The Bundle of a page of what the criteria found. base is where the store's addresses begin.

    Raises FhirError(STALE_LINK).
    """
    matches.sort(key=lambda version: version.id)
    for term in reversed(search.sort):
        values = await _values(matches, term.removeprefix("-"))
        matches.sort(key=lambda version, values=values: values[version.id], reverse=term.startswith("-"))  # type: ignore[misc]
    start = 0
    if search.after:
        places = [place for place, version in enumerate(matches) if version.id == search.after]
        if not places:
            raise FhirError(Reason.STALE_LINK, "the consent where the page began is not found any more")
        start = places[0] + 1
    page = [] if search.only_total else matches[start : start + search.count]
    links = [{"relation": "self", "url": _url(base, search.path, search.query)}]
    if page and start + len(page) < len(matches):
        rest = [(name, value) for name, value in parse_query(search.query) if name != PAGE]
        query = urlencode([*rest, (PAGE, page[-1].id)])
        links.append({"relation": "next", "url": _url(base, search.path, query)})
    return bundle("searchset", links, [_entry(version, base) for version in page], total=len(matches))


def bundle(
    kind: str, links: Sequence[dict[str, str]], entries: Sequence[bytes], *, total: int | None = None
) -> bytes:
    """A Bundle of entries that are JSON already; the resources in them stay byte for byte."""
    head: dict[str, object] = {"resourceType": "Bundle", "type": kind, "link": list(links)}
    if total is not None:
        head["total"] = total
    said = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    return said[:-1] + b',"entry":[' + b",".join(entries) + b"]}" if entries else said


@lru_cache(4096)
def parsed(version: ConsentVersion) -> dict[str, Any]:
    """The resource of a version; whoever has it changes nothing in it."""
    value: dict[str, Any] = json.loads(version.resource)
    return value


def _entry(version: ConsentVersion, base: str) -> bytes:
    url = json.dumps(f"{base}/Consent/{version.id}").encode()
    return b'{"fullUrl":' + url + b',"resource":' + version.resource + b',"search":{"mode":"match"}}'


async def _values(versions: Sequence[ConsentVersion], name: str) -> dict[str, str]:
    """By what each is sorted, by its id. Others have their turn in between."""
    values = {}
    for number, version in enumerate(versions, 1):
        values[version.id] = _value(version, name)
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return values


def _value(version: ConsentVersion, name: str) -> str:
    match name:
        case "_id":
            return version.id
        case "status":
            return version.status
        case "date":
            return str(parsed(version).get("dateTime", ""))
        case _:
            return f"{version.recorded_at:020}"


def _url(base: str, path: str, query: str) -> str:
    return f"{base}/{path}?{query}" if query else f"{base}/{path}"


def _patients(terms: Sequence[SearchTerm], bases: frozenset[str]) -> frozenset[str] | None:
    """The patients that one of the criteria names; the criteria are evaluated all the same."""
    for term in terms:
        if term.code == "patient" and term.modifier in (None, "Patient"):
            ids = set()
            for value in term.values:
                place = local_reference(value if "/" in value else f"Patient/{value}", bases)
                if place is not None:
                    ids.add(place.id)
            return frozenset(ids)
    return None


def _ids(terms: Sequence[SearchTerm]) -> frozenset[str] | None:
    return next((frozenset(term.values) for term in terms if term.code == "_id" and not term.modifier), None)
