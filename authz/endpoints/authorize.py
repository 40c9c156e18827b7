"""The authorization endpoint and the pages behind it: sign-in, choice of a record, consent, and the way back.

RFC 6749 3.1, RFC 9126 4, RFC 9207, FAPI 2.0 Security Profile 5.3.2.2. The pushed request is read as often as the
person needs and is consumed once, in the transaction that writes the code. Nothing redirects before
authorization.locate() proved the address.
"""

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote

from authz.clock import Clock
from authz.endpoints.authorization_response import AuthorizationResponses
from authz.endpoints.grants import digest
from authz.endpoints.own_id_tokens import read_hint
from authz.endpoints.pushed_authorization import REQUEST_URI_PREFIX, request_id
from authz.events import ConsentGiven, Emit, SignIn
from authz.http import read_form
from authz.keys import KeyRing
from authz.login import browser as pages
from authz.login.accounts import Accounts, SignInOutcome
from authz.login.browser import Browser, Browsers
from authz.protocol import authorization
from authz.protocol.authorization import RedirectTarget, ServerBits
from authz.protocol.authorization_details import in_words
from authz.protocol.clients import Client, GrantType
from authz.protocol.encoding import base64url, parse_query
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.openid import ACR_PASSWORD, Subjects, read_claims_request
from authz.protocol.request import Answer, HttpRequest, RequestError
from authz.protocol.scopes import parse_scope, plain_words
from authz.protocol.tokens import Grant
from authz.settings import Account, AuthorizationSettings
from authz.storage.store import AuthorizationCode, Interaction, Store

_GONE = "This sign-in has ended or was completed already. Go back to the app and start again."
_MAX_FORM_BYTES = 64 * 1024

Door = Callable[[HttpRequest], Awaitable[Answer]]


class PageError(Exception):
    """An error that cannot be sent to a client: shown to the person."""

    def __init__(self, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.description = description
        self.status = status


@dataclass(frozen=True, slots=True)
class Visit:
    """A person on the way: the interaction, its client and where the answer will go."""

    interaction: Interaction
    handle: str
    client: Client
    target: RedirectTarget
    browser: Browser
    account: Account | None


def sign_in_doors(
    *,
    settings: AuthorizationSettings,
    store: Store,
    clients: Mapping[str, Client],
    accounts: Mapping[str, Account],
    server: ServerBits,
    responses: AuthorizationResponses,
    browsers: Browsers,
    subjects: Subjects,
    keys: KeyRing,
    emit: Emit,
    clock: Clock,
) -> Mapping[str, Mapping[str, Door]]:
    """path → method → door of the authorization endpoint and its pages."""
    desk = SignInDesk(
        settings=settings,
        store=store,
        clients=clients,
        accounts=Accounts(accounts, store, settings.sign_in_attempts_per_minute),
        server=server,
        responses=responses,
        browsers=browsers,
        subjects=subjects,
        keys=keys,
        emit=emit,
        clock=clock,
    )
    return {
        "/authorize": {"GET": desk.door(desk.authorize)},
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
        clients: Mapping[str, Client],
        accounts: Accounts,
        server: ServerBits,
        responses: AuthorizationResponses,
        browsers: Browsers,
        subjects: Subjects,
        keys: KeyRing,
        emit: Emit,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._store = store
        self._clients = clients
        self._accounts = accounts
        self._server = server
        self._responses = responses
        self._browsers = browsers
        self._subjects = subjects
        self._keys = keys
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
        """GET /authorize: only client_id and request_uri are read (P9); everything else was pushed (P10)."""
        client_id, handle = self._asked(request)
        now = self._clock()
        pushed = await self._store.pushed_request(request_id(handle), now=now)
        if pushed is None or pushed.client_id != client_id or pushed.expires_at <= now:
            raise PageError("request_uri is not known here, has expired or was used. Start again in the app.")
        client = self._clients.get(client_id)
        if client is None:
            raise PageError("The app is not registered here.")
        authorization.locate(pushed.parameters, client)
        browser = await self._browsers.known_or_new(request)
        new = base64url(secrets.token_bytes(32))
        await self._store.put_interaction(
            Interaction(
                id=digest(new),
                request_id=pushed.id,
                client_id=client_id,
                parameters=pushed.parameters,
                dpop_jkt=pushed.dpop_jkt,
                session_id=browser.session.id,
                expires_at=now + self._settings.lifetimes.sign_in,
            )
        )
        if "none" in pushed.parameters.get("prompt", "").split():
            return await self._without_pages(await self._visit_of(new, browser))
        # The pushed request must outlive the pages: the person may take as long as a sign-in may take.
        await self._store.keep_pushed_request(
            pushed.id, until=now + self._settings.lifetimes.sign_in, now=now
        )
        return _to("/sign-in", new, browser)

    async def _without_pages(self, visit: Visit) -> Answer:
        """prompt=none (OpenID Connect Core 3.1.2.1): a code for what was granted before, or an error; never a page."""
        account = visit.account
        if account is None or self._must_sign_in(visit):
            return await self._refuse(visit, "the person is not signed in here", ErrorCode.LOGIN_REQUIRED)
        scope = self._asked_scope(visit, account)
        asked = authorization.details(visit.interaction.parameters, self._server)
        audience = set(authorization.audience(visit.interaction.parameters, self._server))
        records = {id for id, _ in _records(account)}
        for grant in await self._store.grants(
            subject=account.subject, client_id=visit.client.client_id, now=self._clock()
        ):
            patient = grant.context.get("patient")
            told = not asked or asked == grant.authorization_details
            told = told and audience <= set(grant.audience)
            if told and set(scope) <= set(grant.scope) and (not _needs_patient(scope) or patient in records):
                chosen = replace(visit, interaction=replace(visit.interaction, patient=patient))
                return await self._complete(chosen, account, scope)
        return await self._refuse(visit, "the person was not asked before", ErrorCode.CONSENT_REQUIRED)

    async def sign_in_page(self, request: HttpRequest) -> Answer:
        """GET /sign-in: the form, or straight on for a person who is signed in already."""
        visit = await self._visit(request, _query(request).get("interaction"))
        if visit.account is not None and not self._must_sign_in(visit):
            return _to("/patient", visit.handle, visit.browser)
        return self._sign_in_form(visit, username=visit.interaction.parameters.get("login_hint", ""))

    async def sign_in(self, request: HttpRequest) -> Answer:
        """POST /sign-in."""
        form = await _form(request)
        visit = await self._visit(request, form.get("interaction"))
        self._check_form(request, form, visit)
        if form.get("action") == "cancel":
            return await self._refuse(visit, "the person did not sign in")
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
        if self._hints_at_another(visit):
            said = "another person signed in than the one of id_token_hint"
            refused = await self._refuse(visit, said, ErrorCode.LOGIN_REQUIRED)
            return refused.with_headers((("Set-Cookie", browser.cookie or ""),))
        return _to("/patient", visit.handle, browser)

    async def patient_page(self, request: HttpRequest) -> Answer:
        """GET /patient: whose record, where a scope needs one and there is a choice."""
        visit = await self._visit(request, _query(request).get("interaction"))
        account = self._signed_in(visit)
        if not _needs_patient(self._asked_scope(visit, account)) or visit.interaction.patient is not None:
            return _to("/consent", visit.handle, visit.browser)
        choices = _records(account)
        if not choices:
            return await self._refuse(visit, "the account has no patient record to share")
        if len(choices) == 1:
            await self._store.put_interaction(replace(visit.interaction, patient=choices[0][0]))
            return _to("/consent", visit.handle, visit.browser)
        return self._page(visit, 200, "patient.html", patients=choices, person=account.name)

    async def choose_patient(self, request: HttpRequest) -> Answer:
        """POST /patient."""
        form = await _form(request)
        visit = await self._visit(request, form.get("interaction"))
        account = self._signed_in(visit)
        self._check_form(request, form, visit)
        if form.get("action") == "cancel":
            return await self._refuse(visit, "the person chose no patient")
        chosen = form.get("patient")
        if chosen not in {id for id, _ in _records(account)}:
            raise PageError("That record is not one you may choose.")
        await self._store.put_interaction(replace(visit.interaction, patient=chosen))
        return _to("/consent", visit.handle, visit.browser)

    async def consent_page(self, request: HttpRequest) -> Answer:
        """GET /consent: who asks for what."""
        visit = await self._visit(request, _query(request).get("interaction"))
        account = self._signed_in(visit)
        scope = self._asked_scope(visit, account)
        if _needs_patient(scope) and visit.interaction.patient is None:
            return _to("/patient", visit.handle, visit.browser)
        labels = dict(_records(account))
        return self._page(
            visit,
            200,
            "consent.html",
            person=account.name,
            patient_label=labels.get(visit.interaction.patient or ""),
            scopes=[(text, plain_words(text)) for text in scope],
            details=[
                in_words(detail, self._server.detail_types)
                for detail in authorization.details(visit.interaction.parameters, self._server)
            ],
            duration=self._duration(visit.client, scope),
            writes=any(set("cud") & set(s.letters) for text in scope if (s := parse_scope(text)) is not None),
            contact=visit.client.contact,
            policy_url=visit.client.policy_url,
        )

    async def decide(self, request: HttpRequest) -> Answer:
        """POST /consent: allow, do not allow, or sign in as somebody else."""
        pairs = await _form_pairs(request)
        form = _once([pair for pair in pairs if pair[0] != "scope"])
        visit = await self._visit(request, form.get("interaction"))
        account = self._signed_in(visit)
        self._check_form(request, form, visit)
        if form.get("action") == "other":
            return await self._sign_in_again(visit)
        ticked = {value for name, value in pairs if name == "scope"}
        scope = tuple(text for text in self._asked_scope(visit, account) if text in ticked)
        if form.get("action") != "allow" or not scope:
            self._emit(ConsentGiven("denied", account.subject, visit.client.client_id, (), None))
            return await self._refuse(visit, "the person did not allow the access")
        if _needs_patient(scope) and visit.interaction.patient not in {id for id, _ in _records(account)}:
            raise PageError(_GONE)
        return await self._complete(visit, account, scope)

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

    async def _complete(self, visit: Visit, account: Account, scope: tuple[str, ...]) -> Answer:
        now = self._clock()
        parameters = visit.interaction.parameters
        session = visit.browser.session
        patient = visit.interaction.patient if _needs_patient(scope) else None
        grant = Grant(
            grant_id=base64url(secrets.token_bytes(16)),
            client_id=visit.client.client_id,
            subject=account.subject,
            scope=scope,
            audience=authorization.audience(parameters, self._server),
            context={} if patient is None else {"patient": patient},
            claims=dict(account.claims),
            authenticated_at=session.authenticated_at,
            acr=ACR_PASSWORD,
            amr=session.amr,
            created_at=now,
            claims_request=read_claims_request(parameters.get("claims", "{}"), self._server.acr_values),
            authorization_details=authorization.details(parameters, self._server),
            managed="grant_management_action" in parameters,
        )
        handle = base64url(secrets.token_bytes(32))
        code = AuthorizationCode(
            id=digest(handle),
            grant_id=grant.grant_id,
            client_id=visit.client.client_id,
            redirect_uri=visit.target.redirect_uri,
            code_challenge=parameters["code_challenge"],
            dpop_jkt=visit.interaction.dpop_jkt,
            nonce=parameters.get("nonce"),
            expires_at=now + self._settings.lifetimes.code,
        )
        written = await self._store.complete_authorization(
            request_id=visit.interaction.request_id,
            interaction_id=visit.interaction.id,
            grant=grant,
            code=code,
            now=now,
        )
        if not written:
            raise PageError(_GONE)
        self._emit(ConsentGiven("allowed", account.subject, visit.client.client_id, scope, grant.grant_id))
        return await self._responses.success(visit.target, handle)

    async def _refuse(
        self, visit: Visit, description: str, code: ErrorCode = ErrorCode.ACCESS_DENIED
    ) -> Answer:
        """An error at the redirect URI (A5); the pushed request is consumed."""
        consumed = await self._store.refuse_authorization(
            request_id=visit.interaction.request_id, interaction_id=visit.interaction.id, now=self._clock()
        )
        if not consumed:
            raise PageError(_GONE)
        error = OAuthError(code, description)
        return await self._responses.failure(visit.target, error)

    def _asked(self, request: HttpRequest) -> tuple[str, str]:
        try:
            pairs = parse_query(request.query)
        except ValueError as error:
            raise PageError("The address cannot be read.") from error
        asked: dict[str, str] = {}
        for name, value in pairs:
            if name not in ("client_id", "request_uri"):
                continue
            if name in asked:
                raise PageError(f"{name} is sent more than once.")
            asked[name] = value
        request_uri, client_id = asked.get("request_uri", ""), asked.get("client_id", "")
        if not request_uri:
            raise PageError("This server takes pushed authorization requests only: request_uri is missing.")
        if not client_id:
            raise PageError("client_id is missing.")
        if not request_uri.startswith(REQUEST_URI_PREFIX):
            raise PageError("request_uri is not one that this server gave out.")
        return client_id, request_uri.removeprefix(REQUEST_URI_PREFIX)

    async def _visit(self, request: HttpRequest, handle: str | None) -> Visit:
        """The visit that handle names, in the very browser that began it; the pushed request still waiting."""
        browser = await self._browsers.known(request)
        return await self._visit_of(handle, browser)

    async def _visit_of(self, handle: str | None, browser: Browser | None) -> Visit:
        interaction = None
        if handle:
            interaction = await self._store.interaction(digest(handle), now=self._clock())
        if handle is None or browser is None or interaction is None:
            raise PageError(_GONE)
        if interaction.session_id != browser.session.id:
            raise PageError(_GONE)
        if await self._store.pushed_request(interaction.request_id, now=self._clock()) is None:
            raise PageError(_GONE)
        client = self._clients.get(interaction.client_id)
        if client is None:
            raise PageError("The app is not registered here any more.")
        subject = browser.session.subject
        return Visit(
            interaction=interaction,
            handle=handle,
            client=client,
            target=authorization.locate(interaction.parameters, client),
            browser=browser,
            account=None if subject is None else self._accounts.of_subject(subject),
        )

    def _signed_in(self, visit: Visit) -> Account:
        if visit.account is None or self._must_sign_in(visit):
            raise PageError(_GONE)
        return visit.account

    def _must_sign_in(self, visit: Visit) -> bool:
        """Whether the app wants a sign-in newer than the one that the browser has: prompt, max_age (RFC 9470 4)."""
        if visit.interaction.signed_in:
            return False
        parameters = visit.interaction.parameters
        if self._hints_at_another(visit):
            return True
        prompt = parameters.get("prompt", "").split()
        if "login" in prompt or "select_account" in prompt:
            return True
        max_age, at = parameters.get("max_age"), visit.browser.session.authenticated_at
        if max_age is None or at is None:
            return False
        return not re.fullmatch("[0-9]{1,9}", max_age) or self._clock() - at > int(max_age)

    def _hints_at_another(self, visit: Visit) -> bool:
        """Whether the app means somebody else than the person who is signed in (id_token_hint)."""
        hint, subject = visit.interaction.parameters.get("id_token_hint"), visit.browser.session.subject
        if hint is None or subject is None:
            return False
        found = read_hint(hint, self._keys, self._settings.issuer)
        return found is None or found.subject != self._subjects.of(visit.client, subject)

    def _check_form(self, request: HttpRequest, form: Mapping[str, str], visit: Visit) -> None:
        """Forged forms (RFC 9700 4.7): the token of this session and interaction, and the browser's own word."""
        origin = request.headers.get("origin")
        if origin is not None and origin != request.origin:
            raise PageError("The form did not come from this site.", status=403)
        if not visit.browser.owns_form(form.get("form_token"), visit.interaction.id):
            raise PageError("The form has expired. Go back and try again.", status=403)

    def _asked_scope(self, visit: Visit, account: Account) -> tuple[str, ...]:
        asked = authorization.granted_scope(visit.interaction.parameters, visit.client, self._server)
        return _in_one_context(asked, account)

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

    def _duration(self, client: Client, scope: tuple[str, ...]) -> str:
        lifetimes = self._settings.lifetimes
        asking = {"offline_access", "online_access"}
        stays = GrantType.REFRESH_TOKEN in client.grant_types
        if stays and (asking & set(scope) or not asking & set(client.scope)):
            return f"Until you end it, at most {lifetimes.refresh_token // 86400} days"
        return f"{max(1, lifetimes.access_token // 60)} minutes"


def _to(path: str, handle: str, browser: Browser) -> Answer:
    url = f"{path}?interaction={quote(handle)}"
    return pages.redirect(url) if browser.cookie is None else pages.redirect(url, browser.cookie)


def _in_one_context(scope: tuple[str, ...], account: Account) -> tuple[str, ...]:
    """The scopes that fit the person, where both a patient's and a user's were asked for.

    A token speaks in one context, or the gateway refuses it: patients as the patient, staff as the user.
    """
    contexts = {found.context for text in scope if (found := parse_scope(text)) is not None}
    if len(contexts) < 2:
        return scope
    if account.patient is not None:
        return tuple(text for text in scope if not text.startswith("user/"))
    return tuple(text for text in scope if not text.startswith("patient/") and text != "launch/patient")


def _needs_patient(scope: tuple[str, ...]) -> bool:
    return "launch/patient" in scope or any(text.startswith("patient/") for text in scope)


def _records(account: Account) -> tuple[tuple[str, str], ...]:
    """The records the person may choose from; the own one first."""
    own = () if account.patient is None else ((account.patient, account.name),)
    return (*own, *account.patients)


def _query(request: HttpRequest) -> dict[str, str]:
    try:
        return dict(parse_query(request.query))
    except ValueError as error:
        raise PageError("The address cannot be read.") from error


async def _form_pairs(request: HttpRequest) -> list[tuple[str, str]]:
    try:
        return parse_query((await read_form(request, limit_bytes=_MAX_FORM_BYTES)).decode("ascii"))
    except ValueError as error:
        raise PageError("The form cannot be read.") from error


async def _form(request: HttpRequest) -> dict[str, str]:
    return _once(await _form_pairs(request))


def _once(pairs: list[tuple[str, str]]) -> dict[str, str]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise PageError("The form names a field twice.")
    return found
