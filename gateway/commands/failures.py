"""What a verb may fail with, and what it prints then. Imported when one fails: it names errors of every room."""

import argparse

from authz.keys import KeyRingError
from authz.protocol.errors import OAuthError
from authz.registry_writing import RegistryError
from authz.storage.store import StoreUnavailable
from gateway.audit.log import AuditUnavailable
from gateway.commands.answers import failed, problems
from gateway.config.document import ConfigErrors
from gateway.policies_folder import PoliciesRefused


def answered(options: argparse.Namespace, error: Exception) -> int:
    """Print why the verb could not do its work; the exit code. Raises the error where nobody foresaw it."""
    match error:
        case ConfigErrors():
            return problems(options, error.problems)
        case PoliciesRefused():
            return problems(options, list(error.problems))
        case OAuthError():  # metadata that the registry refuses
            return failed(options, error.description)
        case UnicodeDecodeError():
            return failed(options, "a policy file is not UTF-8")
        case RegistryError() | StoreUnavailable() | AuditUnavailable() | KeyRingError() | OSError():
            return failed(options, str(error))
        case _:
            raise error
