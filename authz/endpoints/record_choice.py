"""The pages /patient and /encounter: whose record an app gets, and which visit of it (SMART App Launch 2.2, @167).

A person's own records stand in the account. Who has none of their own, staff and guardians, finds others by a picker
where one is configured: what it shows is what this person may see, and what comes back is looked at again.
"""

from collections.abc import Mapping
from dataclasses import replace

from authz.clock import Clock
from authz.endpoints.completion import Completion
from authz.endpoints.pickers import Person, Pickers
from authz.endpoints.visit_pages import Door, VisitPages, to
from authz.endpoints.visit_person import person_at
from authz.endpoints.visits import PageError, Visit, Visits, check_form, page_form, page_query
from authz.login.finding import Choice, Found
from authz.login.launch import (
    asked_as,
    is_patients_own,
    may_be_opened_by,
    needs_patient,
    picks_encounter,
    records,
)
from authz.login.represented import relationship_to
from authz.protocol.launch_context import context_of
from authz.protocol.request import Answer, HttpRequest
from authz.settings import Account
from authz.storage.store import Store

_MAX_WORDS = 100
_WINDOW_SECONDS = 60
_NOT_YOURS = "error.not_your_record"


class RecordChoice:
    """The doors of the choice of a record."""

    def __init__(
        self,
        *,
        store: Store,
        visits: Visits,
        completion: Completion,
        pickers: Pickers,
        pages: VisitPages,
        clock: Clock,
    ) -> None:
        self._store = store
        self._visits = visits
        self._completion = completion
        self._pickers = pickers
        self._pages = pages
        self._clock = clock

    def routes(self) -> Mapping[str, Mapping[str, Door]]:
        """path → method → door."""
        door = self._pages.door
        return {
            "/patient": {"GET": door(self.patient_page), "POST": door(self.choose_patient)},
            "/encounter": {"GET": door(self.encounter_page), "POST": door(self.choose_encounter)},
        }

    def next_question(self, visit: Visit, account: Account, request: HttpRequest) -> tuple[Visit, str]:
        """The first page that has to ask this person something, and the visit with what it need not ask.

        Nothing is stored, and nothing refused: what must be is at that page. Raises OAuthError(INVALID_SCOPE).
        """
        scope = self._completion.asked_scope(visit, account)
        parameters, interaction = visit.interaction.parameters, visit.interaction
        if interaction.patient is None and (needs_patient(scope) or picks_encounter(scope, parameters)):
            patient = self._only_one(visit, account, request)
            if patient is None:
                return visit, "/patient"
            interaction = replace(interaction, patient=patient, picked=False, encounter=None)
        asks = interaction.encounter is None and picks_encounter(scope, parameters)
        return replace(visit, interaction=interaction), "/encounter" if asks else "/consent"

    def _only_one(self, visit: Visit, account: Account, request: HttpRequest) -> str | None:
        """The one record that it can be: that of the launch, or the only one of an account that finds no others."""
        launched = context_of(visit.interaction.parameters) or {}
        if "patient" in launched:
            patient = str(launched["patient"])
            return patient if may_be_opened_by(patient, account, self._clock()) else None
        own = records(account, self._clock())
        return own[0][0] if len(own) == 1 and self._finding(visit, account, request) is None else None

    async def patient_page(self, request: HttpRequest) -> Answer:
        """GET /patient: whose record, where a scope needs one and there is a choice."""
        visit = await self._visits.of(request, page_query(request).get("interaction"))
        account = self._visits.signed_in(visit)
        further, page = self.next_question(visit, account, request)
        if page != "/patient":
            return await self._on(visit, further, page)
        if "patient" in (context_of(visit.interaction.parameters) or {}):
            return await self._completion.refuse(visit, "the account may not open the record of the launch")
        own = self._own(visit, account)
        person = self._finding(visit, account, request)
        if person is None:
            return await self._of_the_account(visit, account, own)
        found = Found(is_whole=False)
        if person.finder.lists_at_once and await self._may_ask(account, person):
            found = await self._pickers.find_patients(person, "")
        # More than a page of people whom nobody asked for is no help, and would show who is there.
        listed = found.choices if found.is_whole else ()
        choices = (*own, *(choice for choice in listed if choice.id not in {one.id for one in own}))
        if len(choices) == 1 and person.finder.lists_at_once and found.is_whole:
            return await self._chosen(visit, account, request, choices[0].id, picked=not own)
        return self._patients(visit, account, choices, search=True)

    async def choose_patient(self, request: HttpRequest) -> Answer:
        """POST /patient: a search, or the choice."""
        form = _of_either(await page_form(request))
        visit = await self._visits.of(request, form.get("interaction"))
        account = self._visits.signed_in(visit)
        check_form(request, form, visit)
        if form.get("action") == "cancel":
            return await self._completion.refuse(visit, "the person chose no patient")
        if "patient" in (context_of(visit.interaction.parameters) or {}):
            raise PageError("error.launched")
        person = self._finding(visit, account, request)
        if form.get("action") == "search" and person is not None:
            return await self._search(visit, account, person, " ".join(form.get("query", "").split()))
        chosen = form.get("patient", "")
        if chosen in {id for id, _ in records(account, self._clock())}:
            return await self._chosen(visit, account, request, chosen)
        if person is None:
            raise PageError(_NOT_YOURS)
        if not await self._may_ask(account, person):
            return self._wait(visit, account, "")
        found = await self._pickers.patient(person, chosen)
        if found is None or found.id != chosen:
            raise PageError(_NOT_YOURS)
        return await self._chosen(visit, account, request, chosen, picked=True)

    async def _search(self, visit: Visit, account: Account, person: Person, words: str) -> Answer:
        if not 2 <= len(words) <= _MAX_WORDS:
            said = visit.language.plain("patient.length", most=_MAX_WORDS)
            return self._patients(visit, account, (), search=True, words=words, status=400, problem=said)
        if not await self._may_ask(account, person):
            return self._wait(visit, account, words)
        found = await self._pickers.find_patients(person, words)
        if found.is_refused:
            said = visit.language.plain("patient.not_so")
            return self._patients(visit, account, (), search=True, words=words, status=403, problem=said)
        more = not found.is_whole
        return self._patients(
            visit, account, found.choices, search=True, words=words, more=more, searched=True
        )

    async def encounter_page(self, request: HttpRequest) -> Answer:
        """GET /encounter: which visit, where the app asks for one and no record system told it."""
        visit = await self._visits.of(request, page_query(request).get("interaction"))
        account = self._visits.signed_in(visit)
        scope = self._completion.asked_scope(visit, account)
        if visit.interaction.encounter is not None or not picks_encounter(
            scope, visit.interaction.parameters
        ):
            return to("/consent", visit.handle, visit.browser)
        patient, person = visit.interaction.patient, person_at(self._pickers, visit, account, request)
        if patient is None or person is None:
            return to("/patient", visit.handle, visit.browser)
        if not await self._may_ask(account, person):
            raise PageError("error.too_many_searches", 429)
        context = asked_as(scope, account, picked=visit.interaction.picked)
        found = await self._pickers.find_encounters(person, patient, in_context=context)
        return self._pages.page(
            visit,
            200,
            "encounter.html",
            person=account.name,
            encounters=found.choices,
            more=not found.is_whole,
        )

    async def choose_encounter(self, request: HttpRequest) -> Answer:
        """POST /encounter: the visit is looked at again, as this patient's and with the eyes of this person."""
        form = await page_form(request)
        visit = await self._visits.of(request, form.get("interaction"))
        account = self._visits.signed_in(visit)
        check_form(request, form, visit)
        if form.get("action") == "cancel":
            return await self._completion.refuse(visit, "the person chose no visit")
        chosen = "" if form.get("action") == "without" else form.get("encounter", "")
        scope = self._completion.asked_scope(visit, account)
        patient, person = visit.interaction.patient, person_at(self._pickers, visit, account, request)
        if (
            patient is None
            or person is None
            or not picks_encounter(scope, visit.interaction.parameters)
            or (not chosen and form.get("action") != "without")
        ):
            raise PageError("error.not_your_visit")
        if not chosen and not set(scope) - {"launch/encounter"}:
            return await self._completion.refuse(visit, "the person chose no visit")
        if chosen:
            if not await self._may_ask(account, person):
                raise PageError("error.too_many_searches", 429)
            context = asked_as(scope, account, picked=visit.interaction.picked)
            found = await self._pickers.encounter(person, chosen, patient, in_context=context)
            if found is None or found.id != chosen:
                raise PageError("error.not_your_visit")
        await self._store.put_interaction(replace(visit.interaction, encounter=chosen))
        return to("/consent", visit.handle, visit.browser)

    def _own(self, visit: Visit, account: Account) -> tuple[Choice, ...]:
        """The records of the account, those of people whom the person acts for with what they are to them."""
        now, language = self._clock(), visit.language

        def detail(patient: str) -> str:
            code = relationship_to(account, patient, now)
            return (
                language.plain("patient.acting", relationship=language.of("relationship", code))
                if code
                else ""
            )

        return tuple(Choice(id, label, detail(id)) for id, label in records(account, now))

    def _finding(self, visit: Visit, account: Account, request: HttpRequest) -> Person | None:
        """Who finds patients by a picker: a person with an own record speaks for that alone."""
        return None if is_patients_own(account) else person_at(self._pickers, visit, account, request)

    async def _of_the_account(self, visit: Visit, account: Account, own: tuple[Choice, ...]) -> Answer:
        if not own:
            return await self._completion.refuse(visit, "the account has no patient record to share")
        return self._patients(visit, account, own, search=False)

    async def _chosen(
        self, visit: Visit, account: Account, request: HttpRequest, patient: str, *, picked: bool = False
    ) -> Answer:
        """On with this patient; a visit that was chosen before was perhaps another's."""
        chosen = replace(visit.interaction, patient=patient, picked=picked, encounter=None)
        return await self._on(
            visit, *self.next_question(replace(visit, interaction=chosen), account, request)
        )

    async def _on(self, visit: Visit, further: Visit, page: str) -> Answer:
        """On to a page, with what this visit did not know yet stored."""
        if further.interaction is not visit.interaction:
            await self._store.put_interaction(further.interaction)
        return to(page, further.handle, further.browser)

    async def _may_ask(self, account: Account, person: Person) -> bool:
        """Count one question of this person."""
        key = f"picker:{account.subject}"
        count = await self._store.count(key, window_seconds=_WINDOW_SECONDS, now=self._clock())
        return count <= person.finder.searches_per_minute

    def _wait(self, visit: Visit, account: Account, words: str) -> Answer:
        said = visit.language.plain("error.too_many_searches")
        page = self._patients(visit, account, (), search=True, words=words, status=429, problem=said)
        return page.with_headers((("Retry-After", str(_WINDOW_SECONDS)),))

    def _patients(
        self,
        visit: Visit,
        account: Account,
        patients: tuple[Choice, ...],
        *,
        search: bool,
        words: str = "",
        more: bool = False,
        searched: bool = False,
        status: int = 200,
        problem: str = "",
    ) -> Answer:
        return self._pages.page(
            visit,
            status,
            "patient.html",
            person=account.name,
            patients=patients,
            search=search,
            words=words[:_MAX_WORDS],
            more=more,
            searched=searched,
            problem=problem,
        )


def _of_either(form: Mapping[str, str]) -> Mapping[str, str]:
    """The form of the choice, or that of the search: its fields have names of their own.

    So a program that fills in all that a page has sends nothing twice.
    """
    if "interaction" in form:
        return form
    own = {name: form.get(f"search_{name}", "") for name in ("interaction", "form_token")}
    return {**form, **own}
