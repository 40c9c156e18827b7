"""What applications ask of the registry: to be registered, and to manage their own registration (RFC 7591, RFC 7592)."""

import hmac
from collections.abc import Mapping
from dataclasses import replace

from authz.client_directory import rules_of
from authz.handles import digest
from authz.protocol.client_metadata import read_metadata
from authz.protocol.client_profiles import profile_asked
from authz.protocol.client_updates import exceeds
from authz.protocol.clients import ProfileName
from authz.protocol.encoding import base64url_decode
from authz.protocol.errors import ErrorCode, OAuthError, speakable
from authz.protocol.software_statements import SoftwareStatement, check_statement
from authz.registry_writing import (
    Registered,
    RegistryWriter,
    no_token,
    tombstone,
    with_statement,
    without_proposal,
)
from authz.storage.registrations import InitialAccessToken, Registration, RegistrationStatus

_HOUR_SECONDS = 3600
_DAY_SECONDS = 86400
# Each leaves a row in a history that is kept for good. A statement is no secret: whoever has seen one can send it.
_UPDATES_AN_HOUR = 30
_REGISTRATIONS_A_DAY = 100
_STOPPED = frozenset({RegistrationStatus.SUSPENDED, RegistrationStatus.REJECTED})


class RegistrationRequests(RegistryWriter):
    """The part of the Registry that applications reach."""

    async def register(
        self, document: Mapping[str, object], *, initial_access_token: str | None
    ) -> Registered:
        """Register an application that shows an initial access token, or a software statement in its document.

        Raises OAuthError: INVALID_TOKEN without either, TEMPORARILY_UNAVAILABLE (429) for one statement too often, and
        what read_metadata() and check_statement() raise; nothing is spent then. Raises StoreUnavailable.
        """
        now = self._clock()
        permission = None
        if initial_access_token is not None:
            permission = await self._store.initial_access_token(digest(initial_access_token), now=now)
            if permission is None:
                raise no_token("the initial access token is not known here, has expired or is used up")
        statement = self._statement(document, now)
        if permission is None and statement is None:
            raise no_token("registration needs an initial access token, or a software statement")
        if permission is None and statement is not None:
            key = f"registration-statement:{digest(statement.text)}"
            await self._count(key, _DAY_SECONDS, _REGISTRATIONS_A_DAY, now)
        profile = self._profile(document, statement)
        return await self._add(
            document,
            who=_who(permission, statement),
            why="registration request",
            statement=statement,
            scope_ceiling=None if permission is None else permission.scope_ceiling,
            spending=None if permission is None else permission.id,
            approved=self._needs_no_approval(profile),
            profile=profile,
        )

    def _profile(self, document: Mapping[str, object], statement: SoftwareStatement | None) -> ProfileName:
        """The profile that a document is held to: the one that it asks for where that is open, else fapi2.

        What asks for a profile that is not open is told what fapi2 wants instead. Raises OAuthError where it is not
        open either.
        """
        stated = {} if statement is None else statement.metadata
        asked = profile_asked({**document, **stated})
        open_here = self._settings.registration.profiles & self._settings.profiles
        found = asked if asked in open_here else ProfileName.FAPI2
        if found not in open_here:
            said = ", ".join(sorted(open_here)) or "none"
            raise OAuthError(
                ErrorCode.INVALID_CLIENT_METADATA,
                f"clients of the profile {asked} do not register by themselves here; open are: {said}",
            )
        return found

    def _needs_no_approval(self, profile: ProfileName) -> bool:
        # Somebody looks at each client that may leave what FAPI 2.0 asks of the others.
        return self._settings.registration.automatic and profile is ProfileName.FAPI2

    async def authenticate(self, client_id: str, access_token: str) -> Registration:
        """The registration that a registration access token is for (RFC 7592 1.2).

        Raises OAuthError(INVALID_TOKEN) alike for a client that is unknown or deleted and for a wrong token.
        """
        registration = await self._store.registration(client_id, now=self._clock())
        expected = registration.access_token if registration is not None else None
        right = hmac.compare_digest(expected or "", digest(access_token))
        if registration is None or expected is None or not right:
            raise no_token("the registration access token is not one of a client that is registered here")
        return registration

    async def update(self, registration: Registration, document: Mapping[str, object]) -> Registration:
        """Replace the metadata of an authenticated client with a whole new document (RFC 7592 2.2).

        In force at once: when the registration still waits for approval (it goes on waiting), when the update asks for
        no more than was vetted, or when registrations of its profile need no approval. Else it waits, and the old
        stays in force. What changes nothing leaves no trace. Raises OAuthError: ACCESS_DENIED (403) for a client that
        was stopped, TEMPORARILY_UNAVAILABLE (429) for too many updates, and what read_metadata() raises.
        """
        require_active(registration)
        now = self._clock()
        statement = self._statement(document, now)
        stating = with_statement(registration, statement)
        rules = rules_of(
            self._settings,
            registration.profile,
            scope_ceiling=stating.scope_ceiling,
            stated=stating.stated,
        )
        metadata = read_metadata(document, rules).document
        at_once = (
            registration.status is RegistrationStatus.PENDING
            or self._needs_no_approval(registration.profile)
            or not exceeds(metadata, registration.metadata)
        )
        if at_once:
            following = replace(without_proposal(stating), metadata=metadata)
        else:
            # What a statement says is laid over whatever is in force: it waits as the document does.
            following = replace(
                registration,
                proposed=metadata,
                proposed_statement=None if statement is None else statement.text,
                proposed_stated={} if statement is None else dict(statement.metadata),
            )
        if following == registration:
            return registration
        await self._count(
            f"registration-update:{registration.client_id}", _HOUR_SECONDS, _UPDATES_AN_HOUR, now
        )
        what = "updated" if at_once else "update-proposed"
        written = await self._write(following, what, who="client", why="update request")
        if written is None:
            raise OAuthError(
                ErrorCode.INVALID_REQUEST, "the registration changed meanwhile: read it and try again"
            )
        return written

    async def delete_own(self, registration: Registration) -> None:
        """Delete an authenticated client at its own request (RFC 7592 2.3). Raises OAuthError as update() does."""
        require_active(registration)
        following = tombstone(registration, RegistrationStatus.DELETED, self._clock())
        if await self._write(following, "deleted", who="client", why="its own request") is None:
            raise OAuthError(ErrorCode.INVALID_REQUEST, "the registration changed meanwhile: try again")

    async def _count(self, key: str, window_seconds: int, at_most: int, now: int) -> None:
        """Count what leaves a row for good. Raises OAuthError (429) when there was too much of it."""
        if await self._store.count(key, window_seconds=window_seconds, now=now) > at_most:
            raise OAuthError(
                ErrorCode.TEMPORARILY_UNAVAILABLE,
                f"at most {at_most} of these are accepted in {window_seconds // 3600} h: try again later",
                status=429,
            )

    def _statement(self, document: Mapping[str, object], now: int) -> SoftwareStatement | None:
        text = document.get("software_statement")
        if text is None:
            return None
        if not isinstance(text, str):
            raise OAuthError(ErrorCode.INVALID_SOFTWARE_STATEMENT, "software_statement must be a signed JWT")
        return check_statement(text, issuers=self._issuers, server=self._settings.issuer, now=now)


def require_active(registration: Registration) -> None:
    """Refuse the changes of a client that was stopped: it does not come back by itself. Raises OAuthError (403)."""
    if registration.status in _STOPPED:
        raise OAuthError(
            ErrorCode.ACCESS_DENIED,
            f"the client is {registration.status}: its registration can only be read",
            status=403,
        )


def _who(permission: InitialAccessToken | None, statement: SoftwareStatement | None) -> str:
    """By what an application was let in, for its history: never the token itself."""
    said = (
        []
        if permission is None
        else [f"initial access token {base64url_decode(permission.id).hex()[:8]} of {permission.made_by}"]
    )
    said += [] if statement is None else [f"software statement of {speakable(statement.issuer)}"]
    return " and ".join(said)
