"""securus client …"""

import argparse

from gateway.commands.answers import OK, add_group, add_verb, say, settings_of


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    client = add_group(verbs, "client", "clients")
    add_verb(client, "list", "list the clients", _list)


def _list(options: argparse.Namespace) -> int:
    rows = [
        {
            "client_id": c.client_id,
            "name": c.name,
            "profile": str(c.profile),
            "authentication": str(c.authentication_method),
            "binding": str(c.binding),
            "grants": sorted(map(str, c.grant_types)),
            "scope": " ".join(c.scope),
        }
        for c in settings_of(options).clients
    ]
    lines = [
        f"{r['client_id']}\t{r['profile']}\t{r['authentication']}\t{r['binding']}\t{r['name']}" for r in rows
    ]
    say(options, rows, lines)
    return OK
