"""Every door under /account: the pages that this house has, over one desk."""

from collections.abc import Mapping

from authz.account.accesses import AccessesPage, Names
from authz.account.desk import ACCESSES, GRANTS, START, AccountDesk, Door
from authz.account.grants import GrantsPage
from authz.account.own_records import OwnRecords
from authz.account.start import StartPage
from authz.clock import Clock
from authz.events import Emit
from authz.login.accounts import Accounts
from authz.login.browser import Browsers
from authz.protocol.clients import Client
from authz.protocol.openid import Subjects
from authz.revocations import Revocations
from authz.settings import Account, AuthorizationSettings
from authz.storage.store import Store


def account_doors(
    *,
    settings: AuthorizationSettings,
    store: Store,
    clients: Mapping[str, Client],
    accounts: Mapping[str, Account],
    people: Accounts,
    browsers: Browsers,
    subjects: Subjects,
    revocations: Revocations,
    own: OwnRecords,
    emit: Emit,
    clock: Clock,
) -> Mapping[str, Mapping[str, Door]]:
    """path → method → door. accounts are by subject; what own does not keep has no page."""
    there = {START, GRANTS}
    if own.accesses is not None:
        there |= {ACCESSES}
    desk = AccountDesk(
        settings=settings,
        store=store,
        accounts=people,
        browsers=browsers,
        pages_there=frozenset(there),
        base=own.base,
        emit=emit,
        clock=clock,
    )
    grants = GrantsPage(
        desk=desk,
        store=store,
        clients=clients,
        accounts=accounts,
        revocations=revocations,
        accesses=own.accesses,
    )

    def names() -> Names:
        return Names(accounts, clients, subjects)

    routes = {**desk.routes(), **StartPage(desk).routes(), **grants.routes()}
    if own.accesses is not None:
        routes |= AccessesPage(desk=desk, accesses=own.accesses, names=names).routes()
    return routes
