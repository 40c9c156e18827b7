"""The exception of a rule that closes, `unless`: words of `who` and of `where` side by side, and any_of."""

from gateway.fhir.interaction import Interaction
from gateway.policy.reading.definitions import Definitions, named
from gateway.policy.reading.reader import Reader
from gateway.policy.reading.where import WHERE_KEYS, WHERE_LATER, conditions_of
from gateway.policy.reading.who import dimensions, who_words
from gateway.policy.rules import Effect, SignIn, Unless
from gateway.yaml_source import Mapping


def read_unless(
    reader: Reader,
    body: Mapping,
    effect: Effect,
    resources: frozenset[str] | None,
    may: frozenset[Interaction],
    definitions: Definitions,
    sign_in: SignIn,
) -> Unless | None:
    """The exception of a deny or require; None for none."""
    node = body.node("unless")
    said = reader.mapping(node, "unless")
    if node is None or said is None:
        return None
    if effect is Effect.PERMIT:
        reader.problem(
            node, "'unless' is for a deny or a require: a permit says all that it needs in 'where'"
        )
    found = _exception(reader, said, resources, may, definitions)
    if found.looks_at_resource and not sign_in.is_empty:
        reader.problem(node, "a sign-in is asked for before a resource is seen: 'unless' can say who only")
    return found


def _exception(
    reader: Reader,
    said: Mapping,
    resources: frozenset[str] | None,
    may: frozenset[Interaction],
    definitions: Definitions,
) -> Unless:
    reader.keys(said, "unless", (*who_words(definitions), *WHERE_KEYS), WHERE_LATER)
    words = who_words(definitions)
    about_caller = [entry for entry in said if entry.key in words]
    # An exception opens: its conditions are read as those of a permit. acr says who it is for, it sends nobody.
    who = dimensions(reader, about_caller, definitions, Effect.DENY)
    node = said.node("any_of")
    ways = []
    for item in named(reader, node, "any_of") if node is not None else ():
        body = reader.mapping(item, "a condition of any_of")
        if body is not None:
            ways.append(_exception(reader, body, resources, may, definitions))
    where = conditions_of(reader, said, resources, may, definitions, Effect.PERMIT, ways=False)
    if not who and where.is_empty and not ways:
        reader.problem(said, "an exception that says nothing would always hold")
    return Unless(who, where, tuple(ways))
