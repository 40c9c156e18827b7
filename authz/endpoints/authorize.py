"""The authorization endpoint and the pages behind it: sign-in, choice of a record, consent.

RFC 6749 3.1, RFC 9126 4, RFC 9207, FAPI 2.0 Security Profile 5.3.2.2. The pushed request is read as often as the
person needs and is consumed once, in the transaction that writes the code.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from urllib.parse import quote

from authz.clock import Clock
from authz.endpoints.authorization_response import AuthorizationResponses
from authz.endpoints.completion import Completion
from authz.endpoints.launches import Launches
from authz.endpoints.plain_requests import PlainRequests
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
from authz.events import ConsentGiven, Emit, SignIn
from authz.keys import KeyRing
from authz.login import browser as pages
from authz.login.accounts import Accounts, SignInOutcome
from authz.login.browser import Browser, Browsers
from authz.login.launch import is_online, may_be_opened_by, needs_patient, records
from authz.protocol import granting
from authz.protocol.authorization_details import in_words
from authz.protocol.client_profiles import may_refresh
from authz.protocol.clients import BindingKind, Client
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.granting import ServerBits
from authz.protocol.launch_context import context_of
from authz.protocol.openid import PERSONAL_CLAIMS, Subjects, personal_claims, read_claims_request
from authz.protocol.request import Answer, HttpRequest, RequestError
from authz.protocol.scopes import parse_scope, plain_words
from authz.settings import Account, AuthorizationSettings
from authz.storage.store import Store

Door = Callable[[HttpRequest], Awaitable[Answer]]


def sign_in_doors(
    *,
    settings: AuthorizationSettings,
    store: Store,
    clients: Mapping[str, Client],
    accounts: Mapping[str, Account],
    server: ServerBits,
    launches: Launches,
    responses: AuthorizationResponses,
    browsers: Browsers,
    subjects: Subjects,
    keys: KeyRing,
    emit: Emit,
    clock: Clock,
) -> Mapping[str, Mapping[str, Door]]:
    """path → method → door of the authorization endpoint and its pages."""
    people = Accounts(accounts, store, settings.sign_in_attempts_per_minute)
    visits = Visits(
        issuer=settings.issuer,
        acr_values=server.acr_values,
        sign_in_seconds=settings.lifetimes.sign_in,
        store=store,
        clients=clients,
        accounts=people,
        browsers=browsers,
        subjects=subjects,
        keys=keys,
        clock=clock,
    )
    completion = Completion(
        code_seconds=settings.lifetimes.code,
        store=store,
        server=server,
        visits=visits,
        responses=responses,
        emit=emit,
        clock=clock,
    )
    plain = PlainRequests(
        profiles=settings.profiles,
        store=store,
        clients=clients,
        server=server,
        launches=launches,
        responses=responses,
        keys=keys,
        lifetime_seconds=settings.lifetimes.pushed_request,
        emit=emit,
        clock=clock,
    )
    desk = SignInDesk(
        settings=settings,
        store=store,
        accounts=people,
        server=server,
        browsers=browsers,
        visits=visits,
        completion=completion,
        plain=plain,
        emit=emit,
        clock=clock,
    )
    by = ("GET", "POST") if plain.exist else ("GET",)
    return {
        "/authorize": dict.fromkeys(by, desk.door(desk.authorize)),
        "/sign-in": {"GET": desk.door(desk.sign_in_page), "POST": desk.door(desk.sign_in)},
        "/patient": {"GET": desk.door(desk.patient_page), "POST": desk.door(desk.choose_patient)},
        "/consent": {"GET": desk.door(desk.consent_page), "POST": desk.door(desk.decide)},
        pages.STYLE_PATH: {"GET": desk.door(desk.style)},
    }


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
        plain: PlainRequests,
        emit: Emit,
        clock: Clock,
    ) -> None:
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

    def door(self, handler: Door) -> Door:
        """The handler with its errors shown as a page."""

        async def shown(request: HttpRequest) -> Answer:
            try:
                return await handler(request)
            except (PageError, RequestError) as error:
                return self._error_page(error.description, error.status)
            except OAuthError as error:
                return self._error_page(f"The app sent a request that is not valid: {error.description}.")

        return shown

    def _error_page(self, description: str, status: int = 400) -> Answer:
        settings = self._settings
        return pages.error_page(
            description, organisation=settings.organisation, privacy_url=settings.privacy_url, status=status
        )

    async def authorize(self, request: HttpRequest) -> Answer:
        """GET or POST /authorize: on to the pages, or straight back where none may be shown."""
        plain = await self._plain.take(request)
        if isinstance(plain, Answer):
            return plain
        visit = await (
            self._visits.begin(request) if plain is None else self._visits.begin_with(plain, request)
        )
        if "none" in visit.interaction.parameters.get("prompt", "").split():
            return await self._completion.without_pages(visit)
        await self._visits.keep(visit)
        return _to("/sign-in", visit.handle, visit.browser)

    async def sign_in_page(self, request: HttpRequest) -> Answer:
        """GET /sign-in: the form, or straight on for a person who is signed in already."""
        visit = await self._visits.of(request, page_query(request).get("interaction"))
        if visit.account is not None and not self._visits.must_sign_in(visit):
            return _to("/patient", visit.handle, visit.browser)
        return self._sign_in_form(visit, username=visit.interaction.parameters.get("login_hint", ""))

    async def sign_in(self, request: HttpRequest) -> Answer:
        """POST /sign-in."""
        form = await page_form(request)
        visit = await self._visits.of(request, form.get("interaction"))
        check_form(request, form, visit)
        if form.get("action") == "cancel":
            return await self._completion.refuse(visit, "the person did not sign in")
        username = form.get("username", "").strip()
        result = await self._accounts.sign_in(
            username, form.get("password", ""), peer=request.peer, now=self._clock()
        )
        subject = None if result.account is None else result.account.subject
        self._emit(SignIn(str(result.outcome), subject, visit.client.client_id, request.peer))
        if result.outcome is SignInOutcome.LIMITED:
            wait = "Too many attempts. Wait a minute and try again."
            answer = self._sign_in_form(visit, status=429, problem=wait, username=username)
            return answer.with_headers((("Retry-After", "60"),))
        if result.account is None:
            said = "User name or password is not right."
            return self._sign_in_form(visit, status=403, problem=said, username=username)
        browser = await self._browsers.signed_in(visit.browser, result.account.subject, ("pwd",))
        interaction = replace(visit.interaction, session_id=browser.session.id, signed_in=True, patient=None)
        await self._store.put_interaction(interaction)
        visit = replace(visit, interaction=interaction, browser=browser, account=result.account)
        if self._visits.hints_at_another(visit):
            hinted = "another person signed in than the one of id_token_hint or of the launch"
            refused = await self._completion.refuse(visit, hinted, ErrorCode.LOGIN_REQUIRED)
            return refused.with_headers((("Set-Cookie", browser.cookie or ""),))
        return _to("/patient", visit.handle, browser)

    async def patient_page(self, request: HttpRequest) -> Answer:
        """GET /patient: whose record, where a scope needs one and there is a choice."""
        visit = await self._visits.of(request, page_query(request).get("interaction"))
        account = self._visits.signed_in(visit)
        if (
            not needs_patient(self._completion.asked_scope(visit, account))
            or visit.interaction.patient is not None
        ):
            return _to("/consent", visit.handle, visit.browser)
        launched = context_of(visit.interaction.parameters) or {}
        if "patient" in launched:
            if not may_be_opened_by(str(launched["patient"]), account):
                return await self._completion.refuse(
                    visit, "the account may not open the record of the launch"
                )
            await self._store.put_interaction(replace(visit.interaction, patient=str(launched["patient"])))
            return _to("/consent", visit.handle, visit.browser)
        choices = records(account)
        if not choices:
            return await self._completion.refuse(visit, "the account has no patient record to share")
        if len(choices) == 1:
            await self._store.put_interaction(replace(visit.interaction, patient=choices[0][0]))
            return _to("/consent", visit.handle, visit.browser)
        return self._page(visit, 200, "patient.html", patients=choices, person=account.name)

    async def choose_patient(self, request: HttpRequest) -> Answer:
        """POST /patient."""
        form = await page_form(request)
        visit = await self._visits.of(request, form.get("interaction"))
        account = self._visits.signed_in(visit)
        check_form(request, form, visit)
        if form.get("action") == "cancel":
            return await self._completion.refuse(visit, "the person chose no patient")
        chosen = form.get("patient")
        if "patient" in (context_of(visit.interaction.parameters) or {}):
            raise PageError("The record was chosen by the launch.")
        if chosen not in {id for id, _ in records(account)}:
            raise PageError("That record is not one you may choose.")
        await self._store.put_interaction(replace(visit.interaction, patient=chosen))
        return _to("/consent", visit.handle, visit.browser)

    async def consent_page(self, request: HttpRequest) -> Answer:
        """GET /consent: who asks for what."""
        visit = await self._visits.of(request, page_query(request).get("interaction"))
        account = self._visits.signed_in(visit)
        scope = self._completion.asked_scope(visit, account)
        if needs_patient(scope) and visit.interaction.patient is None:
            return _to("/patient", visit.handle, visit.browser)
        labels = dict(records(account))
        launched = context_of(visit.interaction.parameters) or {}
        whose = visit.interaction.patient or str(launched.get("patient", ""))
        asked = read_claims_request(visit.interaction.parameters.get("claims", "{}"), self._server.acr_values)
        beside = personal_claims(asked, ()) - personal_claims({}, scope)
        return self._page(
            visit,
            200,
            "consent.html",
            person=account.name,
            patient_label=labels.get(whose, whose) or None,
            scopes=[(text, plain_words(text)) for text in scope],
            details=[
                in_words(detail, self._server.detail_types)
                for detail in granting.details(visit.interaction.parameters, visit.client, self._server)
            ],
            claims=[plain_words(PERSONAL_CLAIMS[name]) for name in sorted(beside)],
            duration=self._duration(visit, scope),
            writes=any(set("cud") & set(s.letters) for text in scope if (s := parse_scope(text)) is not None),
            contact=visit.client.contact,
            policy_url=visit.client.policy_url,
        )

    async def decide(self, request: HttpRequest) -> Answer:
        """POST /consent: allow, do not allow, or sign in as somebody else."""
        pairs = await page_form_pairs(request)
        form = each_once([pair for pair in pairs if pair[0] != "scope"])
        visit = await self._visits.of(request, form.get("interaction"))
        if self._visits.grew_too_old(visit):
            check_form(request, form, visit)
            return await self._sign_in_again(visit)
        account = self._visits.signed_in(visit)
        check_form(request, form, visit)
        if form.get("action") == "other":
            return await self._sign_in_again(visit)
        ticked = {value for name, value in pairs if name == "scope"}
        scope = tuple(text for text in self._completion.asked_scope(visit, account) if text in ticked)
        if form.get("action") != "allow" or not scope:
            self._emit(ConsentGiven("denied", account.subject, visit.client.client_id, (), None))
            return await self._completion.refuse(visit, "the person did not allow the access")
        if needs_patient(scope) and not self._completion.may_open(visit, account):
            raise PageError(GONE)
        return await self._completion.allow(visit, account, scope)

    async def style(self, request: HttpRequest) -> Answer:
        """GET the style sheet."""
        return pages.style_sheet()

    async def _sign_in_again(self, visit: Visit) -> Answer:
        """The sign-in page in a new session of nobody."""
        browser = await self._browsers.signed_out(visit.browser)
        await self._store.put_interaction(
            replace(visit.interaction, session_id=browser.session.id, signed_in=False, patient=None)
        )
        return _to("/sign-in", visit.handle, browser)

    def _sign_in_form(
        self, visit: Visit, *, status: int = 200, problem: str = "", username: str = ""
    ) -> Answer:
        return self._page(visit, status, "sign_in.html", problem=problem, username=username[:256])

    def _page(self, visit: Visit, status: int, template: str, **values: object) -> Answer:
        return pages.page(
            status,
            template,
            form_goes_to=visit.target.redirect_uri,
            organisation=self._settings.organisation,
            privacy_url=self._settings.privacy_url,
            client_name=visit.client.name,
            interaction=visit.handle,
            form_token=visit.browser.form_token(visit.interaction.id),
            **values,
        )

    def _duration(self, visit: Visit, scope: tuple[str, ...]) -> str:
        client, lifetimes = visit.client, self._settings.lifetimes
        asking = {"offline_access", "online_access"}
        bound = client.binding is not BindingKind.NONE or visit.interaction.dpop_jkt is not None
        stays = may_refresh(client, bound=bound, rotates=self._settings.rotate_refresh_tokens)
        if stays and is_online(scope):
            return f"Until you sign out, at most {max(1, lifetimes.browser_session // 60)} minutes"
        if stays and (asking & set(scope) or not asking & set(client.scope)):
            return f"Until you end it, at most {lifetimes.refresh_token // 86400} days"
        return f"{max(1, lifetimes.access_token // 60)} minutes"


def _to(path: str, handle: str, browser: Browser) -> Answer:
    url = f"{path}?interaction={quote(handle)}"
    return pages.redirect(url) if browser.cookie is None else pages.redirect(url, browser.cookie)
