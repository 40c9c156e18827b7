"""--since and --until of verbs that read records: which of them are asked for."""

import argparse
from collections.abc import Callable


def add_times(verb: argparse.ArgumentParser) -> None:
    """Add the options."""
    verb.add_argument("--since", default="", metavar="TIME", help="such as 2026-11-01 or 2026-11-01T08:00Z")
    verb.add_argument("--until", default="", metavar="TIME", help="not included")


def asked_times(options: argparse.Namespace) -> Callable[[str], bool]:
    """Whether a record of this time is asked for; without the options each one is. Raises QuestionError.

    As moments, and not as texts: '08:00Z' stands behind '08:00:30Z' in the order of texts.
    """
    # Of the audit log, which those who only declare do not read.
    from gateway.audit.index.entries import milliseconds
    from gateway.officer.asking import moment

    since = moment(options.since, "since") if options.since else None
    until = moment(options.until, "until") if options.until else None

    def is_asked(at: str) -> bool:
        if since is None and until is None:
            return True
        try:
            found = milliseconds(at)
        except ValueError:
            return False
        return (since is None or found >= since) and (until is None or found < until)

    return is_asked
