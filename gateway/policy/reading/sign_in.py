"""What a rule asks of the person's sign-in, in the words of the language: acr in `who`, signed_in_within in `when`."""

import re

from authz.protocol.openid import SIGN_INS
from gateway.policy.reading.definitions import Definitions, acr_value, named
from gateway.policy.reading.reader import Reader
from gateway.policy.rules import Effect, SignIn
from gateway.yaml_source import Mapping, Node, did_you_mean

_AT_LEAST = "at-least-"
_LEVELS = ("loa1", "loa2", "loa3", "loa4")  # ISO/IEC 29115: their order need not be said
_DURATION = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SHORTEST = 60  # a person signs in, reads the consent page and comes back: less could never be met
_LONGEST = 400 * 86400


def read_sign_in(reader: Reader, body: Mapping, effect: Effect, definitions: Definitions) -> SignIn:
    """The sign-in that a permit or a require asks for."""
    who, when = body.node("who"), body.node("when")
    acr: tuple[str, ...] = ()
    node = who.node("acr") if isinstance(who, Mapping) else None
    if isinstance(node, Mapping) and effect is Effect.REQUIRE:
        reader.problem(node, "a require says which acr must be reached: list the values, without 'not'")
    elif node is not None and not isinstance(node, Mapping) and effect is not Effect.DENY:
        quiet = Reader()  # whoever reads `who` notes what is wrong
        found = [
            value for item in named(quiet, node, "acr") for value in acr_values(quiet, item, definitions)
        ]
        acr = tuple(dict.fromkeys(found))
    within = None
    node = when.node("signed_in_within") if isinstance(when, Mapping) else None
    if node is not None:
        within = duration(reader, node, "signed_in_within")
        if effect is Effect.DENY:
            reader.problem(
                node, "'signed_in_within' is for a permit or a require: a deny would close what is new"
            )
        elif within is not None and not _SHORTEST <= within <= _LONGEST:
            reader.problem(node, "signed_in_within must be 1m to 400d: less could never be met")
    asked = SignIn(acr, within)
    if not asked.is_empty and isinstance(who, Mapping) and _is_for_systems_only(who.node("context")):
        reader.problem(who, "a client by itself never signs in: the rule would always refuse it")
    return asked


def _is_for_systems_only(context: Node | None) -> bool:
    quiet = Reader()
    return [quiet.text(item, "context") for item in quiet.items(context, "context")] == ["system"]


def acr_values(reader: Reader, node: Node, definitions: Definitions) -> tuple[str, ...]:
    """The values that an item of acr stands for: itself, or with at-least- itself and every stronger one."""
    text = acr_value(reader, node)
    lowest = text.removeprefix(_AT_LEAST)
    if not lowest:
        return ()
    order = definitions.acr or (_LEVELS if lowest in _LEVELS else ())
    if lowest != text and not order:
        reader.problem(
            node, f"'{text}' needs an order: give 'acr: [weakest, …, strongest]' in the definitions"
        )
        return ()
    if definitions.acr and lowest not in definitions.acr:
        reader.problem(node, f"acr has no value '{lowest}'.{did_you_mean(lowest, definitions.acr)}")
        return ()
    found = (text,) if lowest == text else order[order.index(lowest) :]
    if not set(found) & set(SIGN_INS):
        said = f"nobody can sign in here so that acr is {' or '.join(found)}"
        reader.problem(node, f"{said}; reachable: {', '.join(SIGN_INS)}", warning=True)
    return found


def duration(reader: Reader, node: Node, what: str) -> int | None:
    """A duration with its unit, in seconds."""
    found = seconds_of(reader.text(node, what))
    if found is None:
        reader.problem(node, f"{what} must be a duration with its unit, such as 10m, 8h or 1d")
    return found


def seconds_of(text: str) -> int | None:
    """The seconds of a duration with its unit; None for another text."""
    match = _DURATION.fullmatch(text)
    return None if match is None else int(match[1]) * _SECONDS[match[2]]
