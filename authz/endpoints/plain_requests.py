"""Authorization requests that come in a form, and those that were not pushed, for profiles that allow it.

OpenID Connect Core 3.1.2.1 and SMART App Launch 2.2 2.0.9: the authorization server supports GET and POST. What was not
pushed is held to the rules of a pushed request and is then kept as one: from there on nothing differs. Where the client
and its address are not proved there is a page and never a redirect (RFC 6749 4.1.2.1).

Who posts a form is sent on to the address that says the same. Browsers keep the session's cookie from a form of
another site, and a person who is signed in would be asked again and lose the session.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from authz.clock import Clock
from authz.endpoints.authorization_response import AuthorizationResponses
from authz.endpoints.launches import Launches
from authz.endpoints.own_id_tokens import read_hint
from authz.endpoints.pushed_authorization import REQUEST_URI_PREFIX, request_id
from authz.endpoints.unproven_requests import may_ask
from authz.endpoints.visits import PageError, pushed_in
from authz.events import Emit, Refused
from authz.handles import new_handle
from authz.http import read_form
from authz.keys import KeyRing
from authz.login import browser as pages
from authz.protocol import authorization, authorization_answers
from authz.protocol.client_profiles import PROFILES
from authz.protocol.clients import Client, ProfileName
from authz.protocol.encoding import parse_form, parse_query
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.granting import ServerBits
from authz.protocol.request import Answer, HttpRequest
from authz.storage.interactions import PushedRequest
from authz.storage.store import Store


class PlainRequests:
    """Takes authorization requests that were not pushed."""

    def __init__(
        self,
        *,
        profiles: frozenset[ProfileName],
        store: Store,
        clients: Mapping[str, Client],
        server: ServerBits,
        launches: Launches,
        responses: AuthorizationResponses,
        keys: KeyRing,
        lifetime_seconds: int,
        emit: Emit,
        clock: Clock,
    ) -> None:
        self._profiles = profiles
        # Whether a profile that is switched on allows requests that were not pushed.
        self._exist = any(not PROFILES[name].pushed_requests_required for name in profiles)
        self._store = store
        self._clients = clients
        self._server = server
        self._launches = launches
        self._responses = responses
        self._keys = keys
        self._lifetime_seconds = lifetime_seconds
        self._emit = emit
        self._clock = clock

    async def take(self, request: HttpRequest) -> PushedRequest | Answer | None:
        """The request as a pushed one; the way on, or the error at the client's address; None for the address of a pushed
        one, and for what must have been pushed.

        Raises PageError, and OAuthError for what has no single reading.
        """
        is_form = request.method == "POST"
        content = await read_form(request) if is_form else request.query.encode("ascii")
        found = await self._judged(content, request) if self._exist and not _names_pushed(content) else None
        if isinstance(found, Answer):
            return found
        if not is_form:
            return None if found is None else found.record
        client_id, handle = pushed_in(content) if found is None else (found.record.client_id, found.handle)
        address = urlencode({"client_id": client_id, "request_uri": REQUEST_URI_PREFIX + handle})
        return pages.redirect(f"/authorize?{address}")

    async def _judged(self, content: bytes, request: HttpRequest) -> "_Kept | Answer | None":
        """What was not pushed, kept; the error at the client's address; None for what must be pushed."""
        form = parse_form(content, repeatable=authorization.REPEATABLE)
        client = self._clients.get(form.get("client_id", ""))
        if client is None or client.profile not in self._profiles:
            raise PageError("error.client_unnamed")
        if client.pushed_requests_required or PROFILES[client.profile].pushed_requests_required:
            return None
        target = authorization_answers.locate(form, client)
        if not await may_ask(self._store, request.peer, now=self._clock()):
            raise PageError("error.too_many", status=429)
        try:
            return await self._kept(self._checked(form, client))
        except OAuthError as error:
            self._emit(Refused("/authorize", str(error.code), client.client_id, error.description))
            return await self._responses.failure(target, error)

    def _checked(self, form: Mapping[str, str], client: Client) -> authorization.AuthorizationRequest:
        if "request" in form or client.signed_requests_required:
            raise OAuthError(
                ErrorCode.REQUEST_NOT_SUPPORTED, "a request object is taken by PAR only: push it"
            )
        asked = authorization.check(form, client, self._server)
        hint = asked.parameters.get("id_token_hint")
        if hint is not None and read_hint(hint, self._keys, self._server.issuer) is None:
            raise OAuthError(ErrorCode.INVALID_REQUEST, "id_token_hint is not an ID token of this server")
        return asked

    async def _kept(self, asked: authorization.AuthorizationRequest) -> "_Kept":
        handle = new_handle()
        record = PushedRequest(
            id=request_id(handle),
            client_id=asked.client_id,
            parameters=await self._launches.resolve(asked),
            dpop_jkt=asked.dpop_jkt,
            expires_at=self._clock() + self._lifetime_seconds,
        )
        await self._store.put_pushed_request(record)
        return _Kept(record, handle)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A request that was kept, and what its request_uri ends with."""

    record: PushedRequest
    handle: str


def _names_pushed(content: bytes) -> bool:
    """Whether it names a pushed request: then nothing else of it is read (P9)."""
    try:
        return any(name == "request_uri" and value for name, value in parse_query(content.decode("ascii")))
    except ValueError:
        return False
