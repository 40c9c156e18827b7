"""The pages that ask the log: search, one record, and the accounting of disclosures of a patient.

Forms are posted: no patient stands in an address, where a history or a log of a proxy would keep it.
"""

import json
import re
from collections.abc import Mapping
from functools import partial

from authz.beside import beside
from authz.protocol.request import Answer
from gateway.audit.index.entries import Unreadable
from gateway.audit.index.follower import IndexFollower, bases_to_ask
from gateway.audit.recorder import recorder_of
from gateway.officer import rendering
from gateway.officer.accounting_forms import as_csv, as_json
from gateway.officer.asking import TERMS, QuestionError, question_of, read_cursor, written
from gateway.officer.disclosure_bundle import as_fhir
from gateway.officer.disclosures import Accounting, TooManyDisclosures, accounting
from gateway.officer.house import OfficerHouse, OfficerVisit

SEARCH, RECORD, DISCLOSURES = "/officer/search", "/officer/record", "/officer/disclosures"
_PAGE = 50
_SEQUENCE = re.compile(r"[0-9]{1,15}")
_ASKED = ("base", "patient", "since", "until")


class QuestionPages:
    """Doors of these pages: each takes a visit and gives a page."""

    def __init__(self, house: OfficerHouse) -> None:
        self._house = house

    async def search_form(self, visit: OfficerVisit) -> Answer:
        """GET /officer/search: the form, with nothing found."""
        return self._search_page(visit, {}, entries=None)

    async def search(self, visit: OfficerVisit) -> Answer:
        """POST /officer/search: a page of what was found, recorded before it is shown."""
        terms = {term: visit.fields.get(term, "") for term in TERMS}
        try:
            said = visit.fields.get("next", "")
            before = read_cursor(said) if said else None
            question = question_of(terms, bases=self._house.bases, limit=_PAGE, before=before)
        except QuestionError as error:
            return self._search_page(visit, terms, entries=None, problem=str(error))
        found = await self._house.looks.search(question, by=visit.account.subject)
        more = "" if found.more is None else written(found.more)
        behind = await IndexFollower(self._house.store, self._house.bases).behind()
        return self._search_page(visit, terms, entries=found.entries, more=more, behind=behind)

    def _search_page(
        self,
        visit: OfficerVisit,
        terms: Mapping[str, str],
        *,
        entries: object,
        problem: str = "",
        more: str = "",
        behind: int = 0,
    ) -> Answer:
        return self._house.shown(
            visit.browser,
            visit.language,
            "search.html",
            here=SEARCH,
            status=400 if problem else 200,
            terms={term: terms.get(term, "")[:300] for term in TERMS},
            bases=bases_to_ask(self._house.settings),
            names=self._house.names(),
            entries=entries,
            problem=problem,
            more=more,
            behind=behind,
        )

    async def record(self, visit: OfficerVisit) -> Answer:
        """GET /officer/record?chain=…&sequence=…: one record whole."""
        chain, sequence = visit.fields.get("chain", ""), visit.fields.get("sequence", "")
        found = None
        if _SEQUENCE.fullmatch(sequence):
            try:
                found = await self._house.looks.record(chain, int(sequence), by=visit.account.subject)
            except Unreadable:
                found = None
        if found is None:
            words = "officer.no_record_words"
            return self._house.shown(
                visit.browser,
                visit.language,
                "told.html",
                here=SEARCH,
                status=404,
                heading="officer.no_record",
                words=words,
            )
        whole = json.dumps(found.members, ensure_ascii=False, indent=2, sort_keys=True)
        return self._house.shown(
            visit.browser,
            visit.language,
            "record.html",
            here=SEARCH,
            found=found,
            whole=whole if found.members else found.line,
        )

    async def disclosures_form(self, visit: OfficerVisit) -> Answer:
        """GET /officer/disclosures: the form."""
        return self._disclosures_page(visit, {}, found=None)

    async def disclosures(self, visit: OfficerVisit) -> Answer:
        """POST /officer/disclosures: the accounting as a page to print, or as a file."""
        terms = {term: visit.fields.get(term, "") for term in _ASKED}
        house = self._house
        try:
            if not terms["patient"].strip():
                raise QuestionError("say whose record it is about")
            question = question_of(terms, bases=house.bases)
            query = question.query
            found = await accounting(
                house.store,
                base=query.base or "",
                patient=next(iter(query.patients)),
                since=query.since,
                until=query.until or house.clock() * 1000,
                settings=house.settings.officer.disclosures,
                recorder=recorder_of(house.settings),
                names=house.names(),
            )
        except (QuestionError, TooManyDisclosures) as error:
            return self._disclosures_page(visit, terms, found=None, problem=str(error))
        await house.looks.recorded(
            "disclosures", question.recorded(), by=visit.account.subject, shown=len(found.disclosures)
        )
        form = visit.fields.get("as", "")
        file = await self._file(found, form)
        if file is not None:
            return file
        # Of a hundred thousand disclosures a page takes seconds to make.
        return await beside(partial(self._disclosures_page, visit, terms, found=found))

    async def _file(self, found: Accounting, form: str) -> Answer | None:
        """The accounting as a file to save; None where a page is wanted."""
        if form == "csv":
            text = await beside(partial(as_csv, found))
            return rendering.download(text, media_type="text/csv", name="disclosures.csv")
        if form == "json":
            text = await beside(lambda: json.dumps(as_json(found, for_officer=True), ensure_ascii=False))
            return rendering.download(text, media_type="application/json", name="disclosures.json")
        if form == "fhir":
            bundle = await as_fhir(self._house.store, found, recorder_of(self._house.settings))
            text = await beside(partial(json.dumps, bundle, ensure_ascii=False))
            return rendering.download(text, media_type="application/fhir+json", name="disclosures-fhir.json")
        return None

    def _disclosures_page(
        self, visit: OfficerVisit, terms: Mapping[str, str], *, found: Accounting | None, problem: str = ""
    ) -> Answer:
        return self._house.shown(
            visit.browser,
            visit.language,
            "disclosures.html",
            here=DISCLOSURES,
            status=400 if problem else 200,
            terms={term: terms.get(term, "")[:300] for term in _ASKED},
            bases=bases_to_ask(self._house.settings),
            found=found,
            problem=problem,
        )
