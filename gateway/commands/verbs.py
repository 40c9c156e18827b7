"""The verbs and groups of `securus`: what each is about, and the file of this folder that has it.

Only the file of the verb that is asked for is imported. So `securus policy test` does not pay for the server, and the
server not for the other verbs. What a verb needs in one of its cases alone is imported in that case.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb or group: module is a file of this folder, help its line in `securus --help`."""

    module: str
    help: str


VERBS: Mapping[str, Verb] = {
    "serve": Verb("serve", "run the gateway"),
    "check": Verb("check", "check configuration and policies, and run the policies' tests"),
    "demo": Verb("demo", "start everything with synthetic patients and run one full flow"),
    "report": Verb(
        "report",
        "hold the configuration against FAPI 2.0, OAuth 2.1 and RFC 9700; exit 1 when something fails",
    ),
    "policy": Verb("policies", "test, explain, compare, replay and export policies"),
    "audit": Verb("audit_log", "the audit log: verify, search, export"),
    "user": Verb("users", "local accounts"),
    "client": Verb("clients", "clients and their registration"),
    "key": Verb("keys", "the server's signing keys"),
    "upstream": Verb("upstreams", "the stores behind the gateway"),
    "break-glass": Verb("break_glass", "emergency access"),
    "consent": Verb("consents", "the consents that the gateway keeps"),
    "db": Verb("db", "the store: its schema, its rows, its way to another server"),
}
