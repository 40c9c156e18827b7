"""securus report"""

import argparse
from collections.abc import Sequence

from authz.clock import system_clock
from authz.protocol.clients import Client
from authz.registry import ListedClient, Registry
from authz.storage.opening import is_there
from authz.storage.registrations import RegistrationStatus
from gateway.commands.answers import OK, REFUSED, add_verb, say
from gateway.commands.opened import settings_of, with_registry
from gateway.commands.verbs import VERBS
from gateway.report.evidence import gather
from gateway.report.report import make
from gateway.settings import GatewaySettings


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    add_verb(verbs, "report", VERBS["report"].help, _report)


def _report(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    report = make(gather(settings, now=system_clock(), registered=_registered(settings)))
    say(options, report.as_json(), list(report.lines()))
    return REFUSED if report.failures else OK


def _registered(settings: GatewaySettings) -> list[Client]:
    """The clients of the registry that may act. No store is made for a server that has never run."""
    if not is_there(settings.storage):
        return []

    async def work(registry: Registry) -> Sequence[ListedClient]:
        return await registry.list_clients(RegistrationStatus.APPROVED)

    listed = with_registry(settings, work)
    return [each.client for each in listed if each.client is not None and not each.configured]
