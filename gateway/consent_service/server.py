"""A FHIR R4 server for Consent over the store: what it is asked was decided, and what it answers is judged, elsewhere.

It speaks as any other store behind the gateway does, so that the passage treats it as one. Its errors are FhirError,
which callers see as they are: what it refuses is for them to mend.
"""

import asyncio
import json
import re
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from itertools import product
from typing import Any
from urllib.parse import urlencode

from authz.clock import Clock
from authz.protocol.encoding import parse_query
from authz.protocol.tokens import Caller
from authz.storage.consents import ConsentVersion, Room
from authz.storage.store import Store, StoreUnavailable
from gateway.consent_service.grants import end_with_grant, settled, standing
from gateway.consent_service.room import OPEN, add_within, room_for
from gateway.consent_service.rules import check_consent, patient_of
from gateway.consent_service.search import PAGE, Search, bundle, found, matching, parsed, read_search
from gateway.consent_service.versions import next_version
from gateway.fhir import links
from gateway.fhir.dates import interval
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.resource import parse_resource
from gateway.proxy.kept_consents import LOOKED_AT

_TAG = re.compile(r'W/"(\d{1,9})"')
_PAGE_ROWS = 200
_MOST = 20_000  # consents that a search without a patient looks through
_MOST_NAMED = 500  # patients or ids of one search
_HISTORY_PAGE = 100
_MOST_LOOKS = 100  # at what others write meanwhile, before a conditional create


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: status, headers in lower case, body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class ConsentServer:
    """The consents of one base.

    base         its identifier, under which consents are kept
    url          where the addresses in its answers begin: that of the store it stands beside
    bases        by which references name resources of the base
    is_there     whether the base has a patient of this id. Raises FhirError
    end_grant    ends an OAuth grant with its tokens; who and why
    """

    def __init__(
        self,
        *,
        base: str,
        url: str,
        bases: frozenset[str],
        store: Store,
        clock: Clock,
        is_there: Callable[[str], Awaitable[bool]],
        end_grant: Callable[[str, str, str], Awaitable[None]],
    ) -> None:
        self._base = base
        self._url = url
        self._bases = bases
        self._store = store
        self._clock = clock
        self._is_there = is_there
        self._end_grant = end_grant

    async def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, caller: Caller | None
    ) -> Said:
        """The answer to a request; target is relative to the base, caller is who writes. Raises FhirError."""
        try:
            return await self._answer(method, target, headers, body or b"", caller)
        except StoreUnavailable as error:
            raise FhirError(Reason.STORE_UNAVAILABLE, headers=(("Retry-After", "2"),)) from error

    async def _answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, caller: Caller | None
    ) -> Said:
        path, _, query = target.partition("?")
        match method, path.split("/"):
            case "GET", ["Consent"]:
                return await self._search("Consent", query)
            case "GET", ["Patient", patient, "Consent"]:
                return await self._search(f"Patient/{patient}/Consent", query)
            case "POST", ["Consent", "_search"]:
                return await self._search("Consent", body.decode("ascii"))
            case "GET", ["Consent", id]:
                return _resource(200, await self._newest(id))
            case "GET", ["Consent", id, "_history"]:
                return await self._history(id, query)
            case "GET", ["Consent", id, "_history", number]:
                return _resource(200, await self._version(id, number))
            case "POST", ["Consent"]:
                return await self._create(str(uuid.uuid4()), _read(body), caller, headers)
            case "PUT", ["Consent", id]:
                return await self._update(id, _read(body), caller, headers)
            case _:
                raise FhirError(Reason.CONSENT_KEPT_HERE, "consents are read, searched, created and updated")

    async def _newest(self, id: str) -> ConsentVersion | None:
        version = await self._store.consent(self._base, id)
        return None if version is None else (await settled(self._store, [version], self._clock()))[0]

    async def _version(self, id: str, number: str) -> ConsentVersion | None:
        await self._newest(id)
        if not number.isascii() or not number.isdigit() or len(number) > 9:
            return None
        return await self._store.consent(self._base, id, int(number))

    async def _search(self, path: str, query: str) -> Said:
        search = read_search(path, query, self._bases)
        number = await self._store.consent_number()  # before anything is read: what comes later is told by it
        versions = await settled(self._store, await self._candidates(search, number), self._clock())
        body = await found(search, await matching(search, versions), self._url)
        return Said(200, {**_JSON, LOOKED_AT: str(number)}, body)

    async def _candidates(self, search: Search, number: int) -> list[ConsentVersion]:
        """What may match: the consents of the patients or with the ids that the search names, all without either.

        number is that of the consents when the search began.
        """
        named = search.ids if search.ids is not None else search.patients
        if named is not None and len(named) > _MOST_NAMED:
            raise FhirError(Reason.CONSENT_KEPT_HERE, f"name {_MOST_NAMED} patients or ids at most")
        if search.ids is not None:
            asked = [await self._store.consent(self._base, id) for id in sorted(search.ids)]
            return [version for version in asked if version is not None]
        if search.patients is not None:
            some = list(await self._store.consents_of(self._base, search.patients, at_most=_PAGE_ROWS))
            return some if len(some) < _PAGE_ROWS else await self._paged(search.patients, number)
        versions: list[ConsentVersion] = []
        while True:
            after = versions[-1].id if versions else ""
            page = await self._store.consents(self._base, after=after, limit=_PAGE_ROWS)
            versions += page
            if len(page) < _PAGE_ROWS:
                return versions
            if len(versions) > _MOST:
                raise FhirError(
                    Reason.CONSENT_KEPT_HERE, "there are too many to look through: name a patient"
                )
            await asyncio.sleep(0)  # a store may answer without a wait

    async def _paged(self, patients: Collection[str], number: int) -> list[ConsentVersion]:
        """All consents of these patients, page by page; with what was written since that number, so that none is missed
        that came from one part of the pages into the other meanwhile.
        """
        found: dict[str, ConsentVersion] = {}
        for patient, is_active in product(sorted(patients), (True, False)):
            before: int | None = None
            is_last = False
            while not is_last:
                page = await self._store.consents_newest_first(
                    self._base, patient, is_active=is_active, before=before, limit=_PAGE_ROWS
                )
                found |= {version.id: version for _, version in page}
                before, is_last = (page[-1][0] if page else None), len(page) < _PAGE_ROWS
                await asyncio.sleep(0)
        last = await self._store.consent_number()
        for start in range(number, last, _PAGE_ROWS):
            to = min(last, start + _PAGE_ROWS)
            since = await self._store.consents_written(self._base, after=start, to=to, limit=_PAGE_ROWS)
            found |= {version.id: version for version in since if version.patient in patients}
            await asyncio.sleep(0)
        return list(found.values())

    async def _history(self, id: str, query: str) -> Said:
        newest = await self._newest(id)
        if newest is None:
            return Said(404)
        said = dict(parse_query(query))
        if "_at" in said:
            raise FhirError(
                Reason.UNSUPPORTED_PARAMETER, "'_at' is not carried out for consents: ask with _since"
            )
        since = _seconds(said["_since"]) if "_since" in said else 0.0
        below = int(said[PAGE]) if said.get(PAGE, "").isdigit() else newest.version + 1
        count = min(int(said.get("_count") or _HISTORY_PAGE), _HISTORY_PAGE)
        left: list[ConsentVersion] = []
        while below > 1 and len(left) <= count:
            some = await self._store.consent_history(self._base, id, before=below, at_most=_HISTORY_PAGE)
            left += [version for version in some if version.recorded_at >= since]
            below = some[-1].version if some else 1
            await asyncio.sleep(0)
        page = left[:count]
        place = f"{self._url}/Consent/{id}/_history"
        links_ = [{"relation": "self", "url": f"{place}?{query}" if query else place}]
        if len(page) < len(left):
            rest = [(name, text) for name, text in said.items() if name != PAGE]
            again = urlencode([*rest, (PAGE, str(page[-1].version))])
            links_.append({"relation": "next", "url": f"{place}?{again}"})
        return Said(200, _JSON, bundle("history", links_, [_of_history(v, self._url) for v in page]))

    async def _create(
        self, id: str, value: dict[str, Any], caller: Caller | None, headers: Mapping[str, str]
    ) -> Said:
        await self._check(value)
        room = await self._room(value, id)
        version = next_version(value, None, base=self._base, id=id, now=self._clock(), by=_who(caller))
        if "if-none-exist" in headers:
            return await self._add_alone(version, room, headers)
        return await self._add(version, room, 201, headers)

    async def _add_alone(
        self, version: ConsentVersion, room: Room | None, headers: Mapping[str, str]
    ) -> Said:
        """Write a consent unless one was written that its criteria match, since they were looked for in vain.

        412 where one was: whether the caller may find it is told by another search of the caller's. The store writes
        only while nothing is written by anybody beside what was looked at here, so of several at once one is first, in
        whichever process (FHIR R4 3.1.0.8.1).
        """
        criteria = read_search("Consent", headers["if-none-exist"], self._bases).criteria
        seen = int(headers.get(LOOKED_AT) or 0)
        for _ in range(_MOST_LOOKS):
            number = await self._store.consent_number()
            since = await self._store.consents_written(self._base, after=seen, to=number, limit=_PAGE_ROWS)
            if len(since) == _PAGE_ROWS or any(
                criteria is None or criteria.matches(parsed(each)) for each in since
            ):
                return Said(412)
            if await add_within(self._store, version, room, at_number=number):
                return self._told(version, 201, headers)
            seen = number
        raise FhirError(Reason.STORE_UNAVAILABLE, headers=(("Retry-After", "2"),))

    async def _update(
        self, id: str, value: dict[str, Any], caller: Caller | None, headers: Mapping[str, str]
    ) -> Said:
        before = await self._newest(id)
        if before is None:
            if "if-match" in headers:
                return Said(412)
            return await self._create(id, value, caller, headers)
        wanted = _TAG.fullmatch(headers.get("if-match", ""))
        if wanted is None or int(wanted[1]) != before.version:
            return Said(412)
        await self._check(value)
        version = next_version(value, before, base=self._base, id=id, now=self._clock(), by=_who(caller))
        room = await self._room(value, id)
        if before.grant_id is None or version.status in OPEN:
            return await self._add(version, room, 200, headers)
        # First the tokens: should this end here, the app has nothing, and the consent is inactive all the same.
        await self._end_grant(before.grant_id, f"consent {id}", "the consent was revoked")
        ended = await end_with_grant(self._store, value, before, now=self._clock(), by=_who(caller))
        return Said(412) if ended is None else self._told(ended, 200, headers)

    async def _add(
        self, version: ConsentVersion, room: Room | None, status: int, headers: Mapping[str, str]
    ) -> Said:
        if not await add_within(self._store, version, room):
            return Said(412)
        return self._told(version, status, headers)

    def _told(self, version: ConsentVersion, status: int, headers: Mapping[str, str]) -> Said:
        said = _resource(status, version)
        return Said(status, said.headers) if "return=minimal" in headers.get("prefer", "") else said

    async def _check(self, value: dict[str, Any]) -> None:
        links.relative_references(value, self._bases)
        check_consent(value)  # before the base is asked about its patient
        if not await self._is_there(patient_of(value)):
            raise FhirError(
                Reason.CONSENT_INVALID,
                "Consent.patient is not a patient of this base",
                expression="Consent.patient",
            )

    async def _room(self, value: Mapping[str, Any], id: str) -> Room | None:
        async def beside() -> Mapping[str, Mapping[str, Any]]:
            return await standing(self._store, self._base, patient_of(value), now=self._clock())

        return await room_for(self._store, value, base=self._base, id=id, beside=beside)


_JSON = {"content-type": "application/fhir+json; charset=utf-8"}


def _resource(status: int, version: ConsentVersion | None) -> Said:
    if version is None:
        return Said(404)
    place = f"Consent/{version.id}/_history/{version.version}"
    headers = {
        **_JSON,
        "etag": f'W/"{version.version}"',
        "last-modified": formatdate(version.recorded_at, usegmt=True),
        **({"location": place} if status == 201 else {}),
    }
    return Said(status, headers, version.resource)


def _of_history(version: ConsentVersion, url: str) -> bytes:
    is_first = version.version == 1
    meta = parsed(version)["meta"]
    around = {
        "request": {
            "method": "POST" if is_first else "PUT",
            "url": "Consent" if is_first else f"Consent/{version.id}",
        },
        "response": {
            "status": "201" if is_first else "200",
            "etag": f'W/"{version.version}"',
            "lastModified": meta["lastUpdated"],
        },
    }
    place = json.dumps(f"{url}/Consent/{version.id}").encode()
    said = json.dumps(around, separators=(",", ":")).encode()
    return b'{"fullUrl":' + place + b',"resource":' + version.resource + b"," + said[1:]


def _read(body: bytes) -> dict[str, Any]:
    return parse_resource(body)  # which keeps every number as it was written


def _who(caller: Caller | None) -> str:
    if caller is None:
        raise FhirError(Reason.INTERNAL)  # nobody writes a consent who is not known
    return caller.subject or caller.client_id


def _seconds(text: str) -> float:
    """The beginning of a FHIR time, in seconds since 1970; that of a time that is none never comes."""
    at, epoch = interval(text), interval("1970-01-01")
    return float("inf") if at is None or epoch is None else (at[0] - epoch[0]) / 1_000_000
