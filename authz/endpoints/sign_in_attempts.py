"""An attempt to sign in by a form with user name and password, at whichever page: what came of it and what the page says."""

from collections.abc import Mapping
from dataclasses import dataclass

from authz.events import Emit, SignIn
from authz.login.accounts import Accounts, SignInOutcome
from authz.login.language import Language
from authz.protocol.request import HttpRequest
from authz.settings import Account

_WINDOW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of it. Without an account the form is shown again: with this status, problem, and headers."""

    username: str
    account: Account | None
    status: int = 200
    problem: str = ""
    headers: tuple[tuple[str, str], ...] = ()


async def attempt_of(
    form: Mapping[str, str],
    request: HttpRequest,
    *,
    accounts: Accounts,
    client_id: str | None,
    emit: Emit,
    now: int,
    language: Language,
) -> Attempt:
    """Try what the form says, and tell of it. client_id is the app that the person is on the way to."""
    username = form.get("username", "").strip()
    result = await accounts.sign_in(username, form.get("password", ""), peer=request.peer, now=now)
    subject = None if result.account is None else result.account.subject
    emit(SignIn(str(result.outcome), subject, client_id, request.peer))
    if result.outcome is SignInOutcome.LIMITED:
        wait = language.plain("sign_in.limited")
        return Attempt(username, None, 429, wait, (("Retry-After", str(_WINDOW_SECONDS)),))
    if result.account is None:
        return Attempt(username, None, 403, language.plain("sign_in.refused"))
    return Attempt(username, result.account)
