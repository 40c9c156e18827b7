"""securus client register and the verbs about tokens, secrets and profiles: how clients come into the registry."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from authz import descriptions
from authz.initial_access_tokens import MadeToken
from authz.protocol.clients import ProfileName
from authz.protocol.encoding import strict_json
from authz.registry import ListedClient, Registry
from authz.registry_writing import Registered
from authz.storage.registrations import InitialAccessToken
from gateway.commands.answers import OK, add_change, add_verb, failed, say, seconds_of, who
from gateway.commands.opened import settings_of, with_registry


def add(client: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs to securus client."""
    verb = add_change(
        client, "register", "register a client from a file of client metadata (RFC 7591 2)", _register
    )
    verb.add_argument("file", type=Path, metavar="FILE", help="JSON")
    verb.add_argument("--approved", action="store_true", help="in force at once, without 'client approve'")
    _add_profile(verb, "--profile", default=ProfileName.FAPI2)
    said = "make an initial access token, with which an application registers itself"
    verb = add_change(client, "token", said, _token)
    verb.add_argument("--uses", type=int, default=1, metavar="N", help="so many registrations (1)")
    verb.add_argument("--expires", type=seconds_of, default=seconds_of("1d"), metavar="DURATION", help="1d")
    verb.add_argument("--scope", help="the most that may be registered; system scopes only if they are here")
    add_verb(client, "tokens", "list the initial access tokens that can be used", _tokens)
    verb = add_change(client, "withdraw-token", "end an initial access token", _withdraw)
    verb.add_argument("id", metavar="ID", help="as 'client tokens' shows it")
    said = "make a new registration access token for a client that lost its own; the old one ends"
    verb = add_change(client, "renew-token", said, _renew)
    verb.add_argument("client_id", metavar="CLIENT_ID")
    said = "make a new secret for a client that authenticates by one; the old one ends"
    verb = add_change(client, "new-secret", said, _new_secret)
    said = "let the old one be good beside the new one for so long, such as 1d; at most 30d"
    verb.add_argument("--old-for", type=seconds_of, default=0, metavar="DURATION", help=said)
    verb.add_argument("client_id", metavar="CLIENT_ID")
    said = "hold a client to another security profile; its grants end"
    verb = add_change(client, "set-profile", said, _set_profile)
    verb.add_argument("client_id", metavar="CLIENT_ID")
    _add_profile(verb, "profile")
    said = "only if this is still the version that 'show' told"
    verb.add_argument("--version", type=int, metavar="N", help=said)


def _add_profile(verb: argparse.ArgumentParser, name: str, default: str | None = None) -> None:
    said = "the security profile that the client is held to" + (f" ({default})" if default else "")
    verb.add_argument(name, choices=list(map(str, ProfileName)), default=default, help=said)


def _register(options: argparse.Namespace) -> int:
    try:
        document = strict_json(options.file.read_bytes())
    except ValueError as error:
        return failed(options, f"{options.file} is not JSON with one reading: {error}")
    if not isinstance(document, dict):
        return failed(options, f"{options.file} does not hold a JSON object")

    async def work(registry: Registry) -> Registered:
        return await registry.add(
            document,
            who=who(options),
            why=options.why,
            approved=options.approved,
            profile=ProfileName(options.profile),
        )

    made = with_registry(settings_of(options), work)
    client_id, status = made.registration.client_id, str(made.registration.status)
    value = {"client_id": client_id, "status": status, "registration_access_token": made.access_token}
    lines = [
        f"registered {client_id}: {status}",
        f"registration access token (shown this once): {made.access_token}",
    ]
    if made.client_secret is not None:
        value["client_secret"] = made.client_secret
        lines.append(f"client secret (shown this once): {made.client_secret}")
    say(options, value, lines)
    return OK


def _token(options: argparse.Namespace) -> int:
    async def work(registry: Registry) -> MadeToken:
        return await registry.new_initial_access_token(
            who=who(options),
            why=options.why,
            uses=options.uses,
            lifetime_seconds=options.expires,
            scope=options.scope,
        )

    made = with_registry(settings_of(options), work)
    value = {"initial_access_token": made.token, **descriptions.of_token(made.record)}
    say(options, value, [f"initial access token (shown this once): {made.token}", f"id: {value['id']}"])
    return OK


def _tokens(options: argparse.Namespace) -> int:
    async def work(registry: Registry) -> Sequence[InitialAccessToken]:
        return await registry.initial_access_tokens()

    rows = [descriptions.of_token(record) for record in with_registry(settings_of(options), work)]
    lines = [f"{r['id']}\t{r['uses_left']} left\t{r['who']}\t{r['why']}" for r in rows]
    say(options, rows, lines or ["no initial access token"])
    return OK


def _withdraw(options: argparse.Namespace) -> int:
    async def work(registry: Registry) -> None:
        id = descriptions.token_id(options.id)
        await registry.withdraw_initial_access_token(id, who=who(options), why=options.why)

    with_registry(settings_of(options), work)
    say(options, {"withdrawn": options.id}, [f"withdrawn {options.id}"])
    return OK


def _renew(options: argparse.Namespace) -> int:
    async def work(registry: Registry) -> Registered:
        return await registry.renew_registration_token(options.client_id, who=who(options), why=options.why)

    token = with_registry(settings_of(options), work).access_token
    value = {"client_id": options.client_id, "registration_access_token": token}
    say(options, value, [f"registration access token (shown this once): {token}"])
    return OK


def _new_secret(options: argparse.Namespace) -> int:
    async def work(registry: Registry) -> Registered:
        return await registry.renew_secret(
            options.client_id, who=who(options), why=options.why, old_for_seconds=options.old_for
        )

    secret = with_registry(settings_of(options), work).client_secret
    value = {"client_id": options.client_id, "client_secret": secret}
    say(options, value, [f"client secret (shown this once): {secret}"])
    return OK


def _set_profile(options: argparse.Namespace) -> int:
    async def work(registry: Registry) -> ListedClient:
        await registry.change_profile(
            options.client_id,
            profile=ProfileName(options.profile),
            who=who(options),
            why=options.why,
            version=options.version,
        )
        return await registry.show(options.client_id)

    value = descriptions.of_client(with_registry(settings_of(options), work))
    say(options, value, [f"{value['client_id']}: {value['profile']}, {value['status']}"])
    return OK
