"""The administration of this server over HTTP, /admin/…: who may come in, and the grants (docs/administration.md).

Every door takes a sender-constrained access token with the scope securus/admin and the audience <issuer>/admin, of a
client that gateway.yaml registers for it now. Every change says who and why, in the audit log and where it has one in
the client's history.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from authz import descriptions
from authz.clock import Clock
from authz.events import Emit, Refused
from authz.grant_endings import end_grants
from authz.http import json_answer, read_json
from authz.protocol.administration import PATH, identifier, read_command, read_why, split_path
from authz.protocol.clients import Client
from authz.protocol.encoding import compact_json, parse_query
from authz.protocol.errors import ErrorCode, OAuthError, speakable
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.scopes import ADMINISTRATION_SCOPE
from authz.protocol.tokens import Grant
from authz.resource_server import ResourceServer
from authz.revocations import Revocations
from authz.storage.store import Store

Door = Callable[[HttpRequest], Awaitable[Answer]]
_MAX_BODY_BYTES = 64 * 1024
_TOLD_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Command:
    """A request of an administrator who was let in. who is as it stands in history and audit."""

    request: HttpRequest
    who: str
    segments: tuple[str, ...]

    async def body(self, known: Mapping[str, type]) -> Mapping[str, object]:
        """The members of the JSON body, each of a known name and of that type. Raises OAuthError(INVALID_REQUEST)."""
        self.query()
        return read_command(await read_json(self.request, limit_bytes=_MAX_BODY_BYTES), known)

    def query(self, *known: str) -> Mapping[str, str]:
        """The parameters of the query, each of a known name and once. Raises OAuthError(INVALID_REQUEST)."""
        try:
            pairs = parse_query(self.request.query)
        except ValueError as error:
            raise OAuthError(ErrorCode.INVALID_REQUEST, f"the query {error}") from error
        found = dict(pairs)
        if len(found) != len(pairs):
            raise OAuthError(ErrorCode.INVALID_REQUEST, "a parameter of the query is there twice")
        if not found.keys() <= set(known):
            allowed = f"may have {', '.join(known)}, and nothing else" if known else "must be empty"
            raise OAuthError(ErrorCode.INVALID_REQUEST, f"the query {allowed}")
        return found


Handler = Callable[[Command], Awaitable[Answer]]
Routes = Mapping[tuple[str, ...], Mapping[str, Handler]]
"""Segments of the path below /admin, '*' for any one → method → handler."""


class Administration:
    """The doors below /admin."""

    def __init__(
        self,
        *,
        issuer: str,
        configured: Mapping[str, Client],
        resource_server: ResourceServer,
        routes: Sequence[Routes],
        emit: Emit,
    ) -> None:
        """configured are the clients of gateway.yaml."""
        self._audience = frozenset({identifier(issuer)})
        self._configured = configured
        self._resource_server = resource_server
        self._routes = {pattern: doors for table in routes for pattern, doors in table.items()}
        self._emit = emit

    def doors(self, path: str) -> Mapping[str, Door] | None:
        """method → door at a path; None when nothing is there."""
        if not path.startswith(PATH + "/"):
            return None
        segments = split_path(path)
        for pattern, handlers in self._routes.items():
            if len(pattern) == len(segments) and all(
                p in ("*", s) for p, s in zip(pattern, segments, strict=True)
            ):
                return {
                    method: self._door(handler, pattern, segments) for method, handler in handlers.items()
                }
        return None

    def _door(self, handler: Handler, pattern: tuple[str, ...], segments: tuple[str, ...]) -> Door:
        async def door(request: HttpRequest) -> Answer:
            try:
                found = await self._resource_server.authenticate(request, audience=self._audience)
                who = self._admitted(found.caller.client_id, found.caller.scope)
                answer = await handler(Command(request, who, segments))
            except OAuthError as error:
                return self._refused(error, request, pattern)
            return answer.with_headers(found.headers)

        return door

    def _admitted(self, client_id: str, scope: tuple[str, ...]) -> str:
        if ADMINISTRATION_SCOPE not in scope:
            raise _insufficient(f"the token has no scope {ADMINISTRATION_SCOPE}")
        client = self._configured.get(client_id)
        # What was taken from the registration ends now, not with the token.
        if client is None or ADMINISTRATION_SCOPE not in client.scope:
            raise _insufficient(f"the client is not registered for {ADMINISTRATION_SCOPE}")
        return f"client {client_id}"

    def _refused(self, error: OAuthError, request: HttpRequest, pattern: tuple[str, ...]) -> Answer:
        self._emit(
            Refused(
                "/".join((PATH, *pattern)),
                str(error.code),
                error.client_id,
                error.detail or error.description,
                request.peer,
            )
        )
        value = {"error": str(error.code), "error_description": error.description, **error.fields}
        if error.status in (401, 403):
            told = error if "authorization" in request.headers else None
            return json_answer(error.status, value, self._resource_server.challenge(told, request))
        return json_answer(error.status, value)


class GrantAdministration:
    """Grants of a person, of a client, or of both together: seen and ended."""

    def __init__(
        self,
        *,
        store: Store,
        revocations: Revocations,
        access_token_seconds: int,
        emit: Emit,
        clock: Clock,
    ) -> None:
        self._store = store
        self._revocations = revocations
        self._access_token_seconds = access_token_seconds
        self._emit = emit
        self._clock = clock

    def routes(self) -> Routes:
        """GET and DELETE /admin/grants."""
        return {("grants",): {"GET": self.show, "DELETE": self.revoke}}

    async def show(self, command: Command) -> Answer:
        """200 with the live grants, the newest first."""
        whose = _whose(command.query("subject", "client_id"))
        grants = await self._store.grants(
            subject=whose.get("subject"), client_id=whose.get("client_id"), now=self._clock()
        )
        return await _told("grants", grants)

    async def revoke(self, command: Command) -> Answer:
        """200 with the grants that were ended: here at once, at every node within a second."""
        parameters = command.query("subject", "client_id", "why")
        whose, why = _whose(parameters), named_why(parameters)
        ended = await end_grants(
            self._store,
            subject=whose.get("subject"),
            client_id=whose.get("client_id"),
            now=self._clock(),
            access_token_seconds=self._access_token_seconds,
            who=command.who,
            why=why,
            emit=self._emit,
            revocations=self._revocations,
        )
        return await _told("ended", ended)


async def _told(name: str, grants: Sequence[Grant]) -> Answer:
    """The grants under this name, described in turns: a client may have very many."""
    parts: list[bytes] = []
    for number, grant in enumerate(grants, start=1):
        parts.append(compact_json(descriptions.of_grant(grant)))
        if number % _TOLD_AT_ONCE == 0:
            await asyncio.sleep(0)
    return replace(json_answer(200, {}), body=b'{"%b":[%b]}' % (name.encode(), b",".join(parts)))


def named_why(members: Mapping[str, object]) -> str:
    """The reason among the members of a body or query. Raises OAuthError(INVALID_REQUEST)."""
    return read_why(members.get("why"))


def missing(error: Exception) -> Answer:
    """404 with the text of what was not found."""
    return refusal(404, "not_found", str(error))


def refusal(status: int, code: str, description: str) -> Answer:
    """An answer to a command that cannot be carried out."""
    return json_answer(status, {"error": code, "error_description": speakable(description, at_most=300)})


def _whose(parameters: Mapping[str, str]) -> Mapping[str, str]:
    """The person and client that are named. Raises OAuthError when neither is: never the grants of all."""
    if not (parameters.get("subject") or parameters.get("client_id")):
        raise OAuthError(ErrorCode.INVALID_REQUEST, "subject or client_id is required: whose grants?")
    return {name: value for name, value in parameters.items() if value}


def _insufficient(description: str) -> OAuthError:
    return OAuthError(ErrorCode.INSUFFICIENT_SCOPE, description, fields={"scope": ADMINISTRATION_SCOPE})
