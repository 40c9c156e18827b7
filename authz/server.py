"""AuthorizationServer: every path of the authorization server with its door, and what it does in the background."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence

from authz.client_directory import ClientDirectory
from authz.client_keys import ClientKeys, Fetch
from authz.clock import Clock
from authz.endpoints import grant_management, own_grants, registration
from authz.endpoints.administration import Administration, GrantAdministration
from authz.endpoints.authorization_response import AuthorizationResponses
from authz.endpoints.authorize import sign_in_doors
from authz.endpoints.client_administration import ClientAdministration
from authz.endpoints.client_authentication import Admit, ClientAuthentication
from authz.endpoints.discovery import Discovery
from authz.endpoints.grant_management import GrantManagement
from authz.endpoints.grants import Desk
from authz.endpoints.introspection import Introspection
from authz.endpoints.introspection_callers import IntrospectionCallers
from authz.endpoints.launches import PATH as _LAUNCH
from authz.endpoints.launches import Launches
from authz.endpoints.logout import Logout
from authz.endpoints.own_grants import OwnGrants
from authz.endpoints.pickers import Pickers
from authz.endpoints.proofs import Proofs
from authz.endpoints.pushed_authorization import PushedAuthorization
from authz.endpoints.registration import RegistrationEndpoint
from authz.endpoints.token import TokenEndpoint
from authz.endpoints.userinfo import Userinfo
from authz.events import Emit, Refused
from authz.http import error_answer, json_answer, method_not_allowed
from authz.keys import KeyRing
from authz.login.accounts import Accounts
from authz.login.browser import Browsers
from authz.login.finding import Finder
from authz.login.framing import in_frames_of
from authz.protocol.clients import Client
from authz.protocol.dpop import Nonces
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.granting import ServerBits
from authz.protocol.openid import SIGN_INS, Subjects
from authz.protocol.request import Answer, HttpRequest, RequestError
from authz.protocol.scopes import LAUNCH_SCOPE, LAUNCH_SCOPES
from authz.registry import Registry
from authz.resource_server import ResourceServer
from authz.revocations import Revocations
from authz.settings import Account, AuthorizationSettings
from authz.storage.store import Store, StoreUnavailable

Door = Callable[[HttpRequest], Awaitable[Answer]]
_NONCE_SECRET = "dpop-nonce"
_SUBJECT_SECRET = "pairwise-subjects"
_USERINFO = "/userinfo"
_WITHOUT_HEAD = frozenset(
    {"/authorize", "/sign-in", "/patient", "/encounter", "/consent", "/logout", own_grants.PATH}
)
"""Pages whose GET takes somebody a step further. Programs that look at a link first send HEAD and mean no step."""
_REMOVE_AT_ONCE = 500
_MAX_BATCHES = 100
_log = logging.getLogger("securus.authorization")


class AuthorizationServer:
    """The authorization server, without a network: HttpRequest in, Answer out. Made by open()."""

    def __init__(
        self,
        *,
        settings: AuthorizationSettings,
        store: Store,
        keys: KeyRing,
        clients: Mapping[str, Client],
        accounts: Mapping[str, Account],
        nonce_secret: bytes,
        subjects: Subjects,
        emit: Emit,
        clock: Clock,
        grantable: Callable[[str], bool],
        fetch: Fetch | None = None,
        finders: Mapping[str, Finder] | None = None,
        admit: Admit | None = None,
    ) -> None:
        self._store = store
        self._keys = keys
        self._emit = emit
        self._clock = clock
        self._frame_ancestors = settings.frame_ancestors
        self._revocations = Revocations()
        self.clients = ClientDirectory(store, clients, settings)
        self.registry = Registry(
            store=store,
            configured=clients,
            settings=settings,
            emit=emit,
            clock=clock,
            changed=self._client_changed,
        )
        configured, clients = clients, self.clients
        lifetimes = settings.lifetimes
        self.resource_server = ResourceServer(
            issuer=settings.issuer,
            store=store,
            keys=keys,
            revocations=self._revocations,
            clients=self.clients,
            profiles=settings.profiles,
            nonces=Nonces(nonce_secret, "resource-server", lifetimes.dpop_nonce),
            nonce_required=settings.dpop_nonce_required,
            proof_age_seconds=lifetimes.dpop_proof,
            emit=emit,
            clock=clock,
        )
        self._proofs = Proofs(
            store=store,
            nonces=Nonces(nonce_secret, "authorization-server", lifetimes.dpop_nonce),
            nonce_required=settings.dpop_nonce_required,
            max_age_seconds=lifetimes.dpop_proof,
            emit=emit,
            clock=clock,
        )
        server = ServerBits(
            issuer=settings.issuer,
            resources={
                spelling: resource.identifier
                for resource in settings.resources
                for spelling in (resource.identifier, *resource.aliases)
            },
            grantable=grantable,
            ungranted=LAUNCH_SCOPES,
            acr_values=tuple(SIGN_INS),
            detail_types={kind.name: kind for kind in settings.detail_types},
            pickers=frozenset(resource.identifier for resource in settings.resources if resource.picker),
        )
        pickers = Pickers(
            issuer=settings.issuer,
            finders={} if finders is None else finders,
            server=server,
            subjects=subjects,
            clock=clock,
        )
        # Userinfo and grant management take tokens for every resource of ours: they name nothing of their own.
        anywhere = frozenset({settings.issuer, *server.resources})
        by_subject = {account.subject: account for account in accounts.values()}
        browsers = Browsers(store, lifetimes.browser_session, clock)
        self._client_keys = ClientKeys(fetch, clock, emit)
        authentication = ClientAuthentication(settings, store, clients, emit, self._client_keys, clock, admit)
        desk = Desk(
            store=store,
            proofs=self._proofs,
            server=server,
            accounts=by_subject,
            lifetimes=lifetimes,
            revocations=self._revocations,
            read_token=self.resource_server.read,
            pickers=pickers,
            emit=emit,
            rotates=settings.rotate_refresh_tokens,
            profiles=settings.profiles,
        )
        launches = Launches(
            store=store,
            resource_server=self.resource_server,
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
            proofs=self._proofs,
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
            proofs=self._proofs,
            subjects=subjects,
            keys=keys,
            clock=clock,
        )
        userinfo = Userinfo(
            issuer=settings.issuer,
            store=store,
            clients=clients,
            accounts=by_subject,
            resource_server=self.resource_server,
            subjects=subjects,
            keys=keys,
            audience=anywhere,
            emit=emit,
            clock=clock,
        )
        managed = GrantManagement(desk, self.resource_server, anywhere, clock)
        logout = Logout(settings, clients, browsers, subjects, keys)
        people = Accounts(accounts, store, settings.sign_in_attempts_per_minute)
        own_page = OwnGrants(
            settings=settings,
            store=store,
            clients=clients,
            accounts=people,
            browsers=browsers,
            revocations=self._revocations,
            emit=emit,
            clock=clock,
        )
        introspection = Introspection(
            issuer=settings.issuer,
            store=store,
            clients=authentication,
            proofs=self._proofs,
            resource_server=self.resource_server,
            callers=IntrospectionCallers(self.resource_server, clients, anywhere),
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
            resource_server=self.resource_server,
            routes=[
                ClientAdministration(self.registry).routes(),
                GrantAdministration(
                    store=store,
                    revocations=self._revocations,
                    access_token_seconds=lifetimes.access_token,
                    emit=emit,
                    clock=clock,
                ).routes(),
            ],
            emit=emit,
        )
        self.public_paths = frozenset(discovery.routes())
        """Documents that every page of every site may read."""
        self.below: Mapping[str, Mapping[str, Door]] = {
            grant_management.PATH: {"GET": managed.query, "DELETE": managed.revoke},
        }
        registrations: dict[str, Mapping[str, Door]] = {}
        if settings.registration.enabled:
            own = RegistrationEndpoint(settings.issuer, self.registry)
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
            _USERINFO: {"GET": userinfo.tell, "POST": userinfo.tell},
            "/logout": {"GET": logout.end_session, "POST": logout.end_session},
            **own_page.routes(),
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
                pickers=pickers,
                emit=emit,
                clock=clock,
            ),
        }

    @classmethod
    async def open(
        cls,
        *,
        settings: AuthorizationSettings,
        store: Store,
        keys: KeyRing,
        clients: Mapping[str, Client],
        accounts: Mapping[str, Account],
        emit: Emit,
        clock: Clock,
        grantable: Callable[[str], bool],
        fetch: Fetch | None = None,
        finders: Mapping[str, Finder] | None = None,
        admit: Admit | None = None,
    ) -> "AuthorizationServer":
        """The server over this store, with the nonce secret that all nodes share.

        admit says whether a client that authenticated asks too often.
        fetch is the guarded GET for clients' key sets; without it none is fetched. finders are by the identifier of
        the resource whose records they know, and may be there later than the server.
        """
        server = cls(
            settings=settings,
            store=store,
            keys=keys,
            clients=clients,
            accounts=accounts,
            nonce_secret=await store.secret(_NONCE_SECRET, secrets.token_bytes(32)),
            subjects=Subjects(await store.secret(_SUBJECT_SECRET, secrets.token_bytes(32))),
            emit=emit,
            clock=clock,
            grantable=grantable,
            fetch=fetch,
            finders=finders,
            admit=admit,
        )
        await server.refresh()
        return server

    async def handle(self, request: HttpRequest) -> Answer | None:
        """The answer of the door at this path; None when no door is there."""
        doors = self._doors(request.path)
        if doors is None:
            return None
        heads = request.path not in _WITHOUT_HEAD
        door = doors.get("GET" if request.method == "HEAD" and heads else request.method)
        if door is None:
            return method_not_allowed(sorted({*doors, "HEAD"} if "GET" in doors and heads else doors))
        try:
            if request.method == "POST" and self.clients.is_stale(self._clock()):
                # Whoever should refresh the clients is late: what changes something is not done by old knowledge.
                await self.clients.refresh(now=self._clock())
            answer = self._with_nonce(await door(request), request)
            return in_frames_of(self._frame_ancestors, request.path, answer)
        except OAuthError as error:
            self._emit(
                Refused(request.path, str(error.code), error.client_id, error.detail or error.description)
            )
            scheme = request.headers.get("authorization", "").partition(" ")[0]
            return self._with_nonce(error_answer(error, scheme=scheme), request)
        except RequestError as error:
            value = {"error": str(ErrorCode.INVALID_REQUEST), "error_description": error.description}
            return json_answer(error.status, value)
        except StoreUnavailable as error:
            _log.error("the store does not answer", extra={"cause": str(error)})
            return error_answer(OAuthError(ErrorCode.TEMPORARILY_UNAVAILABLE, "try again in a moment"))
        except Exception:
            _log.exception("a door of the authorization server failed", extra={"endpoint": request.path})
            return error_answer(
                OAuthError(ErrorCode.SERVER_ERROR, "the server failed to answer this request")
            )

    def _with_nonce(self, answer: Answer, request: HttpRequest) -> Answer:
        """The answer with a nonce for the next proof, never two (RFC 9449 8.2, 9).

        Doors that take access tokens give the nonce of protected resources themselves.
        """
        if request.path in (_USERINFO, _LAUNCH) or request.path.startswith(grant_management.PATH):
            return answer
        return self._proofs.with_nonce(answer, request)

    def serves(self, path: str) -> bool:
        """Whether a door is at this path."""
        return self._doors(path) is not None

    def _doors(self, path: str) -> Mapping[str, Door] | None:
        """The doors at a path, or at the one level below a prefix that it lies on."""
        found = self.routes.get(path) or self.below.get(path[: path.rindex("/") + 1])
        return self._administration.doors(path) if found is None else found

    async def refresh(self) -> None:
        """Take in what other nodes revoked and which clients they changed; to be called about twice a second."""
        await self._revocations.refresh(self._store, now=self._clock())
        await self.clients.refresh(now=self._clock())

    async def _client_changed(self, ended: Sequence[str]) -> None:
        for grant_id in ended:
            self._revocations.add(grant_id)
        await self.clients.refresh(now=self._clock())

    async def housekeeping(self) -> None:
        """Rotate keys where due and remove expired rows; to be called every few seconds.

        Rows go in small batches, and requests are answered between them: every checked proof leaves a row.
        """
        await self._keys.tick()
        for _ in range(_MAX_BATCHES):
            if await self._store.remove_expired(now=self._clock(), at_most=_REMOVE_AT_ONCE) < _REMOVE_AT_ONCE:
                return
            await asyncio.sleep(0)

    async def close(self) -> None:
        """End what is under way in the background."""
        await self._client_keys.close()


def _at_once(answer: Callable[[HttpRequest], Answer]) -> Door:
    async def door(request: HttpRequest) -> Answer:
        return answer(request)

    return door
