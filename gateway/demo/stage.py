"""Where the demonstration tells its steps, and the apps that play them."""

import os
import ssl
import sys
import textwrap
from typing import Any

import aiohttp

from gateway.demo.client import Key, Reply, Session


class Stage:
    """Where the steps are told. Colours only on a terminal."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._number = 0
        self.failed = 0

    def title(self, text: str) -> None:
        """A heading."""
        print(f"\n{self._paint('1', text)}\n{'─' * len(text)}", flush=True)

    def say(self, text: str) -> None:
        """A paragraph."""
        print(textwrap.fill(text, 100), flush=True)

    def step(self, what: str, why: str, request: str, answer: str, *, right: bool) -> None:
        """One step: what happened, why it matters, the request, the answer."""
        self._number += 1
        self.failed += not right
        mark = self._paint("32", "✓") if right else self._paint("31", "✗ not as expected:")
        print(f"\n{self._number:2}. {self._paint('1', what)}")
        print(textwrap.fill(why, 96, initial_indent="    ", subsequent_indent="    "))
        print(f"    {self._paint('36', '→ ' + request)}")
        print(f"    {mark} {answer}", flush=True)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text


def session_of(facts: dict[str, Any], name: str) -> Session:
    """The app of that name in demo.json, with its keys. It is to be entered, or closed."""
    app = next(client for client in facts["clients"] if client["name"] == name)
    context = ssl.create_default_context(cafile=facts["ca_certificate"])
    if app["certificate"] is not None:
        context.load_cert_chain(app["certificate"], app["certificate_key"])
    http = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context), cookie_jar=aiohttp.DummyCookieJar()
    )
    keys = (app["jwks"] or {"keys": []})["keys"]
    return Session(
        http=http,
        issuer=facts["issuer"],
        client_id=app["client_id"],
        assertion_key=Key.of_jwk(keys[0]) if keys else None,
        proof_key=Key.new() if keys else None,
    )


def shown(reply: Reply) -> str:
    """Status and reason of an answer, as a person reads them."""
    value = reply.json
    if isinstance(value, dict) and value.get("resourceType") == "OperationOutcome":
        issue = value["issue"][0]
        return f"HTTP {reply.status}, {issue['details']['coding'][0]['code']}: {issue['details']['text']}"
    if isinstance(value, dict) and "error" in value:
        return f"HTTP {reply.status}, {value['error']}: {value.get('error_description', '')}"
    return f"HTTP {reply.status}"
