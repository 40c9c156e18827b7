"""What a rule says of Bundles: batch and transaction in `may`, and the key `transaction`."""

from gateway.fhir.interaction import Interaction
from gateway.policy.reading.definitions import named
from gateway.policy.reading.reader import Reader
from gateway.policy.rules import ENVELOPES, Effect
from gateway.policy.write_rules import WRITING
from gateway.yaml_source import Mapping, Scalar

_MOST = 5000


def read_transaction(
    reader: Reader, body: Mapping, effect: Effect, may: frozenset[Interaction]
) -> tuple[int | None, frozenset[Interaction]]:
    """How many entries a transaction of this rule may have, None for as many as the mount takes; and its `may` with it."""
    _check_words(reader, body, effect)
    node = body.node("transaction")
    inner = reader.mapping(node, "transaction")
    if node is None or inner is None:
        return None, may
    reader.keys(inner, "transaction", ("at_most",))
    if effect is not Effect.PERMIT:
        reader.problem(node, "'transaction' is for a permit: a deny names transaction in 'may'")
    elif not may & (WRITING | ENVELOPES):
        reader.problem(node, "'transaction' is about writes: 'may' names none")
    at_most = inner.node("at_most")
    text = at_most.text if isinstance(at_most, Scalar) else ""
    if not text.isdecimal() or not text.isascii() or len(text) > 4 or not 1 <= int(text) <= _MOST:
        reader.problem(at_most or inner, f"transaction must say of how many entries: 'at_most: 1' to {_MOST}")
        return None, may
    return int(text), may | {Interaction.TRANSACTION}


def _check_words(reader: Reader, body: Mapping, effect: Effect) -> None:
    """A rule that closes Bundles by name cannot look at a resource: a Bundle as such has none."""
    node = body.node("may")
    quiet = Reader()  # whoever reads `may` notes what is no word
    words = (
        [(item, quiet.text(item, "may")) for item in named(quiet, node, "may")] if node is not None else []
    )
    for item, text in words:
        if text not in ("batch", "transaction") or effect is Effect.PERMIT:
            continue
        for key in ("where", "unless", "fields", "changes"):
            if key in body:
                reader.problem(
                    item,
                    f"a {effect} that names {text} cannot have '{key}': let another rule name the interactions of entries",
                )
