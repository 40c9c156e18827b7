"""The doors of the authorization server: every path with what answers there."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from authz.account.doors import account_doors
from authz.account.own_records import OwnRecords
from authz.client_directory import ClientDirectory
from authz.client_keys import ClientKeys
from authz.clock import Clock
from authz.endpoints import grant_management, registration
from authz.endpoints.administration import Administration, GrantAdministration
from authz.endpoints.authorization_response import AuthorizationResponses
from authz.endpoints.client_administration import ClientAdministration
from authz.endpoints.client_authentication import Admit, ClientAuthentication
from authz.endpoints.discovery import Discovery
from authz.endpoints.grant_management import GrantManagement
from authz.endpoints.introspection import Introspection
from authz.endpoints.introspection_callers import IntrospectionCallers
from authz.endpoints.launches import PATH as _LAUNCH
from authz.endpoints.launches import Launches
from authz.endpoints.logout import Logout
from authz.endpoints.pickers import Pickers
from authz.endpoints.proofs import Proofs
from authz.endpoints.pushed_authorization import PushedAuthorization
from authz.endpoints.registration import RegistrationEndpoint
from authz.endpoints.sign_in_doors import sign_in_doors
from authz.endpoints.spending import Spending
from authz.endpoints.token import TokenEndpoint
from authz.endpoints.turns import Desk
from authz.endpoints.userinfo import Userinfo
from authz.events import Emit
from authz.keys import KeyRing
from authz.login.accounts import Accounts
from authz.login.browser import Browsers
from authz.login.finding import Finder
from authz.login.given_consents import GivenConsents
from authz.protocol.clients import Client
from authz.protocol.granting import ServerBits
from authz.protocol.openid import SIGN_INS, Subjects
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.scopes import LAUNCH_SCOPE, LAUNCH_SCOPES
from authz.registry import Registry
from authz.resource_server import ResourceServer
from authz.revocations import Revocations
from authz.settings import Account, AuthorizationSettings
from authz.storage.store import Store

Door = Callable[[HttpRequest], Awaitable[Answer]]
USERINFO = "/userinfo"


@dataclass(frozen=True, slots=True)
class House:
    """What the doors stand in: the parts that they share.

    configured are the clients of the configuration, clients those and the registered ones. finders are by the
    identifier of the resource whose records they know, given keep the consents of theirs; admit says whether a client
    that authenticated asks too often. own is what is kept of patients.
    """

    settings: AuthorizationSettings
    store: Store
    keys: KeyRing
    clients: ClientDirectory
    configured: Mapping[str, Client]
    accounts: Mapping[str, Account]
    registry: Registry
    resource_server: ResourceServer
    proofs: Proofs
    revocations: Revocations
    client_keys: ClientKeys
    subjects: Subjects
    emit: Emit
    clock: Clock
    grantable: Callable[[str], bool]
    finders: Mapping[str, Finder]
    admit: Admit | None
    own: OwnRecords
    given: Mapping[str, GivenConsents]


class Doors:
    """Every door by its path.

    routes   doors by path and method
    below    the same of what lies one level below a prefix
    public_paths  documents that every page of every site may read
    """

    def __init__(self, house: House) -> None:
        settings, store, keys = house.settings, house.store, house.keys
        clients, configured, accounts = house.clients, house.configured, house.accounts
        subjects, emit, clock, lifetimes = house.subjects, house.emit, house.clock, settings.lifetimes
        server = ServerBits(
            issuer=settings.issuer,
            resources={
                spelling: resource.identifier
                for resource in settings.resources
                for spelling in (resource.identifier, *resource.aliases)
            },
            grantable=house.grantable,
            ungranted=LAUNCH_SCOPES,
            acr_values=tuple(SIGN_INS),
            detail_types={kind.name: kind for kind in settings.detail_types},
            pickers=frozenset(resource.identifier for resource in settings.resources if resource.picker),
        )
        pickers = Pickers(
            issuer=settings.issuer,
            finders=house.finders,
            server=server,
            subjects=subjects,
            clock=clock,
        )
        # Userinfo and grant management take tokens for every resource of ours: they name nothing of their own.
        anywhere = frozenset({settings.issuer, *server.resources})
        by_subject = {account.subject: account for account in accounts.values()}
        browsers = Browsers(store, lifetimes.browser_session, clock)
        authentication = ClientAuthentication(
            settings, store, clients, emit, house.client_keys, clock, house.admit
        )
        spending = Spending(store, emit, clock)
        desk = Desk(
            store=store,
            spending=spending,
            server=server,
            accounts=by_subject,
            lifetimes=lifetimes,
            revocations=house.revocations,
            read_token=house.resource_server.read,
            pickers=pickers,
            relations=house.own.relations,
            emit=emit,
            rotates=settings.rotate_refresh_tokens,
            profiles=settings.profiles,
        )
        launches = Launches(
            store=store,
            resource_server=house.resource_server,
            audience=anywhere,
            resources=server.resources,
            clients=clients,
            configured=configured,
            accounts=by_subject,
            emit=emit,
            clock=clock,
        )
        pushed = PushedAuthorization(
            store=store,
            clients=authentication,
            proofs=house.proofs,
            spending=spending,
            launches=launches,
            server=server,
            keys=keys,
            lifetime_seconds=lifetimes.pushed_request,
            emit=emit,
            clock=clock,
        )
        token = TokenEndpoint(
            issuer=settings.issuer,
            desk=desk,
            clients=authentication,
            proofs=house.proofs,
            subjects=subjects,
            keys=keys,
            clock=clock,
        )
        userinfo = Userinfo(
            issuer=settings.issuer,
            store=store,
            clients=clients,
            accounts=by_subject,
            resource_server=house.resource_server,
            subjects=subjects,
            keys=keys,
            audience=anywhere,
            emit=emit,
            clock=clock,
        )
        managed = GrantManagement(desk, house.resource_server, anywhere, clock)
        logout = Logout(settings, clients, browsers, subjects, keys, house.emit)
        people = Accounts(accounts, store, settings.sign_in_attempts_per_minute)
        account_pages = account_doors(
            settings=settings,
            store=store,
            clients=clients,
            accounts=by_subject,
            people=people,
            browsers=browsers,
            subjects=subjects,
            revocations=house.revocations,
            own=house.own,
            emit=emit,
            clock=clock,
        )
        introspection = Introspection(
            issuer=settings.issuer,
            store=store,
            clients=authentication,
            proofs=house.proofs,
            spending=spending,
            resource_server=house.resource_server,
            callers=IntrospectionCallers(house.resource_server, clients, anywhere),
            registered=clients,
            subjects=subjects,
            emit=emit,
            keys=keys,
            lifetimes=lifetimes,
            clock=clock,
        )
        has_launches = any(LAUNCH_SCOPE in client.scope for client in configured.values())
        ungranted = frozenset[str]() if has_launches else LAUNCH_SCOPES
        if server.pickers:
            ungranted -= {"launch/encounter"}
        discovery = Discovery(settings, keys, ungranted=ungranted, launches=has_launches)
        self._administration = Administration(
            issuer=settings.issuer,
            configured=configured,
            resource_server=house.resource_server,
            routes=[
                ClientAdministration(house.registry).routes(),
                GrantAdministration(
                    store=store,
                    revocations=house.revocations,
                    access_token_seconds=lifetimes.access_token,
                    emit=emit,
                    clock=clock,
                ).routes(),
            ],
            emit=emit,
        )
        self.public_paths = frozenset(discovery.routes())
        self.below: Mapping[str, Mapping[str, Door]] = {
            grant_management.PATH: {"GET": managed.query, "DELETE": managed.revoke},
        }
        registrations: dict[str, Mapping[str, Door]] = {}
        if settings.registration.enabled:
            own = RegistrationEndpoint(settings.issuer, house.registry)
            registrations = {registration.PATH: {"POST": own.register}}
            self.below = {
                **self.below,
                registration.BELOW: {"GET": own.read, "PUT": own.update, "DELETE": own.delete},
            }
        self.routes: Mapping[str, Mapping[str, Door]] = {
            **registrations,
            "/par": {"POST": pushed.push},
            "/token": {"POST": token.token},
            _LAUNCH: {"POST": launches.make},
            "/revoke": {"POST": token.revocation},
            "/introspect": {"POST": introspection.introspect},
            USERINFO: {"GET": userinfo.tell, "POST": userinfo.tell},
            "/logout": {"GET": logout.end_session, "POST": logout.end_session},
            **account_pages,
            **{path: {"GET": _at_once(answer)} for path, answer in discovery.routes().items()},
            **sign_in_doors(
                settings=settings,
                store=store,
                clients=clients,
                accounts=people,
                server=server,
                launches=launches,
                responses=AuthorizationResponses(settings.issuer, keys, clock),
                browsers=browsers,
                subjects=subjects,
                keys=keys,
                given=house.given,
                relations=house.own.relations,
                pickers=pickers,
                emit=emit,
                clock=clock,
            ),
        }

    def at(self, path: str) -> Mapping[str, Door] | None:
        """The doors at a path, or at the one level below a prefix that it lies on; None for nothing of ours."""
        found = self.routes.get(path) or self.below.get(path[: path.rindex("/") + 1])
        return self._administration.doors(path) if found is None else found


def _at_once(answer: Callable[[HttpRequest], Answer]) -> Door:
    async def door(request: HttpRequest) -> Answer:
        return answer(request)

    return door
