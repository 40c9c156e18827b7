"""The clients, their histories and initial access tokens over HTTP: doors below /admin (docs/administration.md)."""

from collections.abc import Awaitable, Callable

from authz import descriptions
from authz.endpoints.administration import Command, Handler, Routes, missing, named_why, refusal
from authz.http import json_answer
from authz.protocol.clients import ProfileName
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.request import Answer
from authz.registry import Registry
from authz.registry_writing import RegistryError
from authz.storage.registrations import Registration, RegistrationStatus

_DAY_SECONDS = 86400


class ClientAdministration:
    """What an administrator sees of clients and does about them."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def routes(self) -> Routes:
        """/admin/clients… and /admin/initial-access-tokens…"""
        registry = self._registry
        return {
            ("clients",): {"GET": self.list_clients, "POST": self.register},
            ("clients", "*"): {"GET": self.show, "DELETE": self.delete},
            ("clients", "*", "history"): {"GET": self.history},
            ("clients", "*", "approve"): {"POST": self._versioned(registry.approve)},
            ("clients", "*", "reject"): {"POST": self._versioned(registry.reject)},
            ("clients", "*", "suspend"): {"POST": self._change(registry.suspend)},
            ("clients", "*", "reactivate"): {"POST": self._change(registry.reactivate)},
            ("clients", "*", "registration-access-token"): {"POST": self.renew_token},
            ("clients", "*", "secret"): {"POST": self.renew_secret},
            ("clients", "*", "profile"): {"POST": self.change_profile},
            ("initial-access-tokens",): {"GET": self.list_tokens, "POST": self.make_token},
            ("initial-access-tokens", "*"): {"DELETE": self.withdraw_token},
        }

    async def list_clients(self, command: Command) -> Answer:
        """200 with every client, or those of ?status=."""
        text = command.query("status").get("status")
        try:
            status = None if text is None else RegistrationStatus(text)
        except ValueError as error:
            known = ", ".join(RegistrationStatus)
            raise OAuthError(ErrorCode.INVALID_REQUEST, f"status must be one of {known}") from error
        clients = await self._registry.list_clients(status)
        return json_answer(200, {"clients": [descriptions.of_client(client) for client in clients]})

    async def show(self, command: Command) -> Answer:
        """200 with one client in full."""
        try:
            listed = await self._registry.show(command.segments[1])
        except RegistryError as error:
            return missing(error)
        return json_answer(200, descriptions.of_client_in_full(listed))

    async def history(self, command: Command) -> Answer:
        """200 with what happened to a client, the oldest first."""
        try:
            changes = await self._registry.history(command.segments[1])
        except RegistryError as error:
            return missing(error)
        return json_answer(200, {"history": [descriptions.of_change(change) for change in changes]})

    async def register(self, command: Command) -> Answer:
        """201 with a client that the administrator registers, and the token to manage the registration with."""
        body = await command.body({"metadata": dict, "why": str, "approved": bool, "profile": str})
        document = body.get("metadata")
        if not isinstance(document, dict):
            raise OAuthError(
                ErrorCode.INVALID_REQUEST, "metadata is required: the client metadata of RFC 7591 2"
            )
        made = await self._registry.add(
            document,
            who=command.who,
            why=named_why(body),
            approved=body.get("approved") is True,
            profile=_profile(body.get("profile", "fapi2")),
        )
        value = await self._described(made.registration)
        told = {} if made.client_secret is None else {"client_secret": made.client_secret}
        return json_answer(201, {**value, "registration_access_token": made.access_token, **told})

    async def delete(self, command: Command) -> Answer:
        """200 with the client as it was deleted."""
        why = named_why(command.query("why"))
        try:
            await self._registry.show(command.segments[1])
        except RegistryError as error:
            return missing(error)
        return await self._done(self._registry.delete(command.segments[1], who=command.who, why=why))

    async def renew_token(self, command: Command) -> Answer:
        """200 with a new registration access token; the old one has ended."""
        why = named_why(await command.body({"why": str}))
        try:
            renewed = await self._registry.renew_registration_token(
                command.segments[1], who=command.who, why=why
            )
        except RegistryError as error:
            return refusal(409, "conflict", str(error))
        return json_answer(
            200,
            {
                "client_id": renewed.registration.client_id,
                "registration_access_token": renewed.access_token,
            },
        )

    async def renew_secret(self, command: Command) -> Answer:
        """200 with a new secret, which is told this once; the old one has ended, or ends after old_for_seconds."""
        body = await command.body({"why": str, "old_for_seconds": int})
        old = body.get("old_for_seconds", 0)
        try:
            renewed = await self._registry.renew_secret(
                command.segments[1],
                who=command.who,
                why=named_why(body),
                old_for_seconds=old if isinstance(old, int) else 0,
            )
        except RegistryError as error:
            return refusal(409, "conflict", str(error))
        return json_answer(
            200, {"client_id": renewed.registration.client_id, "client_secret": renewed.client_secret}
        )

    async def change_profile(self, command: Command) -> Answer:
        """200 with the client, held to another profile: POST {why, version, profile}."""
        body = await command.body({"why": str, "version": int, "profile": str})
        if "version" not in body or "profile" not in body:
            raise OAuthError(ErrorCode.INVALID_REQUEST, "version and profile are required")
        return await self._applied(
            command,
            self._registry.change_profile,
            why=named_why(body),
            version=body["version"],
            profile=_profile(body["profile"]),
        )

    async def list_tokens(self, command: Command) -> Answer:
        """200 with the initial access tokens that can be used, none of them readable."""
        command.query()
        tokens = await self._registry.initial_access_tokens()
        return json_answer(
            200, {"initial_access_tokens": [descriptions.of_token(record) for record in tokens]}
        )

    async def make_token(self, command: Command) -> Answer:
        """201 with a new initial access token, which is told this once."""
        body = await command.body({"why": str, "uses": int, "lifetime_seconds": int, "scope": str})
        uses, lifetime, scope = (
            body.get("uses", 1),
            body.get("lifetime_seconds", _DAY_SECONDS),
            body.get("scope"),
        )
        if not isinstance(uses, int) or not isinstance(lifetime, int):
            raise OAuthError(ErrorCode.INVALID_REQUEST, "uses and lifetime_seconds must be whole numbers")
        try:
            made = await self._registry.new_initial_access_token(
                who=command.who,
                why=named_why(body),
                uses=uses,
                lifetime_seconds=lifetime,
                scope=scope if isinstance(scope, str) else None,
            )
        except RegistryError as error:
            return refusal(400, "invalid_request", str(error))
        return json_answer(201, {"initial_access_token": made.token, **descriptions.of_token(made.record)})

    async def withdraw_token(self, command: Command) -> Answer:
        """204: nobody registers with that token any more."""
        why = named_why(command.query("why"))
        try:
            id = descriptions.token_id(command.segments[1])
            await self._registry.withdraw_initial_access_token(id, who=command.who, why=why)
        except RegistryError as error:
            return missing(error)
        return Answer(204, (("Cache-Control", "no-store"),))

    def _change(self, change: Callable[..., Awaitable[Registration]]) -> Handler:
        """A door that changes a client's status: POST {why}."""

        async def door(command: Command) -> Answer:
            why = named_why(await command.body({"why": str}))
            return await self._applied(command, change, why=why)

        return door

    def _versioned(self, change: Callable[..., Awaitable[Registration]]) -> Handler:
        """A door that decides upon a version that the administrator has seen: POST {why, version}."""

        async def door(command: Command) -> Answer:
            body = await command.body({"why": str, "version": int})
            if "version" not in body:
                raise OAuthError(
                    ErrorCode.INVALID_REQUEST, "version is required: that of the client as you have seen it"
                )
            return await self._applied(command, change, why=named_why(body), version=body["version"])

        return door

    async def _applied(
        self, command: Command, change: Callable[..., Awaitable[Registration]], **arguments: object
    ) -> Answer:
        client_id = command.segments[1]
        try:
            await self._registry.show(client_id)
        except RegistryError as error:
            return missing(error)
        return await self._done(change(client_id, who=command.who, **arguments))

    async def _done(self, change: Awaitable[Registration]) -> Answer:
        """200 with the client as it is now; 409 where its status or version does not allow the change."""
        try:
            registration = await change
        except RegistryError as error:
            return refusal(409, "conflict", str(error))
        return json_answer(200, await self._described(registration))

    async def _described(self, registration: Registration) -> dict[str, object]:
        return descriptions.of_client(await self._registry.show(registration.client_id))


def _profile(text: object) -> ProfileName:
    try:
        return ProfileName(str(text))
    except ValueError as error:
        known = ", ".join(ProfileName)
        raise OAuthError(ErrorCode.INVALID_REQUEST, f"profile must be one of {known}") from error
