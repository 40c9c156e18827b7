"""AuthorizationServer: every path of the authorization server with its door, and what it does in the background."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence

from authz.account.own_records import OwnRecords
from authz.client_directory import ClientDirectory
from authz.client_keys import ClientKeys, Fetch
from authz.clock import Clock
from authz.doors import USERINFO, Doors, House
from authz.endpoints import grant_management, launches
from authz.endpoints.client_authentication import Admit
from authz.endpoints.proofs import Proofs
from authz.events import Emit, Refused
from authz.grant_endings import end_grant
from authz.http import error_answer, json_answer, method_not_allowed
from authz.keys import KeyRing
from authz.login import framing
from authz.login.finding import Finder
from authz.login.given_consents import GivenConsents
from authz.protocol.clients import Client
from authz.protocol.dpop import Nonces
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.openid import Subjects
from authz.protocol.request import Answer, HttpRequest, RequestError
from authz.registry import Registry
from authz.resource_server import ResourceServer
from authz.revocations import Revocations
from authz.settings import Account, AuthorizationSettings
from authz.storage.store import Store, StoreUnavailable

_NONCE_SECRET = "dpop-nonce"
_SUBJECT_SECRET = "pairwise-subjects"
_WITHOUT_HEAD = framing.PATHS | {"/logout"}
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
        own: OwnRecords | None = None,
        given: Mapping[str, GivenConsents] | None = None,
    ) -> None:
        self._store = store
        self._keys = keys
        self._emit = emit
        self._clock = clock
        self._frame_ancestors = settings.frame_ancestors
        self._revocations = Revocations(store)
        self.clients = ClientDirectory(store, clients, settings)
        self.registry = Registry(
            store=store,
            configured=clients,
            settings=settings,
            emit=emit,
            clock=clock,
            changed=self._client_changed,
        )
        lifetimes = settings.lifetimes
        self._access_token_seconds = lifetimes.access_token
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
            nonces=Nonces(nonce_secret, "authorization-server", lifetimes.dpop_nonce),
            nonce_required=settings.dpop_nonce_required,
            max_age_seconds=lifetimes.dpop_proof,
            emit=emit,
            clock=clock,
        )
        self._client_keys = ClientKeys(fetch, clock, emit)
        self.doors = Doors(
            House(
                settings=settings,
                store=store,
                keys=keys,
                clients=self.clients,
                configured=clients,
                accounts=accounts,
                registry=self.registry,
                resource_server=self.resource_server,
                proofs=self._proofs,
                revocations=self._revocations,
                client_keys=self._client_keys,
                subjects=subjects,
                emit=emit,
                clock=clock,
                grantable=grantable,
                finders={} if finders is None else finders,
                admit=admit,
                own=own or OwnRecords(),
                given={} if given is None else given,
            )
        )

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
        own: OwnRecords | None = None,
        given: Mapping[str, GivenConsents] | None = None,
    ) -> "AuthorizationServer":
        """The server over this store, with the nonce secret that all nodes share.

        admit says whether a client that authenticated asks too often. given keep the consents of resources, by their
        identifiers.
        fetch is the guarded GET for clients' key sets; without it none is fetched. finders are by the identifier of
        the resource whose records they know, and may be there later than the server.
        own is what is kept of patients, for their own pages.
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
            own=own,
            given=given,
        )
        await server.refresh()
        return server

    async def handle(self, request: HttpRequest) -> Answer | None:
        """The answer of the door at this path; None when no door is there."""
        doors = self.doors.at(request.path)
        if doors is None:
            return None
        heads = request.path not in _WITHOUT_HEAD and not request.path.startswith("/account")
        door = doors.get("GET" if request.method == "HEAD" and heads else request.method)
        if door is None:
            return method_not_allowed(sorted({*doors, "HEAD"} if "GET" in doors and heads else doors))
        try:
            if request.method == "POST" and self.clients.is_stale(self._clock()):
                # Whoever should refresh the clients is late: what changes something is not done by old knowledge.
                await self.clients.be_current(now=self._clock())
            answer = self._with_nonce(await door(request), request)
            return framing.in_frames_of(self._frame_ancestors, request.path, answer)
        except OAuthError as error:
            self._emit(
                Refused(
                    request.path,
                    str(error.code),
                    error.client_id,
                    error.detail or error.description,
                    request.peer,
                )
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
        if request.path in (USERINFO, launches.PATH) or request.path.startswith(grant_management.PATH):
            return answer
        return self._proofs.with_nonce(answer, request)

    def serves(self, path: str) -> bool:
        """Whether a door is at this path."""
        return self.doors.at(path) is not None

    async def refresh(self) -> None:
        """Take in what other nodes revoked and which clients they changed; to be called about twice a second."""
        await self._revocations.refresh(now=self._clock())
        await self.clients.refresh(now=self._clock())

    async def _client_changed(self, ended: Sequence[str]) -> None:
        for grant_id in ended:
            self._revocations.add(grant_id)
        await self.clients.refresh(now=self._clock())

    async def end_grant(self, grant_id: str, who: str, why: str) -> None:
        """End a grant with all its tokens, since the consent that it came with was revoked. Raises StoreUnavailable."""
        await end_grant(
            self._store,
            grant_id,
            now=self._clock(),
            access_token_seconds=self._access_token_seconds,
            who=who,
            why=why,
            emit=self._emit,
            revocations=self._revocations,
            reason="consent",
        )

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
