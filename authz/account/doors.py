"""Every door under /account: the pages that this house has, over one desk."""

from collections.abc import Mapping

from authz.account.accesses import AccessesPage, Names
from authz.account.consents import ConsentPages
from authz.account.desk import ACCESSES, CONSENTS, DOWNLOAD, GRANTS, START, AccountDesk, Door
from authz.account.download import DownloadPage
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
    if own.consents is not None:
        there |= {CONSENTS}
    if own.base:
        there |= {DOWNLOAD}
    desk = AccountDesk(
        settings=settings,
        store=store,
        accounts=people,
        browsers=browsers,
        pages_there=frozenset(there),
        base=own.base,
        relations=own.relations,
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
    if own.consents is not None:
        consents = ConsentPages(
            desk=desk,
            consents=own.consents,
            store=store,
            clients=clients,
            names=names,
            revocations=revocations,
        )
        routes |= consents.routes()
    if own.base:
        download = DownloadPage(
            desk=desk,
            grants=grants,
            consents=own.consents,
            accesses=own.accesses,
            names=names,
        )
        routes |= download.routes()
    return routes
