"""Whose data a person may open to an app: the context of the scopes, and the records to choose from (SMART 2.2)."""

from collections.abc import Mapping

from authz.protocol.launch_context import context_of
from authz.protocol.scopes import parse_scope
from authz.settings import Account


def in_one_context(scope: tuple[str, ...], account: Account) -> tuple[str, ...]:
    """The scopes that fit the person, where both a patient's and a user's were asked for.

    A token speaks in one context, or the gateway refuses it: patients as the patient, staff as the user.
    """
    contexts = {found.context for text in scope if (found := parse_scope(text)) is not None}
    if len(contexts) < 2:
        return scope
    if is_patients_own(account):
        return tuple(text for text in scope if not text.startswith("user/"))
    of_a_patient = {"launch/patient", "launch/encounter"}
    return tuple(text for text in scope if not text.startswith("patient/") and text not in of_a_patient)


def is_online(scope: tuple[str, ...]) -> bool:
    """Whether the app stays connected only while the person is signed in (SMART App Launch 2.2, online_access)."""
    return "online_access" in scope and "offline_access" not in scope


def needs_patient(scope: tuple[str, ...]) -> bool:
    """Whether a record must be chosen before these scopes mean anything."""
    return "launch/patient" in scope or any(text.startswith("patient/") for text in scope)


def picks_encounter(scope: tuple[str, ...], parameters: Mapping[str, str]) -> bool:
    """Whether the person chooses a visit: an app asks for one, and no record system told it with a launch."""
    return "launch/encounter" in scope and context_of(parameters) is None


def asked_as(scope: tuple[str, ...], account: Account, *, picked: bool) -> str:
    """The context that a person asks in for the visits of a chosen patient: 'patient' for records of the account.

    A record that was picked is one that the person sees as a user.
    """
    of_patients = is_patients_own(account) or any(text.startswith("patient/") for text in scope)
    return "patient" if of_patients and not picked else "user"


def is_patients_own(account: Account) -> bool:
    """Whether the account is one of a patient, or of somebody who acts for patients: records of it alone are opened."""
    acts = bool(account.represents) or account.related_person is not None
    return account.patient is not None or acts


def may_be_opened_by(patient: str, account: Account, now: int) -> bool:
    """Whether a record system may open this record for the person: staff see what it shows them, patients their own."""
    return not is_patients_own(account) or patient in {id for id, _ in records(account, now)}


def records(account: Account, now: int) -> tuple[tuple[str, str], ...]:
    """The records the person may open to an app, as id and label; the own one first, then those of people they act for."""
    own = () if account.patient is None else ((account.patient, account.name),)
    represented = ((e.patient, e.label) for e in account.represents if e.allows("consent", now))
    return (*own, *account.patients, *represented)
