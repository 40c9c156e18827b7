"""The form of a consent: what a person filled in, and the wish that it is, or what is missing for each field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from authz.account.own_records import Actor, ActorKind, What, Wish
from authz.login.language import Language

CLASSES = (
    "Patient", "Condition", "Observation", "DiagnosticReport", "MedicationRequest", "MedicationStatement",
    "AllergyIntolerance", "Immunization", "Procedure", "Encounter", "DocumentReference", "CarePlan",
)  # fmt: skip
PURPOSES = ("TREAT", "ETREAT", "HPAYMT", "HOPERAT", "HRESCH", "PUBHLTH", "PATRQT")
EVERYBODY = "everybody"
_LATEST = date(9998, 12, 31)


@dataclass(frozen=True, slots=True)
class Filled:
    """The fields as they stand in the form. ids are those of the chosen actors by their kind."""

    decision: str
    whom: str
    ids: Mapping[str, str]
    what: str
    classes: tuple[str, ...]
    purposes: tuple[str, ...]
    until: str

    @classmethod
    def sent(cls, form: Mapping[str, str], ticked: Mapping[str, tuple[str, ...]]) -> "Filled":
        """What came with a form."""
        return cls(
            decision=form.get("decision", ""),
            whom=form.get("whom", ""),
            ids={str(kind): form.get(str(kind), "") for kind in ActorKind},
            what=form.get("what", ""),
            classes=ticked.get("class", ()),
            purposes=ticked.get("purpose", ()),
            until=form.get("until", "").strip(),
        )


def blank() -> Filled:
    """A new form: nothing is decided for the person."""
    return Filled("", "", {}, "", (), (), "")


def filled(wish: Wish) -> Filled:
    """The form of a wish."""
    return Filled(
        decision="permit" if wish.permits else "deny",
        whom=EVERYBODY if wish.actor is None else str(wish.actor.kind),
        ids={} if wish.actor is None else {str(wish.actor.kind): wish.actor.id},
        what=str(wish.what),
        classes=wish.classes,
        purposes=wish.purposes,
        until="" if wish.until is None else wish.until.isoformat(),
    )


def read_wish(
    sent: Filled, choices: Mapping[ActorKind, Sequence[Actor]], now: int, language: Language
) -> tuple[Wish | None, Mapping[str, str]]:
    """The wish; without one, what is wrong by the field."""
    problems: dict[str, str] = {}
    if sent.decision not in ("permit", "deny"):
        problems["decision"] = language.plain("consent_form.say_decision")
    actor = None
    if sent.whom != EVERYBODY:
        kind = next((kind for kind in ActorKind if kind == sent.whom), None)
        if kind is None:
            problems["whom"] = language.plain("consent_form.say_whom")
        else:
            wanted = sent.ids.get(sent.whom, "")
            actor = next((each for each in choices.get(kind, ()) if each.id == wanted), None)
            if actor is None:
                problems["whom"] = language.plain("consent_form.say_who")
    what = next((what for what in What if what == sent.what), None)
    classes = tuple(dict.fromkeys(sent.classes)) if what is What.CLASSES else ()
    if what is None:
        problems["what"] = language.plain("consent_form.say_what")
    elif what is What.NORMAL and sent.decision == "deny":
        # Its exceptions would permit what is sensitive, and that alone.
        problems["what"] = language.plain("consent_form.say_not_normal")
    elif what is What.CLASSES and (not classes or not set(classes) <= set(CLASSES)):
        problems["what"] = language.plain("consent_form.say_classes")
    purposes = tuple(dict.fromkeys(sent.purposes))
    if not set(purposes) <= set(PURPOSES):
        problems["purpose"] = language.plain("consent_form.say_purpose")
    until = None
    if sent.until:
        try:
            until = date.fromisoformat(sent.until)
        except ValueError:
            problems["until"] = language.plain("accesses.no_day")
        else:
            if not datetime.fromtimestamp(now, UTC).date() <= until <= _LATEST:
                problems["until"] = language.plain("consent_form.past")
    if problems or what is None:
        return None, problems
    return Wish(sent.decision == "permit", actor, what, classes, purposes, until), {}
