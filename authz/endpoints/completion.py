"""The end of a visit: a code for what was granted, or a refusal. Either consumes the pushed request, once.

RFC 6749 4.1.2, RFC 9207, FAPI 2.0 Security Profile 5.3.2.2. prompt=none ends here at once: with a code for what
was granted before, never with a page.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from authz.clock import Clock
from authz.endpoints.authorization_response import AuthorizationResponses
from authz.endpoints.pickers import Pickers
from authz.endpoints.visit_person import person_at
from authz.endpoints.visits import GONE, PageError, Visit, Visits
from authz.events import ConsentGiven, Emit, Refused
from authz.handles import digest, new_grant_id, new_handle
from authz.login.finding import FinderUnavailable
from authz.login.given_consents import GivenConsents
from authz.login.launch import (
    asked_as,
    in_one_context,
    is_online,
    is_patients_own,
    may_be_opened_by,
    needs_patient,
    picks_encounter,
    records,
)
from authz.login.represented import claims_for, relationship_to
from authz.protocol import granting
from authz.protocol.authorization_details import is_covered
from authz.protocol.clients import AuthenticationMethod
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.granting import ServerBits
from authz.protocol.launch_context import context_of, told
from authz.protocol.openid import acr_of, left_of_claims, personal_claims, read_claims_request, wanted_acr
from authz.protocol.redirect_uris import is_of_a_device
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.tokens import Grant
from authz.settings import Account
from authz.storage.consents import NoRoomLeft
from authz.storage.grants import AuthorizationCode
from authz.storage.store import Store


class Completion:
    """Ends visits."""

    def __init__(
        self,
        *,
        code_seconds: int,
        store: Store,
        server: ServerBits,
        visits: Visits,
        pickers: Pickers,
        given: Mapping[str, GivenConsents],
        responses: AuthorizationResponses,
        emit: Emit,
        clock: Clock,
    ) -> None:
        self._code_seconds = code_seconds
        self._store = store
        self._server = server
        self._visits = visits
        self._pickers = pickers
        self._given = given
        self._responses = responses
        self._emit = emit
        self._clock = clock

    def asked_scope(self, visit: Visit, account: Account) -> tuple[str, ...]:
        """The scopes that this person may grant to this request. Raises OAuthError(INVALID_SCOPE)."""
        asked = granting.granted_scope(visit.interaction.parameters, visit.client, self._server)
        scope = in_one_context(asked, account)
        if visit.interaction.encounter == "":  # the person goes on without a visit
            return tuple(text for text in scope if text != "launch/encounter")
        return scope

    def may_open(self, visit: Visit, account: Account) -> bool:
        """Whether the record of a visit is one that the person may open to an app: of the launch, or a choice."""
        patient = visit.interaction.patient
        launched = context_of(visit.interaction.parameters) or {}
        if patient is not None and launched.get("patient") == patient:
            return may_be_opened_by(patient, account, self._clock())
        if patient is not None and visit.interaction.picked:
            return not is_patients_own(account)
        return patient in {id for id, _ in records(account, self._clock())}

    async def allow(self, visit: Visit, account: Account, scope: tuple[str, ...]) -> Answer:
        """The way back to the client with a code for these scopes. Raises PageError when the visit has ended."""
        now = self._clock()
        parameters = visit.interaction.parameters
        session = visit.browser.session
        acr = acr_of(session.amr)
        wanted, essential = wanted_acr(parameters, self._server.acr_values)
        if essential and acr not in wanted:
            said = "the person signed in, but not in a way that the app must have"
            return await self.refuse(visit, said, ErrorCode.UNMET_AUTHENTICATION_REQUIREMENTS)
        launched = context_of(parameters)
        if launched is not None and launched.get("user") != account.subject:
            raise PageError(GONE)
        context = {} if launched is None else told(launched, scope)
        if needs_patient(scope) and visit.interaction.patient is not None:
            context["patient"] = visit.interaction.patient
        if picks_encounter(scope, parameters):
            if not visit.interaction.encounter:
                raise PageError(GONE)
            context["encounter"] = visit.interaction.encounter
        grant = Grant(
            grant_id=new_grant_id(),
            client_id=visit.client.client_id,
            subject=account.subject,
            scope=scope,
            audience=self._audience(parameters, picked=visit.interaction.picked),
            context=context,
            session_id=session.id if is_online(scope) else None,
            launched=launched is not None and "patient" in launched,
            picked=visit.interaction.picked,
            claims=claims_for(account, context.get("patient"), now),
            authenticated_at=session.authenticated_at,
            acr=acr,
            amr=session.amr,
            created_at=now,
            claims_request=left_of_claims(
                read_claims_request(parameters.get("claims", "{}"), self._server.acr_values),
                asked=self.asked_scope(visit, account),
                left=scope,
            ),
            authorization_details=granting.details(parameters, visit.client, self._server),
            managed="grant_management_action" in parameters,
        )
        handle = new_handle()
        code = AuthorizationCode(
            id=digest(handle),
            grant_id=grant.grant_id,
            client_id=visit.client.client_id,
            redirect_uri=visit.target.redirect_uri,
            code_challenge=parameters["code_challenge"],
            dpop_jkt=visit.interaction.dpop_jkt,
            nonce=parameters.get("nonce"),
            expires_at=now + self._code_seconds,
        )
        keepers = [self._given[name] for name in grant.audience if name in self._given]
        made = [(keeper, keeper.of(grant, visit.client.name)) for keeper in keepers]
        consents = [(keeper, consent) for keeper, consent in made if consent is not None]
        complete = partial(
            self._store.complete_authorization,
            request_id=visit.interaction.request_id,
            interaction_id=visit.interaction.id,
            grant=grant,
            code=code,
            now=now,
        )
        try:
            try:
                written = await complete(consents=[(said, keeper.usual_room) for keeper, said in consents])
            except NoRoomLeft:  # and nothing is written or consumed: now it is asked who is there
                written = await complete(
                    consents=[(said, await keeper.room(grant)) for keeper, said in consents]
                )
        except NoRoomLeft:
            raise PageError("error.too_many_consents", status=409) from None
        if not written:
            raise PageError(GONE)
        for keeper, consent in consents:
            keeper.stored(consent)
        patient = str(context.get("patient", ""))
        self._emit(
            ConsentGiven(
                "allowed",
                account.subject,
                visit.client.client_id,
                scope,
                grant.grant_id,
                patient,
                relationship_to(account, patient, now),
            )
        )
        return await self._responses.success(visit.target, handle)

    async def refuse(
        self, visit: Visit, description: str, code: ErrorCode = ErrorCode.ACCESS_DENIED
    ) -> Answer:
        """An error at the redirect URI (A5). Raises PageError when the visit has ended."""
        consumed = await self._store.refuse_authorization(
            request_id=visit.interaction.request_id, interaction_id=visit.interaction.id, now=self._clock()
        )
        if not consumed:
            raise PageError(GONE)
        error = OAuthError(code, description)
        self._emit(Refused("/authorize", str(code), visit.client.client_id, description))
        return await self._responses.failure(visit.target, error)

    async def without_pages(self, visit: Visit, request: HttpRequest) -> Answer:
        """prompt=none (OpenID Connect Core 3.1.2.1): a code for what was granted before, or an error; never a page."""
        account, client = visit.account, visit.client
        if account is None or self._visits.must_sign_in(visit):
            said = "the person is not signed in here: ask again without prompt none"
            return await self.refuse(visit, said, ErrorCode.LOGIN_REQUIRED)
        is_public = client.authentication_method is AuthenticationMethod.NONE
        if is_public and is_of_a_device(visit.target.redirect_uri):
            # RFC 8252 8.6, RFC 6749 10.2: nothing shows that it is the app that was granted it.
            return await self.refuse(
                visit,
                "any program of the device could ask in the name of this app: ask again without prompt none",
                ErrorCode.CONSENT_REQUIRED,
            )
        try:
            found = await self._granted_before(visit, account, request)
        except FinderUnavailable:
            return await self.refuse(
                visit,
                "the records cannot be reached now: try again in a moment",
                ErrorCode.TEMPORARILY_UNAVAILABLE,
            )
        if found is not None:
            return await self.allow(found, account, self.asked_scope(visit, account))
        return await self.refuse(
            visit,
            "the person was not asked before: ask again without prompt none",
            ErrorCode.CONSENT_REQUIRED,
        )

    async def _granted_before(self, visit: Visit, account: Account, request: HttpRequest) -> Visit | None:
        """The visit with the choices of an earlier grant that covers it. Raises FinderUnavailable."""
        scope = self.asked_scope(visit, account)
        for grant in await self._store.grants(
            subject=account.subject, client_id=visit.client.client_id, now=self._clock()
        ):
            if not self._covers(grant, visit, scope) or not await self._opens(
                grant, visit, account, scope, request
            ):
                continue
            interaction = replace(
                visit.interaction,
                patient=_text(grant.context.get("patient")),
                picked=grant.picked,
                encounter=_text(grant.context.get("encounter")),
            )
            return replace(visit, interaction=interaction)
        return None

    def _audience(self, parameters: Mapping[str, str], *, picked: bool) -> tuple[str, ...]:
        """The resources of the tokens; with a picked record the one where it was picked."""
        audience = granting.audience(parameters, self._server)
        return (self._pickers.searched(audience) if picked else ()) or audience

    def _covers(self, grant: Grant, visit: Visit, scope: tuple[str, ...]) -> bool:
        """Whether what is asked for was all granted before."""
        parameters = visit.interaction.parameters
        asked = granting.details(parameters, visit.client, self._server)
        claims = read_claims_request(parameters.get("claims", "{}"), self._server.acr_values)
        # Nothing asked in detail is everything: a grant with details does not cover it.
        return (
            bool(asked) == bool(grant.authorization_details)
            and is_covered(asked, grant.authorization_details, self._server.detail_types)
            and set(self._audience(parameters, picked=grant.picked)) <= set(grant.audience)
            and personal_claims(claims, scope) <= personal_claims(grant.claims_request, grant.scope)
            and set(scope) <= set(grant.scope)
        )

    async def _opens(
        self, grant: Grant, visit: Visit, account: Account, scope: tuple[str, ...], request: HttpRequest
    ) -> bool:
        """Whether the person may open the record of an earlier grant still, where the scopes need one."""
        patient = _text(grant.context.get("patient"))
        launched = context_of(visit.interaction.parameters) or {}
        if launched.get("patient") is not None:
            return grant.launched and (not needs_patient(scope) or patient == str(launched["patient"]))
        visits = picks_encounter(scope, visit.interaction.parameters)
        if not needs_patient(scope) and not visits:
            return True
        person = person_at(self._pickers, visit, account, request)
        if patient is None:
            return False
        if not grant.picked:
            found = patient in {id for id, _ in records(account, self._clock())}
        else:
            found = (
                not is_patients_own(account)
                and person is not None
                and await self._pickers.patient(person, patient) is not None
            )
        if not found or not visits:
            return found
        encounter = _text(grant.context.get("encounter"))
        if encounter is None or person is None:
            return False
        in_context = asked_as(scope, account, picked=grant.picked)
        return (await self._pickers.encounter(person, encounter, patient, in_context=in_context)) is not None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
