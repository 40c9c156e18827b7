"""Whom a rule is about, `who`: context, client, binding, issuer, scope and declared claims."""

from collections.abc import Iterable

from gateway.policy.reading.definitions import CALLER_WORDS, Definitions, named
from gateway.policy.reading.reader import Reader
from gateway.policy.reading.sign_in import acr_values
from gateway.policy.rules import Dimension, Effect
from gateway.yaml_source import Entry, Mapping, Node, did_you_mean

_WHO_CLAIMS = {"org": "org", "role": "roles", "user": "user", "purpose": "purpose", "acr": "acr"}
_CONTEXTS = ("patient", "user", "system")


def read_who(
    reader: Reader, body: Mapping, definitions: Definitions, effect: Effect
) -> tuple[Dimension, ...]:
    """The callers that a rule is about."""
    who = reader.mapping(body.node("who"), "who")
    return () if who is None else dimensions(reader, who, definitions, effect)


def who_words(definitions: Definitions) -> list[str]:
    """Every word that may stand in `who`."""
    return [*CALLER_WORDS, *_WHO_CLAIMS, *definitions.claims]


def dimensions(
    reader: Reader, entries: Iterable[Entry], definitions: Definitions, effect: Effect
) -> tuple[Dimension, ...]:
    """What these entries say of the caller."""
    known = who_words(definitions)
    found = []
    spoken: dict[str, Entry] = {}
    for entry in entries:
        if entry.key not in known:
            reader.problem(entry, f"who has no key '{entry.key}'.{did_you_mean(entry.key, known)}")
            continue
        name = _WHO_CLAIMS.get(entry.key, entry.key)
        if name not in CALLER_WORDS and name not in definitions.claims:
            reader.problem(
                entry, f"no claim named '{name}' is defined: add it under claims in the definitions file"
            )
            continue
        if name in spoken:
            reader.problem(entry, f"'{entry.key}' is the same as '{spoken[name].key}': give one of them")
            continue
        spoken[name] = entry
        node, negated = entry.value, False
        if isinstance(node, Mapping):
            reader.keys(node, entry.key, ("not",))
            node, negated = node.node("not") or node, True
        values: set[str] = set()
        for item in named(reader, node, entry.key):
            text = reader.text(item, entry.key)
            if text.startswith("$"):
                values |= _client_set(reader, item, text, definitions)
            elif entry.key == "context" and text not in _CONTEXTS:
                reader.problem(item, f"unknown context '{text}'.{did_you_mean(text, _CONTEXTS)}")
            elif entry.key == "bound" and text not in ("dpop", "mtls"):
                reader.problem(item, f"unknown binding '{text}'.{did_you_mean(text, ('dpop', 'mtls'))}")
            elif entry.key == "acr":
                values.update(acr_values(reader, item, definitions))
            elif text:
                values.add(text)
        if entry.key == "acr" and effect is not Effect.DENY and not negated:
            continue  # not whom the rule is about, but what it asks of the sign-in
        found.append(Dimension(name, frozenset(values), negated))
    return tuple(found)


def _client_set(reader: Reader, node: Node, text: str, definitions: Definitions) -> frozenset[str]:
    clients = definitions.clients.get(text[1:])
    if clients is None:
        reader.problem(
            node, f"no set of clients named '{text}'.{did_you_mean(text[1:], definitions.clients)}"
        )
        return frozenset()
    return clients
