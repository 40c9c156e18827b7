"""Launches from a record system: POST /launch makes the handle that it gives to the browser (SMART App Launch 2.2).

The record system calls with a token of its own for the scope securus/launch, bound to its key. It names the app, the
person and what is open; the handle says nothing of it, lives five minutes, and is good for one request of that app.
"""

import json
from collections.abc import Mapping

from authz.clock import Clock
from authz.events import ContextLaunched, Emit, Refused
from authz.handles import digest, new_handle
from authz.http import json_answer, read_json
from authz.login.launch import may_be_opened_by
from authz.protocol.administration import read_command
from authz.protocol.authorization import AuthorizationRequest
from authz.protocol.clients import BindingKind, Client, GrantType
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.launch_context import MEMBERS, PARAMETER, read_context
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.scopes import LAUNCH_SCOPE
from authz.resource_server import Authenticated, ResourceServer
from authz.settings import Account
from authz.storage.interactions import Launch
from authz.storage.store import Store

PATH = "/launch"
_SECONDS = 300
_MAX_BODY_BYTES = 8 * 1024
_KNOWN: Mapping[str, type] = {"client_id": str, "aud": str, "user": str, **MEMBERS}


class Launches:
    """Makes launches, and hands them to the requests that name them."""

    def __init__(
        self,
        *,
        store: Store,
        resource_server: ResourceServer,
        audience: frozenset[str],
        resources: Mapping[str, str],
        clients: Mapping[str, Client],
        configured: Mapping[str, Client],
        accounts: Mapping[str, Account],
        emit: Emit,
        clock: Clock,
    ) -> None:
        """accounts are by subject; configured are the clients of gateway.yaml, record systems among them."""
        self._store = store
        self._resource_server = resource_server
        self._audience = audience
        self._resources = resources
        self._clients = clients
        self._configured = configured
        self._accounts = accounts
        self._emit = emit
        self._clock = clock

    async def make(self, request: HttpRequest) -> Answer:
        """201 with launch, iss and expires_in."""
        try:
            found = await self._resource_server.authenticate(request, audience=self._audience)
            self._admit(found)
            launch, handle = await self._read(request)
        except OAuthError as error:
            return self._refused(error, request)
        await self._store.put_launch(launch)
        ehr = found.caller.client_id
        self._emit(ContextLaunched(ehr, launch.client_id, launch.subject))
        value = {"launch": handle, "iss": launch.audience, "expires_in": _SECONDS}
        return json_answer(201, value, found.headers)

    def _admit(self, found: Authenticated) -> None:
        client = self._configured.get(found.caller.client_id)
        if LAUNCH_SCOPE not in found.caller.scope or client is None or LAUNCH_SCOPE not in client.scope:
            raise OAuthError(
                ErrorCode.INSUFFICIENT_SCOPE,
                "the token has no scope securus/launch: ask for it by client_credentials",
                fields={"scope": LAUNCH_SCOPE},
            )
        if found.caller.binding.kind is BindingKind.NONE:
            raise OAuthError(ErrorCode.INVALID_TOKEN, "launches are made with a token that is bound to a key")

    async def _read(self, request: HttpRequest) -> tuple[Launch, str]:
        document = read_command(await read_json(request, limit_bytes=_MAX_BODY_BYTES), _KNOWN)
        client = self._clients.get(str(document.get("client_id", "")))
        if (
            client is None
            or "launch" not in client.scope
            or GrantType.AUTHORIZATION_CODE not in client.grant_types
        ):
            raise _wrong("client_id must be an app that is registered here for the scope launch")
        audience = self._resources.get(str(document.get("aud", "")).removesuffix("/"))
        if audience is None:
            raise _wrong("aud must be the FHIR base that the app is launched for")
        account = self._accounts.get(str(document.get("user", "")))
        if account is None:
            raise _wrong("user must be the subject of an account of this server")
        context = read_context(document)
        patient = context.get("patient")
        if isinstance(patient, str) and not may_be_opened_by(patient, account, self._clock()):
            raise _wrong("patient is not a record of this user")
        handle = new_handle()
        launch = Launch(
            id=digest(handle),
            client_id=client.client_id,
            audience=audience,
            subject=account.subject,
            context=context,
            expires_at=self._clock() + _SECONDS,
        )
        return launch, handle

    async def resolve(self, asked: AuthorizationRequest) -> dict[str, str]:
        """The parameters to keep of a request: the context and its base in place of the handle, which is used up by this.

        Raises OAuthError(INVALID_REQUEST) for a handle that is unknown, used, expired, another app's or for another
        base.
        """
        parameters = dict(asked.parameters)
        handle = parameters.pop("launch", None)
        if handle is None:
            return parameters
        if "launch" not in parameters.get("scope", "").split(" "):
            raise _wrong("launch comes with the scope launch: ask for it, or leave the parameter out")
        launch = await self._store.take_launch(digest(handle), client_id=asked.client_id, now=self._clock())
        if launch is None or launch.audience not in asked.audience:
            raise _wrong("launch is not known here, was used or has expired: launch the app again")
        parameters[PARAMETER] = json.dumps({**launch.context, "user": launch.subject})
        # Of that base alone its ids are known: at another one the same id may be another patient's.
        parameters |= dict.fromkeys(("resource", *({"aud"} & parameters.keys())), launch.audience)
        return parameters

    def _refused(self, error: OAuthError, request: HttpRequest) -> Answer:
        self._emit(
            Refused(PATH, str(error.code), error.client_id, error.detail or error.description, request.peer)
        )
        told = error if "authorization" in request.headers else None
        value = {"error": str(error.code), "error_description": error.description}
        challenge = self._resource_server.challenge(told, request) if error.status in (401, 403) else ()
        return json_answer(error.status, value, challenge)


def _wrong(description: str) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_REQUEST, description)
