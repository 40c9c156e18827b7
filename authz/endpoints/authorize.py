"""The authorization endpoint and the pages behind it: sign-in, choice of a record, consent.

RFC 6749 3.1, RFC 9126 4, RFC 9207, FAPI 2.0 Security Profile 5.3.2.2. The pushed request is read as often as the
person needs and is consumed once, in the transaction that writes the code.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from authz.clock import Clock
from authz.endpoints.completion import Completion
from authz.endpoints.grant_duration import duration
from authz.endpoints.pickers import Pickers
from authz.endpoints.plain_requests import PlainRequests
from authz.endpoints.record_choice import RecordChoice
from authz.endpoints.sign_in_attempts import attempt_of
from authz.endpoints.visit_pages import VisitPages, to
from authz.endpoints.visit_person import person_at
from authz.endpoints.visits import (
    GONE,
    PageError,
    Visit,
    Visits,
    check_form,
    each_once,
    page_form,
    page_form_pairs,
    page_query,
)
from authz.events import ConsentGiven, Emit
from authz.login import browser as pages
from authz.login.accounts import Accounts
from authz.login.browser import Browsers
from authz.login.language import Language
from authz.login.launch import asked_as, needs_patient, picks_encounter, records
from authz.login.plain_words import in_words, part_words, plain_words
from authz.login.represented import relationship_to
from authz.protocol import granting
from authz.protocol.errors import ErrorCode
from authz.protocol.granting import ServerBits
from authz.protocol.launch_context import context_of
from authz.protocol.narrowing import narrowed, parts_of
from authz.protocol.openid import PERSONAL_CLAIMS, personal_claims, read_claims_request
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.scopes import parse_scope
from authz.settings import Account, AuthorizationSettings
from authz.storage.store import Store

_NOTHING_CHOSEN: Mapping[str, Any] = {"patient": None, "picked": False, "encounter": None}


class SignInDesk:
    """The doors of the authorization endpoint."""

    def __init__(
        self,
        *,
        settings: AuthorizationSettings,
        store: Store,
        accounts: Accounts,
        server: ServerBits,
        browsers: Browsers,
        visits: Visits,
        completion: Completion,
        pickers: Pickers,
        choice: RecordChoice,
        shown: VisitPages,
        plain: PlainRequests,
        emit: Emit,
        clock: Clock,
    ) -> None:
        self._pickers = pickers
        self._choice = choice
        self._page = shown.page
        self._plain = plain
        self._settings = settings
        self._store = store
        self._accounts = accounts
        self._server = server
        self._browsers = browsers
        self._visits = visits
        self._completion = completion
        self._emit = emit
        self._clock = clock

    async def authorize(self, request: HttpRequest) -> Answer:
        """GET or POST /authorize: on to the pages, or straight back where none may be shown."""
        plain = await self._plain.take(request)
        if isinstance(plain, Answer):
            return plain
        visit = await (
            self._visits.begin(request) if plain is None else self._visits.begin_with(plain, request)
        )
        if "none" in visit.interaction.parameters.get("prompt", "").split():
            return await self._completion.without_pages(visit, request)
        page = "/sign-in"
        if visit.account is not None and not self._visits.must_sign_in(visit):
            visit, page = self._choice.next_question(visit, visit.account, request)
        await self._visits.keep(visit)
        return to(page, visit.handle, visit.browser)

    async def sign_in_page(self, request: HttpRequest) -> Answer:
        """GET /sign-in: the form, or straight on for a person who is signed in already."""
        visit = await self._visits.of(request, page_query(request).get("interaction"))
        if visit.account is not None and not self._visits.must_sign_in(visit):
            return to("/patient", visit.handle, visit.browser)
        return self._sign_in_form(visit, username=visit.interaction.parameters.get("login_hint", ""))

    async def sign_in(self, request: HttpRequest) -> Answer:
        """POST /sign-in."""
        form = await page_form(request)
        visit = await self._visits.of(request, form.get("interaction"))
        if visit.came_over:
            return to("/sign-in", visit.handle, visit.browser)
        check_form(request, form, visit)
        if form.get("action") == "cancel":
            return await self._completion.refuse(visit, "the person did not sign in")
        attempt = await attempt_of(
            form,
            request,
            accounts=self._accounts,
            client_id=visit.client.client_id,
            emit=self._emit,
            now=self._clock(),
            language=visit.language,
        )
        if attempt.account is None:
            page = self._sign_in_form(
                visit, status=attempt.status, problem=attempt.problem, username=attempt.username
            )
            return page.with_headers(attempt.headers)
        browser = await self._browsers.signed_in(visit.browser, attempt.account.subject, ("pwd",))
        interaction = replace(
            visit.interaction, session_id=browser.session.id, signed_in=True, **_NOTHING_CHOSEN
        )
        await self._store.put_interaction(interaction)
        visit = replace(visit, interaction=interaction, browser=browser, account=attempt.account)
        if self._visits.hints_at_another(visit):
            hinted = "another person signed in than the one of id_token_hint, of claims or of the launch"
            refused = await self._completion.refuse(visit, hinted, ErrorCode.LOGIN_REQUIRED)
            return refused.with_headers((("Set-Cookie", browser.cookie or ""),))
        return to("/patient", visit.handle, browser)

    async def consent_page(self, request: HttpRequest) -> Answer:
        """GET /consent: who asks for what."""
        visit = await self._visits.of(request, page_query(request).get("interaction"))
        account = self._visits.signed_in(visit)
        scope = self._completion.asked_scope(visit, account)
        parameters = visit.interaction.parameters
        visits, language = picks_encounter(scope, parameters), visit.language
        if (needs_patient(scope) or visits) and visit.interaction.patient is None:
            return to("/patient", visit.handle, visit.browser)
        if visits and visit.interaction.encounter is None:
            return to("/encounter", visit.handle, visit.browser)
        asked = read_claims_request(parameters.get("claims", "{}"), self._server.acr_values)
        beside = personal_claims(asked, ()) - personal_claims({}, scope)
        return self._page(
            visit,
            200,
            "consent.html",
            shown=visit.browser.form_token(_what_is_shown(visit)),
            person=account.name,
            patient_label=await self._label(visit, account, request),
            acting_as=self._acting_as(visit, account),
            encounter_label=await self._encounter_label(visit, account, request, scope) if visits else None,
            scopes=[
                (text, plain_words(text, language), self._parts(text, scope, language)) for text in scope
            ],
            details=[
                in_words(detail, self._server.detail_types, language)
                for detail in granting.details(parameters, visit.client, self._server)
            ],
            claims=[plain_words(PERSONAL_CLAIMS[name], language) for name in sorted(beside)],
            duration=duration(visit, scope, self._settings),
            writes=any(set("cud") & set(s.letters) for text in scope if (s := parse_scope(text)) is not None),
            contact=visit.client.contact,
            policy_url=visit.client.policy_url,
        )

    def _parts(self, text: str, scope: tuple[str, ...], language: Language) -> list[tuple[str, str]]:
        """The parts of a scope that may be left of it, with what each is."""
        return [(part, part_words(part, language)) for part in parts_of(text, scope, self._server.grantable)]

    async def _label(self, visit: Visit, account: Account, request: HttpRequest) -> str | None:
        """Whose record it is. Raises PageError for a picked one that the person may not see any more."""
        launched = context_of(visit.interaction.parameters) or {}
        whose = visit.interaction.patient or str(launched.get("patient", ""))
        if not visit.interaction.picked:
            return dict(records(account, self._clock())).get(whose, whose) or None
        person = person_at(self._pickers, visit, account, request)
        found = None if person is None else await self._pickers.patient(person, whose)
        if found is None:
            raise PageError(GONE)
        return found.words

    def _acting_as(self, visit: Visit, account: Account) -> str:
        """What the person is to the patient for whom they act, in words; '' where they do not."""
        relationship = relationship_to(account, visit.interaction.patient, self._clock())
        return visit.language.of("relationship", relationship) if relationship else ""

    async def _encounter_label(
        self, visit: Visit, account: Account, request: HttpRequest, scope: tuple[str, ...]
    ) -> str:
        """Which visit it is. Raises PageError for one that the person may not see any more."""
        person, patient = person_at(self._pickers, visit, account, request), visit.interaction.patient
        found = None
        if person is not None and patient is not None and visit.interaction.encounter:
            context = asked_as(scope, account, picked=visit.interaction.picked)
            chosen = visit.interaction.encounter
            found = await self._pickers.encounter(person, chosen, patient, in_context=context)
        if found is None:
            raise PageError(GONE)
        return found.words

    async def decide(self, request: HttpRequest) -> Answer:
        """POST /consent: allow, do not allow, or sign in as somebody else."""
        pairs = await page_form_pairs(request)
        form = each_once([pair for pair in pairs if pair[0] not in ("scope", "only")])
        visit = await self._visits.of(request, form.get("interaction"))
        if self._visits.grew_too_old(visit):
            check_form(request, form, visit)
            return await self._sign_in_again(visit)
        account = self._visits.signed_in(visit)
        check_form(request, form, visit)
        if form.get("action") == "other":
            return await self._sign_in_again(visit)
        ticked = {value for name, value in pairs if name == "scope"}
        only = {value for name, value in pairs if name == "only"}
        asked = self._completion.asked_scope(visit, account)
        scope = narrowed(asked, ticked, only, self._server.grantable)
        if form.get("action") != "allow" or not scope:
            self._emit(ConsentGiven("denied", account.subject, visit.client.client_id, (), None))
            return await self._completion.refuse(visit, "the person did not allow the access")
        if not visit.browser.owns_form(form.get("shown"), _what_is_shown(visit)):
            raise PageError("error.another_record")
        if needs_patient(scope) and not self._completion.may_open(visit, account):
            raise PageError(GONE)
        await self._label(visit, account, request)  # a page may lie open for long: looked at again
        return await self._completion.allow(visit, account, scope)

    async def style(self, request: HttpRequest) -> Answer:
        """GET the style sheet."""
        return pages.style_sheet()

    async def _sign_in_again(self, visit: Visit) -> Answer:
        """The sign-in page in a new session of nobody."""
        browser = await self._browsers.signed_out(visit.browser)
        await self._store.put_interaction(
            replace(visit.interaction, session_id=browser.session.id, signed_in=False, **_NOTHING_CHOSEN)
        )
        return to("/sign-in", visit.handle, browser)

    def _sign_in_form(
        self, visit: Visit, *, status: int = 200, problem: str = "", username: str = ""
    ) -> Answer:
        return self._page(visit, status, "sign_in.html", problem=problem, username=username[:256])


def _what_is_shown(visit: Visit) -> str:
    """What a consent page is about: the visit with its record, so that no older page allows another one."""
    chosen = visit.interaction
    return "\n".join((chosen.id, chosen.patient or "", chosen.encounter or ""))
