"""What happened, as frozen values. Audit, metrics and log are made from these; rules and doors only emit them.

No event holds a token, code, cookie, query string, body or the name of a person.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenIssued:
    """An access token was issued."""

    grant_type: str
    client_id: str
    subject: str
    grant_id: str | None
    token_id: str
    binding: str
    peer: str = ""


@dataclass(frozen=True, slots=True)
class ProofChecked:
    """A DPoP proof was looked at. outcome is 'accepted', 'nonce', 'replayed' or 'refused'.

    claim_seconds is how long the replay store took to answer; None where it was not asked. skew_seconds is the iat of
    the proof less our own time, where a ClockCompared does not tell it.
    """

    outcome: str
    client_id: str | None
    reason: str = ""
    claim_seconds: float | None = None
    skew_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class ClockCompared:
    """A client said in a signed token what time it is. kind is 'dpop', 'assertion' or 'request_object'.

    seconds is its iat, or nbf where a request object has no iat, less our own time: below 0 for a token from the past.
    What was refused for its dates counts too, before its signature is looked at.
    """

    kind: str
    seconds: int


@dataclass(frozen=True, slots=True)
class SignIn:
    """A person tried to sign in. outcome is 'accepted', 'refused' or 'limited'."""

    outcome: str
    subject: str | None
    client_id: str | None
    peer: str


@dataclass(frozen=True, slots=True)
class SignedOut:
    """A browser was signed out. client_id is the app that asked for it; None where none did."""

    subject: str
    client_id: str | None
    peer: str


@dataclass(frozen=True, slots=True)
class ConsentGiven:
    """A person answered the consent page. outcome is 'allowed' or 'denied'.

    patient is whose record it was about, '' for none; relationship is what the person is to them, as a code of
    v3-RoleCode, '' for whoever acts for themselves.
    """

    outcome: str
    subject: str
    client_id: str
    scope: tuple[str, ...]
    grant_id: str | None
    patient: str = ""
    relationship: str = ""


@dataclass(frozen=True, slots=True)
class ConsentChanged:
    """A person gave, amended or withdrew a consent at the pages: outcome is 'given', 'amended' or 'withdrawn'.

    subject is who did it, patient whose consent it is, at this FHIR base; relationship is what the one is to the
    other, as a code of v3-RoleCode, '' for the patient in person.
    """

    outcome: str
    subject: str
    base: str
    patient: str
    consent: str
    version: int
    relationship: str = ""


@dataclass(frozen=True, slots=True)
class OwnRecordShown:
    """A person saw, or took along, what is kept of a patient at the pages. what is 'apps', 'consents' or 'accesses',
    or 'download' of these.

    relationship is as in ConsentChanged: a patient is told who looked in their stead.
    """

    what: str
    subject: str
    base: str
    patient: str
    relationship: str = ""


@dataclass(frozen=True, slots=True)
class ContextLaunched:
    """A record system launched an app for a person. by is the client_id of the record system."""

    by: str
    client_id: str
    subject: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A request to the authorization server was refused with an OAuth error."""

    endpoint: str
    code: str
    client_id: str | None
    detail: str
    peer: str = ""


@dataclass(frozen=True, slots=True)
class PageRefused:
    """A page refused the person at the browser. cause names the text that was shown, which is one of ours.

    It is counted and not recorded: anybody can have a page refuse them as often as they like.
    """

    endpoint: str
    cause: str


@dataclass(frozen=True, slots=True)
class GrantRevoked:
    """A grant ended before its time.

    reason is 'code-replayed', 'refresh-token-replayed', 'revoked', 'client', 'person', 'administrator',
    'consent' or 'token-revoked'.

    For 'token-revoked' only one access token of the grant ended. who and why are those of an administrator.
    """

    grant_id: str
    client_id: str
    reason: str
    who: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class KeyChanged:
    """A server key changed state: 'announced', 'active', 'retired' or 'removed'."""

    kid: str
    state: str


@dataclass(frozen=True, slots=True)
class KeySetFetched:
    """A client's key set was fetched, or could not be. url is without its query.

    outcome is 'fetched', 'not-keys', or one of authz.fetched.FetchError; detail says why it failed.
    """

    url: str
    outcome: str
    changed: bool  # it holds other keys than before
    detail: str


@dataclass(frozen=True, slots=True)
class ClientChanged:
    """A registered client, or the permission to register one, changed.

    what is one of RegistrationChange's words, 'token-made' or 'token-withdrawn'; who is the account that the caller of
    the registry named, or 'client', 'initial access token …', 'software statement …'. client_id is None for the
    tokens. status is the one that the client has now.
    """

    client_id: str | None
    what: str
    who: str
    why: str
    status: str | None = None
    grants_ended: int = 0


@dataclass(frozen=True, slots=True)
class ConfigurationInForce:
    """Configuration and policies came into force, or could not. mode is 'start' or 'reload'.

    outcome is 'changed', 'same' or 'refused'; then the old policies stay in force. Policies are named by the digest of
    their text, 'none' where none were in force; configuration is that of gateway.yaml as it was read.
    """

    mode: str
    outcome: str
    old_policies: str
    new_policies: str
    configuration: str


Event = (
    TokenIssued
    | ProofChecked
    | ClockCompared
    | SignIn
    | SignedOut
    | ConsentGiven
    | ConsentChanged
    | OwnRecordShown
    | ContextLaunched
    | Refused
    | PageRefused
    | GrantRevoked
    | KeyChanged
    | KeySetFetched
    | ClientChanged
    | ConfigurationInForce
)
Emit = Callable[[Event], None]
