"""The doors of the authorization endpoint and its pages, put together: who reads, who chooses, who ends a visit."""

from collections.abc import Mapping

from authz.clock import Clock
from authz.endpoints.authorization_response import AuthorizationResponses
from authz.endpoints.authorize import SignInDesk
from authz.endpoints.completion import Completion
from authz.endpoints.launches import Launches
from authz.endpoints.pickers import Pickers
from authz.endpoints.plain_requests import PlainRequests
from authz.endpoints.record_choice import RecordChoice
from authz.endpoints.visit_pages import Door, VisitPages
from authz.endpoints.visits import Visits
from authz.events import Emit
from authz.keys import KeyRing
from authz.login import browser as pages
from authz.login.accounts import Accounts
from authz.login.browser import Browsers
from authz.login.given_consents import GivenConsents
from authz.login.relations import Relations
from authz.protocol.clients import Client
from authz.protocol.granting import ServerBits
from authz.protocol.openid import Subjects
from authz.settings import AuthorizationSettings
from authz.storage.store import Store


def sign_in_doors(
    *,
    settings: AuthorizationSettings,
    store: Store,
    clients: Mapping[str, Client],
    accounts: Accounts,
    server: ServerBits,
    launches: Launches,
    responses: AuthorizationResponses,
    browsers: Browsers,
    subjects: Subjects,
    keys: KeyRing,
    relations: Relations,
    pickers: Pickers,
    given: Mapping[str, GivenConsents],
    emit: Emit,
    clock: Clock,
) -> Mapping[str, Mapping[str, Door]]:
    """path → method → door of the authorization endpoint and its pages."""
    visits = Visits(
        issuer=settings.issuer,
        acr_values=server.acr_values,
        sign_in_seconds=settings.lifetimes.sign_in,
        store=store,
        clients=clients,
        accounts=accounts,
        browsers=browsers,
        subjects=subjects,
        keys=keys,
        relations=relations,
        clock=clock,
    )
    completion = Completion(
        code_seconds=settings.lifetimes.code,
        store=store,
        server=server,
        visits=visits,
        pickers=pickers,
        given=given,
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
    shown = VisitPages(settings, emit)
    choice = RecordChoice(
        store=store, visits=visits, completion=completion, pickers=pickers, pages=shown, clock=clock
    )
    desk = SignInDesk(
        settings=settings,
        store=store,
        accounts=accounts,
        server=server,
        browsers=browsers,
        visits=visits,
        completion=completion,
        pickers=pickers,
        choice=choice,
        shown=shown,
        plain=plain,
        emit=emit,
        clock=clock,
    )
    return {
        "/authorize": dict.fromkeys(("GET", "POST"), shown.door(desk.authorize)),
        "/sign-in": {"GET": shown.door(desk.sign_in_page), "POST": shown.door(desk.sign_in)},
        **choice.routes(),
        "/consent": {"GET": shown.door(desk.consent_page), "POST": shown.door(desk.decide)},
        pages.STYLE_PATH: {"GET": shown.door(desk.style)},
    }
