"""`break_glass` of a rule, with every mistake at its place: emergency access is for people, for reading, for one chart."""

from gateway.fhir.definitions import patient_compartment
from gateway.fhir.interaction import Interaction
from gateway.policy.obligations import READING, BreakGlass
from gateway.policy.reading.reader import Reader
from gateway.policy.reading.sign_in import duration
from gateway.policy.rules import Effect
from gateway.yaml_source import Mapping, Node, Scalar

_KEYS = ("one_patient", "lasts", "reason")
_LASTS = (60, 24 * 3600)
_REASON = (10, 500)  # attack case 302: shorter says nothing, longer is no sentence


def read_break_glass(
    reader: Reader,
    body: Mapping,
    effect: Effect,
    may: frozenset[Interaction],
    resources: frozenset[str] | None,
) -> BreakGlass | None:
    """The emergency access of a permit; None without."""
    node = body.node("break_glass")
    said = reader.mapping(node, "break_glass")
    if node is None or said is None:
        return None
    reader.keys(said, "break_glass", _KEYS)
    if effect is not Effect.PERMIT:
        reader.problem(node, "'break_glass' is for a permit: it opens what is closed otherwise")
        return None
    if not may <= READING:
        closed = ", ".join(sorted(may - READING))
        reader.problem(node, f"emergency access is for reading: take {closed} out of may")
    outside = [] if resources is None else sorted(t for t in resources if not _in_a_chart(t))
    if resources is None or outside:
        named = "any" if resources is None else ", ".join(outside)
        reader.problem(
            node, f"emergency access opens the chart of one patient, to which {named} does not belong"
        )
    who = body.node("who")
    who = who if isinstance(who, Mapping) else None
    for key, why in (("purpose", "the token must say the emergency"), ("role", "not everybody may")):
        if who is None or key not in who:
            reader.problem(node, f"emergency access needs '{key}' in who: {why}")
    if who is not None and _words(who.node("context")) != ["user"]:
        reader.problem(node, "emergency access is for people: say 'context: user' in who")
    one = said.node("one_patient")
    if not reader.flag(one, "one_patient"):
        reader.problem(one or node, "emergency access is for one patient: say 'one_patient: true'")
    lasts = said.node("lasts")
    seconds = None if lasts is None else duration(reader, lasts, "lasts")
    if lasts is None:
        reader.problem(node, "say how long emergency access lasts: 'lasts: 60m'")
    elif seconds is not None and not _LASTS[0] <= seconds <= _LASTS[1]:
        reader.problem(lasts, "lasts must be 1m to 1d")
    least, most = _reason(reader, said)
    return BreakGlass(seconds or _LASTS[0], least, most)


def _in_a_chart(type_: str) -> bool:
    return type_ in ("", "Patient") or bool(patient_compartment(type_))


def _words(node: Node | None) -> list[str]:
    quiet = Reader()  # whoever reads `who` notes what is wrong
    return [quiet.text(item, "context") for item in quiet.items(node, "context")]


def _reason(reader: Reader, said: Mapping) -> tuple[int, int]:
    reason = reader.mapping(said.node("reason"), "reason")
    if reason is None:
        return _REASON
    reader.keys(reason, "reason", ("at_least", "at_most"))
    least = _number(reader, reason, "at_least", _REASON[0])
    most = _number(reader, reason, "at_most", _REASON[1])
    if least > most:
        reader.problem(reason, f"a reason of at least {least} and at most {most} characters cannot be given")
    return least, most


def _number(reader: Reader, reason: Mapping, key: str, default: int) -> int:
    node = reason.node(key)
    if node is None:
        return default
    value = node.value if isinstance(node, Scalar) else None
    low, high = _REASON
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    reader.problem(node, f"{key} must be a whole number from {low} to {high}")
    return default
