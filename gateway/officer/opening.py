"""The officer's pages of one gateway, made from its parts."""

from collections.abc import Callable

from authz.clock import Clock
from authz.events import Emit
from authz.login.accounts import Accounts
from authz.login.browser import Browsers
from authz.server import AuthorizationServer
from authz.storage.store import Store
from gateway.audit.log import AuditLog
from gateway.officer.house import OfficerHouse
from gateway.officer.pages import OfficerPages
from gateway.policy.engine import Engine
from gateway.settings import GatewaySettings


def open_officer(
    *,
    settings: GatewaySettings,
    store: Store,
    audit: AuditLog,
    authorization: AuthorizationServer,
    engine: Callable[[], Engine | None],
    emit: Emit,
    clock: Clock,
) -> OfficerPages:
    """The pages. Sessions and limits of sign-ins are in the store: those of the other pages for people."""
    said = settings.authorization
    accounts = {account.username: account for account in settings.accounts}
    return OfficerPages(
        OfficerHouse(
            settings=settings,
            store=store,
            audit=audit,
            accounts=Accounts(accounts, store, said.sign_in_attempts_per_minute),
            browsers=Browsers(store, said.lifetimes.browser_session, clock),
            engine=engine,
            names=lambda: {client.client_id: client.name for client in authorization.clients.values()},
            emit=emit,
            clock=clock,
        )
    )
