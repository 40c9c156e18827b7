"""The condition `consent` of where, of unless and of the whole hospital: scope, decision, for, if_unavailable."""

import re

from gateway.policy.consent import SCOPES, ConsentCondition, Said
from gateway.policy.reading.definitions import Definitions
from gateway.policy.reading.reader import Reader
from gateway.yaml_source import Mapping, Node, did_you_mean

CONSENT_KEYS = ("scope", "decision", "for", "if_unavailable")
_PLACEHOLDER = re.compile(r"\{token\.([A-Za-z_][A-Za-z0-9_]*)\}")
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
    actor, claim = _actor(reader, body.node("for"), definitions)
    decision = Said(word) if word else Said.PERMIT
    return ConsentCondition(_scope(reader, body.node("scope")), decision, actor, claim)


def _scope(reader: Reader, node: Node | None) -> tuple[str, str]:
    text = reader.text(node, "scope")
    system, bar, code = text.rpartition("|")
    if node is not None and text and (not _CODE.fullmatch(code) or (bar and not system)):
        reader.problem(node, f"'{text}' is no scope: a code such as patient-privacy, or system|code")
    return (system or SCOPES, code)


def _actor(reader: Reader, node: Node | None, definitions: Definitions) -> tuple[str | None, str | None]:
    """For whom the consent must be: a text, or a claim."""
    text = reader.text(node, "for")
    if node is None or not text:
        return None, None
    match = _PLACEHOLDER.fullmatch(text)
    if match is None:
        if "{" in text:
            reader.problem(
                node, f"'{text}' is not a whole claim: write it as {{token.org}}, and nothing beside"
            )
        return text, None
    claim = definitions.claims.get(match[1])
    if claim is None:
        reader.problem(node, f"no claim named '{match[1]}'.{did_you_mean(match[1], definitions.claims)}")
    elif claim.type == "codes":
        reader.problem(node, f"claim '{match[1]}' has several values: a consent is for one")
    return None, match[1]
