"""Registration of applications by themselves: RFC 7591 (POST /register) and RFC 7592 (/register/{client_id})."""

import hmac
from collections.abc import Mapping

from authz.handles import digest
from authz.http import NO_STORE, json_answer, read_json
from authz.protocol.encoding import strict_json
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.request import Answer, HttpRequest
from authz.registration_requests import RegistrationRequests
from authz.storage.registrations import Registration

PATH = "/register"
BELOW = "/register/"
_MAX_BYTES = 64 * 1024
_FOREIGN = frozenset(
    {
        "registration_access_token",
        "registration_client_uri",
        "client_secret_expires_at",
        "client_id_issued_at",
    }
)
"""Members of our answers that a client must not send back (RFC 7592 2.2)."""


class RegistrationEndpoint:
    """The doors of the client registry. Errors go out as RFC 7591 3.2.2 and RFC 6750 3 say."""

    def __init__(self, issuer: str, registry: RegistrationRequests) -> None:
        self._issuer = issuer
        self._registry = registry

    async def register(self, request: HttpRequest) -> Answer:
        """201 with the client_id, what was registered, and the token to manage it (RFC 7591 3.2.1)."""
        token = _bearer(request) if "authorization" in request.headers else None
        made = await self._registry.register(await _document(request), initial_access_token=token)
        value = self._told(made.registration)
        value["registration_access_token"] = made.access_token
        if made.client_secret is not None:
            value |= {"client_secret": made.client_secret, "client_secret_expires_at": 0}
        return json_answer(201, value)

    async def read(self, request: HttpRequest) -> Answer:
        """200 with what is registered (RFC 7592 2.1)."""
        return json_answer(200, self._managed(await self._own(request), request))

    async def update(self, request: HttpRequest) -> Answer:
        """200 with what is registered now: a whole new document replaces the old one (RFC 7592 2.2)."""
        registration = await self._own(request)
        document = await _document(request)
        if document.get("client_id") != registration.client_id:
            raise _wrong("client_id must be the one of this registration")
        foreign = sorted(_FOREIGN & document.keys())
        if foreign:
            raise _wrong(f"{foreign[0]} must not be sent")
        if "client_secret" in document and not _is_its_secret(document["client_secret"], registration):
            raise _wrong("client_secret must not be sent, or be the one that the client has (RFC 7592 2.2)")
        return json_answer(200, self._managed(await self._registry.update(registration, document), request))

    async def delete(self, request: HttpRequest) -> Answer:
        """204: the client and its tokens are gone, its registration access token too (RFC 7592 2.3)."""
        await self._registry.delete_own(await self._own(request))
        return Answer(204, NO_STORE)

    async def _own(self, request: HttpRequest) -> Registration:
        return await self._registry.authenticate(request.path.removeprefix(BELOW), _bearer(request))

    def _managed(self, registration: Registration, request: HttpRequest) -> dict[str, object]:
        """What _told() says with the token that goes on being good: RFC 7592 3 requires it in every answer.

        Nobody here knows it but from the request that it came with.
        """
        return {**self._told(registration), "registration_access_token": _bearer(request)}

    def _told(self, registration: Registration) -> dict[str, object]:
        """The client information response (RFC 7591 3.2.1), with members of ours: where it stands.

        registration_profile is the security profile that it is held to.
        registration_status is pending, approved, suspended or rejected. registration_update is a document that waits
        for approval while the one beside it is in force.
        """
        value: dict[str, object] = {
            "client_id": registration.client_id,
            "client_id_issued_at": registration.created_at,
            **registration.metadata,
            "registration_client_uri": f"{self._issuer}{BELOW}{registration.client_id}",
            "registration_status": str(registration.status),
            "registration_profile": str(registration.profile),
        }
        if registration.statement is not None:
            value["software_statement"] = registration.statement
        if registration.proposed is not None:
            value["registration_update"] = dict(registration.proposed)
        return value


def _is_its_secret(given: object, registration: Registration) -> bool:
    expected = registration.secret_digest
    return isinstance(given, str) and expected is not None and hmac.compare_digest(digest(given), expected)


def _bearer(request: HttpRequest) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.lstrip(" ")
    if scheme.lower() != "bearer" or not token:
        raise OAuthError(ErrorCode.INVALID_TOKEN, "a Bearer token is required in the Authorization header")
    return token


async def _document(request: HttpRequest) -> Mapping[str, object]:
    content = await read_json(request, ErrorCode.INVALID_CLIENT_METADATA, limit_bytes=_MAX_BYTES)
    try:
        document = strict_json(content, max_bytes=_MAX_BYTES)
    except ValueError as error:
        raise _wrong("the body is not JSON with one reading") from error
    if not isinstance(document, dict):
        raise _wrong("the body must be a JSON object")
    return document


def _wrong(description: str) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_CLIENT_METADATA, description)
