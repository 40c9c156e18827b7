"""securus client …: what the registry knows, and what an operator decides about clients."""

import argparse
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from authz import descriptions
from authz.registry import ListedClient, Registry
from authz.storage.opening import is_there
from authz.storage.registrations import Registration, RegistrationChange, RegistrationStatus
from gateway.commands import grants, registrations
from gateway.commands.answers import OK, add_change, add_group, add_verb, say, who
from gateway.commands.opened import settings_of, with_registry
from gateway.commands.verbs import VERBS
from gateway.settings import GatewaySettings

_DECISIONS = {
    "approve": "put a registration or an update that waits in force",
    "reject": "refuse a registration or an update that waits",
    "suspend": "stop a client, one of gateway.yaml too: its grants and tokens end",
    "reactivate": "let a suspended client act again",
    "delete": "delete a client of the registry for good; its history stays",
}
_VERSIONED = frozenset({"approve", "reject"})


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    client = add_group(verbs, "client", VERBS["client"].help)
    verb = add_verb(client, "list", "list the clients of gateway.yaml and of the registry", _list)
    verb.add_argument("--status", choices=list(map(str, RegistrationStatus)), help="only those of one status")
    for name, help_, run in (
        ("show", "show one client with its metadata and what waits for approval", _show),
        ("history", "show who did what to a client, when and why", _history),
    ):
        add_verb(client, name, help_, run).add_argument("client_id", metavar="CLIENT_ID")
    for name, help_ in _DECISIONS.items():
        verb = add_change(client, name, help_, _decide)
        verb.add_argument("client_id", metavar="CLIENT_ID")
        verb.set_defaults(decision=name)
        if name in _VERSIONED:
            said = "only if this is still the version that 'show' told"
            verb.add_argument("--version", type=int, metavar="N", help=said)
    registrations.add(client)
    grants.add_for_client(client)


def _list(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    status = None if options.status is None else RegistrationStatus(options.status)

    async def work(registry: Registry) -> Sequence[ListedClient]:
        return await registry.list_clients(status)

    # Before its first start a gateway has no store, and no registry in it.
    has_store = is_there(settings.storage)
    found = with_registry(settings, work) if has_store else _configured(settings, status)
    rows = [descriptions.of_client(client) for client in found]
    lines = [
        f"{r['client_id']}\t{r['status']}\t{r.get('authentication', '?')}\t{r.get('binding', '?')}\t{r['name']}"
        + (f"\t({r['waiting']} waits)" if r["waiting"] else "")
        for r in rows
    ]
    say(options, rows, lines or ["no client"])
    return OK


def _configured(settings: GatewaySettings, status: RegistrationStatus | None) -> list[ListedClient]:
    if status not in (None, RegistrationStatus.APPROVED):
        return []
    return [
        ListedClient(c.client_id, c.name, RegistrationStatus.APPROVED, 0, True, c, None)
        for c in settings.clients
    ]


def _show(options: argparse.Namespace) -> int:
    async def work(registry: Registry) -> ListedClient:
        return await registry.show(options.client_id)

    value = descriptions.of_client_in_full(with_registry(settings_of(options), work))
    say(options, value, [f"{name}: {_text(member)}" for name, member in value.items() if member is not None])
    return OK


def _history(options: argparse.Namespace) -> int:
    async def work(registry: Registry) -> Sequence[RegistrationChange]:
        return await registry.history(options.client_id)

    changes = with_registry(settings_of(options), work)
    lines = [f"{_moment(c.at)}\t{c.what}\t{c.who}\t{c.why}" for c in changes]
    say(
        options,
        [descriptions.of_change(change) for change in changes],
        lines or ["nothing was done to this client"],
    )
    return OK


def _decide(options: argparse.Namespace) -> int:
    async def work(registry: Registry) -> ListedClient:
        more = {"version": options.version} if options.decision in _VERSIONED else {}
        change: Callable[..., Awaitable[Registration]] = getattr(registry, options.decision)
        await change(options.client_id, who=who(options), why=options.why, **more)
        return await registry.show(options.client_id)

    value = descriptions.of_client(with_registry(settings_of(options), work))
    say(options, value, [f"{value['client_id']}: {value['status']}"])
    return OK


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
