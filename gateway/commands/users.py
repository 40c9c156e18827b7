"""securus user …"""

import argparse
import getpass
import sys

from authz.login.accounts import hash_password
from gateway.commands import grants
from gateway.commands.answers import OK, add_group, add_verb, failed, say
from gateway.commands.opened import settings_of
from gateway.commands.verbs import VERBS


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    user = add_group(verbs, "user", VERBS["user"].help)
    said = "make the argon2id hash of a password from the terminal or standard input"
    add_verb(user, "hash", said, _hash, configured=False)
    add_verb(user, "list", "list the accounts", _list)
    grants.add_for_user(user)


def _hash(options: argparse.Namespace) -> int:
    password = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if len(password) < 8:
        return failed(options, "a password has at least 8 characters")
    hashed = hash_password(password)
    say(options, {"hash": hashed}, [hashed])
    return OK


def _list(options: argparse.Namespace) -> int:
    rows = [
        {
            "username": a.username,
            "subject": a.subject,
            "name": a.name,
            "patient": a.patient,
            "claims": a.claims,
        }
        for a in settings_of(options).accounts
    ]
    say(options, rows, [f"{row['username']}\t{row['subject']}\t{row['name']}" for row in rows])
    return OK
