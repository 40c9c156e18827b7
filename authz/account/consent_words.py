"""A consent in a person's words: what is permitted or denied, for whom, for what, how long; and who wrote it down."""

from dataclasses import dataclass
from datetime import UTC, date, datetime

from authz.account.accesses import Names
from authz.account.own_records import Actor, ActorKind, OwnConsent, What, Wish
from authz.login.language import Language
from authz.login.plain_words import type_words


@dataclass(frozen=True, slots=True)
class ConsentInWords:
    """A version of a consent as its patient reads it."""

    id: str
    version: int
    words: str
    is_active: bool
    status: str
    when: str
    by: str
    amends: bool  # whether the pages can say it, and so amend it


def wish_words(wish: Wish, language: Language) -> str:
    """One sentence or two, such as a person may keep as a receipt."""
    whom = language.plain("consent.everybody") if wish.actor is None else actor_words(wish.actor, language)
    match wish.what:
        case What.EVERYTHING:
            what = language.plain("consent.everything")
        case What.NORMAL:
            what = language.plain("consent.normal")
        case What.CLASSES:
            what = language.listed([type_words(each, language) for each in wish.classes])
    purposes = [language.of("purpose", each) for each in wish.purposes]
    said = language.plain(
        "consent.permits" if wish.permits else "consent.denies",
        whom=whom,
        what=what,
        purpose=language.listed(purposes) if purposes else language.plain("consent.every_purpose"),
    )
    if wish.until is None:
        return f"{said} {language.plain('consent.no_end')}"
    return f"{said} {language.plain('consent.until_day', day=language.day(wish.until))}"


def actor_words(actor: Actor, language: Language) -> str:
    """Who somebody is, with what kind of actor it is."""
    kinds = {
        ActorKind.APP: "consent.the_app",
        ActorKind.ORGANIZATION: "consent.the_organization",
        ActorKind.PRACTITIONER: "consent.the_practitioner",
    }
    return language.plain(kinds[actor.kind], name=actor.name)


def consent_words(consent: OwnConsent, language: Language) -> str:
    """What a consent says. One that says more than these words can is told as such."""
    return language.plain("consent.other") if consent.wish is None else wish_words(consent.wish, language)


def in_words(consent: OwnConsent, language: Language, now: int, names: Names) -> ConsentInWords:
    """A version of a consent for the patient."""
    wish = consent.wish
    has_ended = wish is not None and wish.until is not None and _is_over(wish.until, now)
    status = "expired" if has_ended and consent.status == "active" else consent.status
    by = consent.by or names.recorder(consent.recorded_by)
    if consent.relationship:
        by = f"{by} ({language.of('relationship', consent.relationship)})"
    return ConsentInWords(
        id=consent.id,
        version=consent.version,
        words=consent_words(consent, language),
        is_active=status == "active",
        status=language.of("status", status),
        when=language.when(consent.recorded_at),
        by=by,
        amends=wish is not None and consent.grant_id is None,
    )


def _is_over(day: date, now: int) -> bool:
    return day < datetime.fromtimestamp(now, UTC).date()
