"""securus report"""

import argparse

from authz.clock import system_clock
from gateway.commands.answers import OK, REFUSED, add_verb, say, settings_of
from gateway.report.evidence import gather
from gateway.report.report import make


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    said = "hold the configuration against FAPI 2.0, OAuth 2.1 and RFC 9700; exit 1 when something fails"
    add_verb(verbs, "report", said, _report)


def _report(options: argparse.Namespace) -> int:
    report = make(gather(settings_of(options), now=system_clock()))
    say(options, report.as_json(), list(report.lines()))
    return REFUSED if report.failures else OK
