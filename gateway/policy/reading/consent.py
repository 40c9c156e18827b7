"""The condition `consent` of where, of unless and of the whole hospital: scope, decision, for, if_unavailable."""

import re

from gateway.consents.consent import SCOPES, ActorName, ConsentCondition, Said
from gateway.policy.reading.definitions import Definitions
from gateway.policy.reading.labels import read_inherit
from gateway.policy.reading.reader import Reader
from gateway.yaml_source import Mapping, Node, Sequence, did_you_mean

CONSENT_KEYS = ("scope", "decision", "for", "inherit_labels", "if_unavailable")
_PLACEHOLDER = re.compile(r"\{token\.([A-Za-z_][A-Za-z0-9_]*)\}")
_CLIENT = "{client}"
_CODE = re.compile(r"[^\s|]+")


def read_consent(
    reader: Reader, where: Mapping, definitions: Definitions, more: tuple[str, ...] = ()
) -> ConsentCondition | None:
    """What is asked of the consents of the patient whom a resource is about; None for nothing. more: further keys."""
    body = reader.mapping(where.node("consent"), "consent")
    if body is None:
        return None
    reader.keys(body, "consent", (*CONSENT_KEYS, *more))
    for key in ("scope", "decision"):
        if key not in body:
            reader.problem(
                body, f"consent must say its '{key}': {{scope: patient-privacy, decision: permit}}"
            )
    word = reader.word(body.node("decision"), "decision of a consent", (Said.PERMIT, Said.DENY))
    unavailable = body.node("if_unavailable")
    if unavailable is not None:
        reader.word(unavailable, "answer without the consents", ("deny",))
    decision = Said(word) if word else Said.PERMIT
    return ConsentCondition(
        _scope(reader, body.node("scope")),
        decision,
        _actors(reader, body.node("for"), definitions),
        read_inherit(reader, body),
    )


def _scope(reader: Reader, node: Node | None) -> tuple[str, str]:
    text = reader.text(node, "scope")
    system, bar, code = text.rpartition("|")
    if node is not None and text and (not _CODE.fullmatch(code) or (bar and not system)):
        reader.problem(node, f"'{text}' is no scope: a code such as patient-privacy, or system|code")
    return (system or SCOPES, code)


def _actors(reader: Reader, node: Node | None, definitions: Definitions) -> tuple[ActorName, ...]:
    """For whom the consent must be: a text or a claim, or several, all of them names of the caller."""
    if node is None:
        return ()
    items = node.items if isinstance(node, Sequence) else (node,)
    if not items:
        reader.problem(node, "'for' is empty: leave it out to ask for everybody")
    return tuple(_actor(reader, item, definitions) for item in items)


def _actor(reader: Reader, node: Node, definitions: Definitions) -> ActorName:
    text = reader.text(node, "for")
    match = _PLACEHOLDER.fullmatch(text)
    if match is None:
        if text == _CLIENT:
            return ActorName(is_client=True)
        if "{" in text:
            reader.problem(
                node, f"'{text}' is not a whole claim: write it as {{token.org}}, and nothing beside"
            )
        return ActorName(text)
    claim = definitions.claims.get(match[1])
    if claim is None:
        reader.problem(node, f"no claim named '{match[1]}'.{did_you_mean(match[1], definitions.claims)}")
    elif claim.type == "codes":
        reader.problem(node, f"claim '{match[1]}' has several values: a consent is for one")
    return ActorName(claim=match[1])
