"""The client registry: who may register, what becomes of it, and what an operator can do about a client.

Every operation names who asks and why; both go into the client's history and the audit log. A client stands in one of
five statuses:

    pending → approved ⇄ suspended        approve, suspend, reactivate
    pending → rejected                    reject
    any     → deleted                     delete, by the operator or the client itself

An approved client may propose an update. What was vetted stays in force while the update waits: approve puts it in
force, reject drops it. What asks for nothing more than was vetted is in force at once (client_updates.py). A client
that stops being approved loses every grant, and reactivating it gives none of them back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from authz.client_directory import client_of
from authz.handles import digest, new_handle
from authz.initial_access_tokens import InitialAccessTokens
from authz.protocol.clients import Client, ProfileName
from authz.protocol.errors import OAuthError
from authz.registration_requests import RegistrationRequests
from authz.registry_writing import (
    Registered,
    RegistryError,
    has_secret,
    tombstone,
    with_proposal_in_force,
    without_proposal,
)
from authz.storage.registrations import Registration, RegistrationChange, RegistrationStatus

_MAX_OLD_SECONDS = 30 * 86400
_NOBODY = frozenset({RegistrationStatus.DELETED, RegistrationStatus.REJECTED})


@dataclass(frozen=True, slots=True)
class ListedClient:
    """A client as the operator sees it: one of gateway.yaml, or of the registry in any status.

    version       to be named when approving, so that what was looked at is what is approved; 0 without a registration
    client        as it may act or would after approval; None where problem says why its metadata is not acceptable
    registration  None for a client of gateway.yaml that was never suspended
    """

    client_id: str
    name: str
    status: RegistrationStatus
    version: int
    configured: bool
    client: Client | None
    registration: Registration | None
    problem: str = ""


class Registry(RegistrationRequests, InitialAccessTokens):
    """Everything that is done to clients: by themselves, and by operators, who are let in elsewhere.

    Each operation of operators raises RegistryError, with a text for them, or StoreUnavailable.
    """

    async def add(
        self,
        document: Mapping[str, object],
        *,
        who: str,
        why: str,
        approved: bool,
        profile: ProfileName = ProfileName.FAPI2,
    ) -> Registered:
        """Register an application for somebody; its scope becomes the most that its own updates may ask for.

        Raises OAuthError for metadata that are not acceptable for that profile, or for one that is off.
        """
        scope = document.get("scope")
        ceiling = tuple(scope.split()) if isinstance(scope, str) else ()
        return await self._add(
            document,
            who=who,
            why=why,
            statement=None,
            scope_ceiling=ceiling,
            spending=None,
            approved=approved,
            profile=profile,
        )

    async def list_clients(self, status: RegistrationStatus | None = None) -> Sequence[ListedClient]:
        """Every client, or those of one status, by client_id. A proposed update is in its registration."""
        _, registrations = await self._store.registrations_since(0)
        found = {registration.client_id: registration for registration in registrations}
        now = self._clock()
        listed = [
            self._listed(id, registration)
            for id, registration in found.items()
            if _is_live(registration, now)
        ]
        listed += [self._listed(id, None) for id in self._configured if id not in found]
        return sorted((c for c in listed if status in (None, c.status)), key=lambda c: c.client_id)

    async def show(self, client_id: str) -> ListedClient:
        """One client, whatever its status."""
        registration = await self._store.registration(client_id, now=self._clock())
        if registration is None and client_id not in self._configured:
            raise RegistryError(f"there is no client '{client_id}'")
        return self._listed(client_id, registration)

    async def history(self, client_id: str) -> Sequence[RegistrationChange]:
        """What happened to a client, the oldest first; it outlives the client."""
        found = await self._store.registration_history(client_id)
        if not found and client_id not in self._configured:
            raise RegistryError(f"there is no client '{client_id}'")
        return found

    async def approve(
        self, client_id: str, *, who: str, why: str, version: int | None = None
    ) -> Registration:
        """Put a registration that waits, or an update that waits, in force.

        With version only when it is still that one: what somebody looked at, and nothing that came in meanwhile.
        """
        registration = await self._existing(client_id, version)
        if registration.status is RegistrationStatus.PENDING:
            following = replace(registration, status=RegistrationStatus.APPROVED, expires_at=None)
        elif registration.status is RegistrationStatus.APPROVED and registration.proposed is not None:
            following = with_proposal_in_force(registration)
        else:
            raise _not_now(registration, "approve", "nothing waits for approval")
        try:
            client_of(following, self._settings)
        except OAuthError as error:
            raise RegistryError(f"'{client_id}' cannot be approved: {error.description}") from error
        return await self._must_write(following, "approved", who, why)

    async def reject(self, client_id: str, *, who: str, why: str, version: int | None = None) -> Registration:
        """Refuse a registration that waits, for good; or an update that waits, and the client goes on as it was."""
        registration = await self._existing(client_id, version)
        if registration.status is RegistrationStatus.PENDING:
            following = replace(
                tombstone(registration, RegistrationStatus.REJECTED, self._clock()),
                access_token=registration.access_token,  # the vendor can read what became of it
            )
        elif registration.status is RegistrationStatus.APPROVED and registration.proposed is not None:
            following = without_proposal(registration)
        else:
            raise _not_now(registration, "reject", "nothing waits for approval")
        return await self._must_write(following, "rejected", who, why)

    async def suspend(self, client_id: str, *, who: str, why: str) -> Registration:
        """Stop a client, one of gateway.yaml too: every grant ends, every token is refused."""
        registration = await self._store.registration(client_id, now=self._clock())
        if registration is None and client_id in self._configured:
            return await self._suspend_configured(client_id, who, why)
        registration = await self._existing(client_id)
        if registration.status is not RegistrationStatus.APPROVED:
            raise _not_now(registration, "suspend", "only an approved client can be suspended")
        following = replace(registration, status=RegistrationStatus.SUSPENDED)
        return await self._must_write(following, "suspended", who, why)

    async def reactivate(self, client_id: str, *, who: str, why: str) -> Registration:
        """Let a suspended client act again. It begins anew: no old token or grant comes back."""
        registration = await self._existing(client_id)
        if registration.status is not RegistrationStatus.SUSPENDED:
            raise _not_now(registration, "reactivate", "only a suspended client can be reactivated")
        # Another node may have issued something in the moment before it learnt of the suspension.
        following = replace(registration, status=RegistrationStatus.APPROVED)
        return await self._must_write(following, "reactivated", who, why, ends_grants=True)

    async def delete(self, client_id: str, *, who: str, why: str) -> Registration:
        """Delete a client of the registry for good. Its history stays, and for 30 days a tombstone."""
        registration = await self._existing(client_id)
        if registration.configured:
            raise RegistryError(
                f"'{client_id}' is a client of gateway.yaml: suspend it, or take it out of the file"
            )
        if registration.status is RegistrationStatus.DELETED:
            raise _not_now(registration, "delete", "it is deleted already")
        following = tombstone(registration, RegistrationStatus.DELETED, self._clock())
        return await self._must_write(following, "deleted", who, why)

    async def renew_registration_token(self, client_id: str, *, who: str, why: str) -> Registered:
        """A new registration access token for a client that lost its own, or whose own leaked; the old one ends."""
        registration = await self._existing(client_id)
        if registration.configured or registration.status in _NOBODY:
            raise _not_now(registration, "renew the token", "it manages no registration of its own")
        token = new_handle()
        following = replace(registration, access_token=digest(token))
        return Registered(await self._must_write(following, "token-renewed", who, why), token)

    async def renew_secret(
        self, client_id: str, *, who: str, why: str, old_for_seconds: int = 0
    ) -> Registered:
        """A new secret for a client that authenticates by one; its grants stay.

        The old one ends with this, or is good for so long beside the new one. One that was before it ends now.
        """
        if not 0 <= old_for_seconds <= _MAX_OLD_SECONDS:
            raise RegistryError(
                f"the old secret is kept {old_for_seconds} s, expected 0 to {_MAX_OLD_SECONDS}"
            )
        registration = await self._existing(client_id)
        if registration.configured or registration.status in _NOBODY or not has_secret(registration.metadata):
            raise _not_now(registration, "renew the secret", "it has no secret that the registry made")
        made = new_handle()
        following = replace(
            registration,
            secret_digest=digest(made),
            former_secret=registration.secret_digest if old_for_seconds else None,
            former_until=self._clock() + old_for_seconds if old_for_seconds else 0,
        )
        written = await self._must_write(following, "secret-renewed", who, why)
        return Registered(written, "", made)

    async def change_profile(
        self, client_id: str, *, profile: ProfileName, who: str, why: str, version: int | None = None
    ) -> Registration:
        """Hold a client to another security profile, whose rules its metadata keep already. Its grants end.

        An update that waits was asked for under the old one: it is dropped.
        """
        registration = await self._existing(client_id, version)
        if registration.configured or registration.status in _NOBODY:
            raise _not_now(registration, "change the profile", "it is no client of the registry")
        if registration.profile is profile:
            raise _not_now(registration, "change the profile", f"it is of {profile} already")
        following = replace(without_proposal(registration), profile=profile)
        try:
            client_of(following, self._settings)
        except OAuthError as error:
            raise RegistryError(f"'{client_id}' cannot be of {profile}: {error.description}") from error
        return await self._must_write(following, "profile-changed", who, why, ends_grants=True)

    async def _existing(self, client_id: str, version: int | None = None) -> Registration:
        registration = await self._store.registration(client_id, now=self._clock())
        if registration is None:
            where = (
                "of gateway.yaml, which is in force as it is" if client_id in self._configured else "unknown"
            )
            raise RegistryError(f"the client '{client_id}' is {where}")
        if version is not None and registration.version != version:
            raise RegistryError(
                f"'{client_id}' has version {registration.version} now, not {version}: look at it again"
            )
        return registration

    async def _must_write(
        self, following: Registration, what: str, who: str, why: str, *, ends_grants: bool = False
    ) -> Registration:
        written = await self._write(following, what, who=who, why=why, ends_grants=ends_grants)
        if written is None:
            raise RegistryError(f"'{following.client_id}' was changed meanwhile: look at it again")
        return written

    async def _suspend_configured(self, client_id: str, who: str, why: str) -> Registration:
        """A client of gateway.yaml gets its first row here: only its status, which overrides the file."""
        now = self._clock()
        registration = Registration(
            client_id, RegistrationStatus.SUSPENDED, 1, {}, created_at=now, changed_at=now, configured=True
        )
        change = RegistrationChange(client_id, now, who, "suspended", why, 1)
        if not await self._store.put_registration(registration, change, spending=None, now=now):
            raise RegistryError(f"'{client_id}' was changed meanwhile: look at it again")
        await self._tell(registration, change, await self._end_grants(client_id, now))
        return registration

    def _listed(self, client_id: str, registration: Registration | None) -> ListedClient:
        if registration is None or registration.configured:
            client = self._configured.get(client_id)
            status = RegistrationStatus.APPROVED if registration is None else registration.status
            problem = "" if client is not None else "gateway.yaml has no such client any more"
            return ListedClient(
                client_id=client_id,
                name=client_id if client is None else client.name,
                status=status,
                version=0 if registration is None else registration.version,
                configured=True,
                client=client,
                registration=registration,
                problem=problem,
            )
        client, problem = None, ""
        try:
            client = client_of(registration, self._settings)
        except OAuthError as error:
            problem = error.description
        return ListedClient(
            client_id=client_id,
            name=str(registration.metadata.get("client_name", client_id)),
            status=registration.status,
            version=registration.version,
            configured=False,
            client=client,
            registration=registration,
            problem=problem,
        )


def _is_live(registration: Registration, now: int) -> bool:
    return registration.expires_at is None or registration.expires_at > now


def _not_now(registration: Registration, what: str, why: str) -> RegistryError:
    return RegistryError(f"cannot {what} '{registration.client_id}', which is {registration.status}: {why}")
