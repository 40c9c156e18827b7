"""Tests in a file that send a Bundle: `request: POST /` with a batch or transaction as its body.

Entries are played one by one, each as a test of its own would be. References between entries are not resolved here:
a test says what an entry is about by literal ids.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from gateway.fhir import request
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.outcome import REASONS, FhirError, Reason
from gateway.policy.decision import Deny, Permit
from gateway.policy.rules import PolicyTest

_KINDS = {"batch": Interaction.BATCH, "transaction": Interaction.TRANSACTION}
Opening = Callable[[FhirRequest, Interaction, int], Permit | Deny]
"""Whether a request may come in a Bundle of this kind and so many entries."""


class UnplayableBundle(Exception):
    """A test of a Bundle that is not written right."""


class Played(Protocol):
    """What playing one entry gives, and what playing all of them changes."""

    decision: str
    status: int
    reason: Reason | None
    rules: tuple[str, ...]
    upstream: list[str]
    shown: list[str]
    hidden: list[str]


def play_bundle(
    test: PolicyTest, outcome: Played, opening: Opening, play: Callable[[PolicyTest], Played]
) -> None:
    """Play every entry of the test's Bundle into outcome, which is that of a permit of nothing.

    A transaction is refused by its first refused entry; a batch when all of them are. Raises UnplayableBundle, and
    what play raises.
    """
    kind, entries = _entries(test)
    refused: list[tuple[Reason | None, int]] = []
    for each in entries:
        reason, status, found = _one(each, kind, len(entries), opening, play)
        outcome.rules = tuple(dict.fromkeys((*outcome.rules, *(found[0] if found else ()))))
        if reason is None and found is not None and found[1] is not None:
            outcome.upstream.extend(found[1].upstream)
            outcome.shown.extend(found[1].shown)
            outcome.hidden.extend(found[1].hidden)
            continue
        refused.append((reason, status))
    if refused and (kind is Interaction.TRANSACTION or len(refused) == len(entries)):
        outcome.decision, (outcome.reason, status) = "deny", refused[0]
        outcome.status = 403 if kind is Interaction.TRANSACTION and status == 404 else status
        outcome.upstream.clear()
        outcome.shown.clear()


def _one(
    test: PolicyTest, kind: Interaction, count: int, opening: Opening, play: Callable[[PolicyTest], Played]
) -> tuple[Reason | None, int, tuple[tuple[str, ...], Played | None] | None]:
    """Why an entry is refused with its status, or None and what it gives; the rules that had a part either way."""
    method, _, target = str(test.body["request"]).partition(" ")
    path, _, query = target.partition("?")
    try:
        opened = opening(request.parse(method, path, query), kind, count)
    except FhirError as error:
        return error.reason, error.status, None
    if isinstance(opened, Deny):
        status = 404 if opened.conceal else REASONS[opened.reason][0]
        return opened.reason, status, (opened.rules, None)
    found = play(test)
    rules = (*opened.rules, *found.rules)
    if found.decision != "permit":
        return found.reason or Reason.POLICY_DENIED, found.status, (rules, None)
    return None, found.status, (rules, found)


def _entries(test: PolicyTest) -> tuple[Interaction, list[PolicyTest]]:
    body = test.body.get("body")
    kind = _KINDS.get(str(body.get("type"))) if isinstance(body, Mapping) else None
    listed = body.get("entry", []) if isinstance(body, Mapping) else None
    if kind is None or not isinstance(listed, list) or not listed:
        raise UnplayableBundle(
            "'body' must be a Bundle: {type: batch or transaction, entry: [{request: {method: GET, url: Patient/A}}]}"
        )
    found = []
    for each in listed:
        asked = each.get("request") if isinstance(each, Mapping) else None
        if not isinstance(asked, Mapping) or not {"method", "url"} <= asked.keys():
            raise UnplayableBundle(
                "an entry must have 'request' with 'method' and 'url', and 'resource' for a write"
            )
        said = {**test.body, "request": f"{asked['method']} /{asked['url']}", "body": each.get("resource")}
        found.append(replace(test, body={key: value for key, value in said.items() if value is not None}))
    return kind, found
