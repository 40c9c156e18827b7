"""The page /account/download: all that is kept of a patient here, to take along.

Consents with every version as a FHIR Bundle, accesses as CSV and JSON, and all of it with the apps as JSON, NDJSON and
a page to read. What was taken along, and by whom, is recorded.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from authz.account import consent_words
from authz.account.accesses import Names, in_words
from authz.account.desk import DOWNLOAD, AccountDesk, Door, Here
from authz.account.grants import GrantsPage
from authz.account.kept_file import kept_file
from authz.account.own_records import OwnAccesses, OwnConsent, OwnConsents
from authz.beside import beside
from authz.csv_text import csv_text
from authz.endpoints.visits import PageError, page_query
from authz.login import browser as pages
from authz.login.plain_words import plain_words
from authz.protocol.request import Answer
from authz.protocol.tokens import Grant
from authz.storage.audit_index import AccessEntry

MOST_ACCESSES = 20_000
_PAGE = 200
_PAGE_CONSENTS = 20
_COLUMNS = ("time", "what", "types", "outcome", "person", "organization", "app", "purpose", "rule")
_FILES = {
    "page": "html",
    "json": "json",
    "ndjson": "ndjson",
    "consents": "json",
    "csv": "csv",
    "accesses": "json",
}


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is kept. is_whole is False where there are more accesses than are written at once.

    names are made once for all of it: for each app they reckon the identifiers that it knows people by.
    """

    grants: list[Grant]
    consents: list[OwnConsent]
    accesses: list[AccessEntry]
    names: Names
    is_whole: bool


class DownloadPage:
    """GET /account/download: the page, and with format=… a file."""

    def __init__(
        self,
        *,
        desk: AccountDesk,
        grants: GrantsPage,
        consents: OwnConsents | None,
        accesses: OwnAccesses | None,
        names: Callable[[], Names],
    ) -> None:
        self._desk = desk
        self._grants = grants
        self._consents = consents
        self._accesses = accesses
        self._names = names
        there = {"page", "json", "ndjson"}
        there |= {"consents"} if consents is not None else set()
        there |= {"csv", "accesses"} if accesses is not None else set()
        self._formats = [format_ for format_ in _FILES if format_ in there]

    def routes(self) -> Mapping[str, Mapping[str, Door]]:
        """path → method → door."""
        return {DOWNLOAD: {"GET": self._desk.page_door(self.show)}}

    async def show(self, here: Here) -> Answer:
        """The page, or one of its files."""
        person, format_ = here.patient("see"), page_query(here.request).get("format", "")
        if not format_:
            files = [(each, here.to(DOWNLOAD, format=each), f"download.{each}") for each in self._formats]
            return self._desk.page(here, "download.html", DOWNLOAD, files=files)
        if format_ not in self._formats:
            raise PageError("error.address_unreadable")
        kept = await self._kept(here, person.patient)
        self._desk.tell(here, "download", person)
        # Of thousands of consents and accesses a file takes a second to make: beside the loop.
        content, media_type = await beside(partial(self._file, format_, here, kept))
        return kept_file(content, media_type, f"record-{format_}.{_FILES[format_]}")

    async def _kept(self, here: Here, patient: str) -> _Kept:
        consents: list[OwnConsent] = []
        if self._consents is not None:
            consents = await _every_version(self._consents, patient)
        accesses: list[AccessEntry] = []
        before = ""
        while self._accesses is not None and len(accesses) < MOST_ACCESSES:
            found = await self._accesses.of(patient, since=None, until=None, before=before, limit=_PAGE)
            accesses += found.entries
            before = found.before
            if not before:
                break
            await asyncio.sleep(0)  # a store may answer without a wait
        return _Kept(await self._grants.live(here), consents, accesses, self._names(), is_whole=not before)

    def _file(self, format_: str, here: Here, kept: _Kept) -> tuple[bytes, str]:
        """The content of a file and its media type."""
        match format_:
            case "page":
                return self._page(here, kept), "text/html; charset=utf-8"
            case "consents":
                return _json(self._bundle(kept)), "application/fhir+json"
            case "accesses":
                return _json([_access(each, kept.names) for each in kept.accesses]), "application/json"
            case "csv":
                return self._csv(kept), "text/csv; charset=utf-8"
            case "ndjson":
                lines = [json.dumps(line, ensure_ascii=False) for line in self._lines(here, kept)]
                return "".join(f"{line}\n" for line in lines).encode(), "application/x-ndjson"
            case _:
                return _json(self._whole(here, kept)), "application/json"

    def _whole(self, here: Here, kept: _Kept) -> dict[str, object]:
        """All of it as one object."""
        return {
            "made_at": here.now,
            "about": self._about(here),
            "is_whole": kept.is_whole,
            "apps": [_app(each, kept.names) for each in kept.grants],
            "consents": [each.resource for each in kept.consents],
            "accesses": [_access(each, kept.names) for each in kept.accesses],
        }

    def _lines(self, here: Here, kept: _Kept) -> list[Mapping[str, object]]:
        """One object a line, each with what it is."""
        return [
            {"part": "about", "made_at": here.now, "is_whole": kept.is_whole, **self._about(here)},
            *({"part": "app", **_app(each, kept.names)} for each in kept.grants),
            *({"part": "consent", "resource": each.resource} for each in kept.consents),
            *({"part": "access", **_access(each, kept.names)} for each in kept.accesses),
        ]

    def _about(self, here: Here) -> dict[str, object]:
        person = here.patient("see")
        return {
            "organisation": self._desk.settings.organisation,
            "base": self._desk.base,
            "patient": person.patient,
            "name": person.label,
            "account": here.account.name,
            "relationship": person.relationship,
        }

    def _bundle(self, kept: _Kept) -> dict[str, Any]:
        return {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [
                {
                    "fullUrl": f"{self._desk.base}/Consent/{each.id}/_history/{each.version}",
                    "resource": each.resource,
                }
                for each in kept.consents
            ],
        }

    def _csv(self, kept: _Kept) -> bytes:
        """The accesses, with the mark by which a spreadsheet knows UTF-8."""
        names, rows = kept.names, []
        for each in kept.accesses:
            account = names.account(each)
            rows.append(
                (
                    _instant(each.at),
                    each.kind,
                    each.types,
                    each.outcome,
                    each.user if account is None else account.name,
                    names.organization(each),
                    names.app(each.client) if each.client else "",
                    each.purpose,
                    each.rule,
                )
            )
        return csv_text(_COLUMNS, rows).encode("utf-8-sig")

    def _page(self, here: Here, kept: _Kept) -> bytes:
        names, language = kept.names, here.language
        return pages.rendered(
            "record_to_keep.html",
            language=language,
            organisation=self._desk.settings.organisation,
            person=here.patient("see").label,
            when=language.when(here.now),
            grants=[
                {
                    "app": names.app(each.client_id),
                    "since": language.when(each.created_at),
                    "words": [plain_words(text, language) for text in each.scope],
                }
                for each in kept.grants
            ],
            consents=[consent_words.in_words(each, language, here.now, names) for each in kept.consents],
            accesses=[in_words(each, language, names) for each in kept.accesses],
            is_whole=kept.is_whole,
            most=MOST_ACCESSES,
        )


async def _every_version(kept: OwnConsents, patient: str) -> list[OwnConsent]:
    """Every version of each consent of a patient, page by page, so that others have their turn in between."""
    found: list[OwnConsent] = []
    place, is_last = "", False
    while not is_last:
        page = await kept.page(patient, before=place, limit=_PAGE_CONSENTS)
        place, is_last = page.before, not page.before
        for each in page.consents:
            below: int | None = None
            while below != 1:
                versions = await kept.history(patient, each.id, before=below, limit=_PAGE_CONSENTS)
                found += versions
                below = versions[-1].version if versions else 1
                await asyncio.sleep(0)
    return found


def _app(grant: Grant, names: Names) -> dict[str, Any]:
    return {
        "client_id": grant.client_id,
        "name": names.app(grant.client_id),
        "scope": list(grant.scope),
        "since": grant.created_at,
        "last_used": grant.used_at,
        "until": grant.ends_at,
    }


def _access(entry: AccessEntry, names: Names) -> dict[str, Any]:
    """An access with names; the grant says which of the apps above it was."""
    account = names.account(entry)
    return entry._asdict() | {
        "person": None if account is None else account.name,
        "organization": names.organization(entry) or None,
        "app": names.app(entry.client) if entry.client else None,
    }


def _instant(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode()
