"""securus user grants | revoke-grants, securus client grants | revoke-grants: what was granted, seen and ended."""

import argparse
from collections.abc import Sequence

from authz import descriptions
from authz.clock import system_clock
from authz.events import Emit
from authz.grant_endings import end_grants
from authz.protocol.tokens import Grant
from authz.storage.store import Store
from gateway.commands.answers import OK, add_change, add_verb, say, who
from gateway.commands.opened import settings_of, with_audit, with_store
from gateway.settings import GatewaySettings


def add_for_user(user: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs to securus user: of a person, by username or subject."""
    verb = add_verb(user, "grants", "list what a person granted", _list_of_user)
    verb.add_argument(
        "user", metavar="USERNAME", help="or the subject of an account, or of one that was removed"
    )
    said = "end what a person granted, with every token, at the gateway within a second"
    verb = add_change(user, "revoke-grants", said, _revoke_of_user)
    verb.add_argument(
        "user", metavar="USERNAME", help="or the subject of an account, or of one that was removed"
    )
    verb.add_argument("--client", metavar="CLIENT_ID", help="only the grants of this client")


def add_for_client(client: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs to securus client."""
    verb = add_verb(client, "grants", "list what was granted to a client", _list_of_client)
    verb.add_argument("client_id", metavar="CLIENT_ID")
    said = "end what was granted to a client, with every token, at the gateway within a second"
    verb = add_change(client, "revoke-grants", said, _revoke_of_client)
    verb.add_argument("client_id", metavar="CLIENT_ID")


def _list_of_user(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    return _list(options, settings, subject=_subject(settings, options.user), client_id=None)


def _revoke_of_user(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    return _revoke(options, settings, subject=_subject(settings, options.user), client_id=options.client)


def _list_of_client(options: argparse.Namespace) -> int:
    return _list(options, settings_of(options), subject=None, client_id=options.client_id)


def _revoke_of_client(options: argparse.Namespace) -> int:
    return _revoke(options, settings_of(options), subject=None, client_id=options.client_id)


def _list(
    options: argparse.Namespace, settings: GatewaySettings, *, subject: str | None, client_id: str | None
) -> int:
    async def work(store: Store) -> Sequence[Grant]:
        return await store.grants(subject=subject, client_id=client_id, now=system_clock())

    _say(options, with_store(settings, work), "no grant")
    return OK


def _revoke(
    options: argparse.Namespace, settings: GatewaySettings, *, subject: str | None, client_id: str | None
) -> int:
    async def work(store: Store, emit: Emit) -> Sequence[Grant]:
        return await end_grants(
            store,
            subject=subject,
            client_id=client_id,
            now=system_clock(),
            access_token_seconds=settings.authorization.lifetimes.access_token,
            who=who(options),
            why=options.why,
            emit=emit,
        )

    _say(options, with_audit(settings, work), "no grant was live")
    return OK


def _say(options: argparse.Namespace, grants: Sequence[Grant], none: str) -> None:
    lines = [f"{g.grant_id}\t{g.client_id}\t{g.subject}\t{' '.join(g.scope)}" for g in grants]
    say(options, [descriptions.of_grant(grant) for grant in grants], lines or [none])


def _subject(settings: GatewaySettings, user: str) -> str:
    """The subject of an account; a text that is no username is a subject: of an account that was removed, too."""
    return next((account.subject for account in settings.accounts if account.username == user), user)
