"""A finder of the records of one mount: each question passes as a request of the person would, and is recorded as one.

The policies in force decide, narrow the search, and judge each entry; the views hide what they hide. Nothing else is ever
looked at here. Criteria go in a form: no name of a patient stands in an address.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import urlencode

from authz.login.finding import Asker, Choice, FinderUnavailable, Found
from authz.protocol.request import Answer, BytesBody, EmptyBody, HttpRequest
from authz.protocol.tokens import Caller
from gateway.fhir.ids import is_id
from gateway.pickers.choices import began, encounter_choice, patient_choice
from gateway.pickers.words import TooManyWords, criteria
from gateway.proxy.whole_answers import BrokenOff, TooLong, whole_body
from gateway.settings import PickerSettings, Upstream

_MAX_BYTES = 4 * 1024 * 1024
_JSON = {"accept": "application/fhir+json"}
_FORM = {**_JSON, "content-type": "application/x-www-form-urlencoded"}
_log = logging.getLogger("securus.pickers")


class Passing(Protocol):
    """What a request passes: gateway.proxy.pipeline.Passage."""

    async def handle(self, http: HttpRequest, caller: Caller | None = None) -> Answer:
        """The answer to a request, of a caller who is known where one is given."""
        ...


class MountFinder:
    """authz.login.finding.Finder for a mount."""

    def __init__(self, upstream: Upstream, passage: Passing, settings: PickerSettings) -> None:
        self._upstream = upstream
        self._passage = passage
        self._settings = settings

    @property
    def searches_per_minute(self) -> int:
        """How often one person may ask."""
        return self._settings.searches_per_minute

    @property
    def lists_at_once(self) -> bool:
        """Whether patients are listed before the person searched."""
        return self._settings.lists_at_once

    async def find_patients(self, asker: Asker, words: str) -> Found:
        """Patients of these words that the person may see. Raises FinderUnavailable."""
        try:
            form = criteria(words, count=self._settings.page + 1)
        except TooManyWords:
            return Found(is_refused=True)
        bundle = await self._search(asker, "Patient", form)
        return _found(
            bundle, [patient_choice(one, asker.language) for one in _entries(bundle)], self._settings.page
        )

    async def patient(self, asker: Asker, id: str) -> Choice | None:
        """The patient of this id, None when the person may not see it. Raises FinderUnavailable."""
        return patient_choice(await self._read(asker, "Patient", id), asker.language)

    async def find_encounters(self, asker: Asker, patient: str) -> Found:
        """Visits of this patient that the person may see, the newest first. Raises FinderUnavailable."""
        asked = [("patient", patient), ("_sort", "-date"), ("_count", str(self._settings.page + 1))]
        bundle = await self._search(asker, "Encounter", urlencode(asked))
        entries = sorted(_entries(bundle), key=began, reverse=True)  # not every store sorts
        choices = [self._encounter(asker, one, patient) for one in entries]
        return _found(bundle, choices, self._settings.page)

    async def encounter(self, asker: Asker, id: str, patient: str) -> Choice | None:
        """The visit of this id, None when it is not this patient's or not to be seen. Raises FinderUnavailable."""
        return self._encounter(asker, await self._read(asker, "Encounter", id), patient)

    def _encounter(self, asker: Asker, resource: object, patient: str) -> Choice | None:
        base = self._upstream.identifier
        return encounter_choice(resource, patient, base=base, language=asker.language)

    async def resources(self, asker: Asker, type_: str, form: str) -> list[Any]:
        """What a search finds that the person may see; nothing where they may not search so. Raises FinderUnavailable."""
        return _entries(await self._search(asker, type_, form))

    async def resource(self, asker: Asker, type_: str, id_: str) -> Mapping[str, Any] | None:
        """The resource of this id, None when the person may not see it. Raises FinderUnavailable."""
        return await self._read(asker, type_, id_)

    async def _search(self, asker: Asker, type_: str, form: str) -> Mapping[str, Any] | None:
        """The searchset; None where the person may not search so."""
        body = BytesBody(form.encode("ascii"))
        return await self._ask(asker, "POST", f"/{type_}/_search", headers=_FORM, body=body)

    async def _read(self, asker: Asker, type_: str, id_: str) -> Mapping[str, Any] | None:
        found = await self._ask(asker, "GET", f"/{type_}/{id_}") if is_id(id_) else None
        return found if found is not None and found.get("id") == id_ else None

    async def _ask(
        self,
        asker: Asker,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] = _JSON,
        body: BytesBody | EmptyBody | None = None,
    ) -> Mapping[str, Any] | None:
        """The resource of an answer with 200; None for a refusal. Raises FinderUnavailable for what is neither.

        Of the request at the pages only the peer goes on: no cookie, no header, no certificate.
        """
        page = asker.request
        at = self._upstream.at + path
        http = replace(
            page,
            method=method,
            path=at,
            query="",
            url=page.origin + at,
            headers=headers,
            certificate=None,
            chain=(),
            body=EmptyBody() if body is None else body,
        )
        answer = await self._passage.handle(http, asker.caller)
        try:
            return await _resource_of(answer)
        except FinderUnavailable as error:
            _log.warning(
                "a picker cannot ask for records", extra={"route": self._upstream.name, "cause": str(error)}
            )
            raise


async def _resource_of(answer: Answer) -> Mapping[str, Any] | None:
    """The resource of an answer with 200; None for a refusal. Raises FinderUnavailable for what is neither."""
    try:
        content = await whole_body(answer, max_bytes=_MAX_BYTES)
    except (TooLong, BrokenOff) as error:
        raise FinderUnavailable(str(error)) from error
    if answer.status in (429, 503) or answer.status >= 500:
        raise FinderUnavailable(f"the request was answered with {answer.status}")
    if answer.status != 200:
        return None
    try:
        found = json.loads(content)
    except ValueError as error:
        raise FinderUnavailable("the answer is not JSON") from error
    return found if isinstance(found, dict) else None


def _entries(bundle: Mapping[str, Any] | None) -> list[Any]:
    entries = [] if bundle is None else bundle.get("entry")
    found = entries if isinstance(entries, list) else []
    return [entry.get("resource") for entry in found if isinstance(entry, dict)]


def _found(bundle: Mapping[str, Any] | None, choices: list[Choice | None], page: int) -> Found:
    if bundle is None:
        return Found(is_refused=True)
    links = bundle.get("link")
    more = any(isinstance(link, dict) and link.get("relation") == "next" for link in links or ())
    listed = tuple(dict.fromkeys(choice for choice in choices if choice is not None))
    return Found(listed[:page], is_whole=not more and len(listed) <= page)
