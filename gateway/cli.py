"""The command line: securus serve | check | demo | report, and groups of verbs: policy …, client …, break-glass …

Exit code 0 on success, 1 on a refused request or an error in a file, 2 on wrong usage. --json gives one JSON value.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence

from authz.keys import KeyRingError
from authz.protocol.errors import OAuthError
from authz.registry import RegistryError
from authz.storage.store import StoreUnavailable
from gateway.audit.log import AuditUnavailable
from gateway.commands import (
    audit_log,
    break_glass,
    clients,
    consents,
    db,
    keys,
    policies,
    process,
    report,
    upstreams,
    users,
)
from gateway.commands.answers import OK, failed, problems
from gateway.config.document import ConfigErrors
from gateway.listener import ParserMissing
from gateway.policies_folder import PoliciesRefused

_ADD = (
    process.add,
    report.add,
    policies.add,
    audit_log.add,
    users.add,
    clients.add,
    keys.add,
    upstreams.add,
    break_glass.add,
    consents.add,
    db.add,
)
_IDS: Mapping[tuple[str, ...], re.Pattern[str]] = {
    ("key", "retire"): re.compile(r"-[A-Za-z0-9_-]{11}\.[0-9]+"),
    ("break-glass", "review"): re.compile(r"-[A-Za-z0-9_-]{15}"),
}
"""Verbs that name something by an id in base64url → one that begins with '-', which argparse takes for an option."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(_with_id_apart(sys.argv[1:] if arguments is None else arguments))
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except ConfigErrors as error:
        return problems(options, error.problems)
    except PoliciesRefused as error:
        return problems(options, list(error.problems))
    except OAuthError as error:  # metadata that the registry refuses
        return failed(options, error.description)
    except (RegistryError, StoreUnavailable, AuditUnavailable, KeyRingError, ParserMissing, OSError) as error:
        return failed(options, str(error))
    except UnicodeDecodeError:
        return failed(options, "a policy file is not UTF-8")
    except KeyboardInterrupt:
        return OK


def _with_id_apart(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments with an id that begins with '-' behind '--', where it is no option."""
    like = _IDS.get(tuple(arguments[:2]))
    ids = [text for text in arguments if like is not None and like.fullmatch(text)]
    if not ids or "--" in arguments:
        return arguments
    return [*(text for text in arguments if text not in ids), "--", *ids]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="securus", description="The gateway in front of a hospital's FHIR store."
    )
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    for add in _ADD:
        add(verbs)
    return parser
