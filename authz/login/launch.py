"""Whose data a person may open to an app: the context of the scopes, and the records to choose from (SMART 2.2)."""

from authz.protocol.scopes import parse_scope
from authz.settings import Account


def in_one_context(scope: tuple[str, ...], account: Account) -> tuple[str, ...]:
    """The scopes that fit the person, where both a patient's and a user's were asked for.

    A token speaks in one context, or the gateway refuses it: patients as the patient, staff as the user.
    """
    contexts = {found.context for text in scope if (found := parse_scope(text)) is not None}
    if len(contexts) < 2:
        return scope
    if account.patient is not None:
        return tuple(text for text in scope if not text.startswith("user/"))
    return tuple(text for text in scope if not text.startswith("patient/") and text != "launch/patient")


def is_online(scope: tuple[str, ...]) -> bool:
    """Whether the app stays connected only while the person is signed in (SMART App Launch 2.2, online_access)."""
    return "online_access" in scope and "offline_access" not in scope


def needs_patient(scope: tuple[str, ...]) -> bool:
    """Whether a record must be chosen before these scopes mean anything."""
    return "launch/patient" in scope or any(text.startswith("patient/") for text in scope)


def may_be_opened_by(patient: str, account: Account) -> bool:
    """Whether a record system may open this record for the person: staff see what it shows them, patients their own."""
    return account.patient is None or patient in {id for id, _ in records(account)}


def records(account: Account) -> tuple[tuple[str, str], ...]:
    """The records the person may choose from, as id and label; the own one first."""
    own = () if account.patient is None else ((account.patient, account.name),)
    return (*own, *account.patients)
