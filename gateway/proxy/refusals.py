"""What a refusal looks like: an OperationOutcome with its reason, and where a token is wanted the challenge for it.

RFC 6750 3, RFC 9449 7.1, RFC 9728 5.1.
"""

import logging

from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.request import Answer, RequestError
from authz.resource_server import ResourceServer
from authz.storage.store import StoreUnavailable
from gateway.admission import Limited
from gateway.audit.log import AuditUnavailable
from gateway.fhir.outcome import FhirError, Reason, operation_outcome
from gateway.policy.decision import Deny, StepUp
from gateway.proxy import headers
from gateway.proxy.trail import Trail

_log = logging.getLogger("securus.gateway")


def refused(trail: Trail, error: Exception, resource_server: ResourceServer, *, at: str) -> Answer:
    """The answer to a request that failed by this error; the trail keeps why. at is the mount's path."""
    match error:
        case FhirError() if error.reason is Reason.SCOPE_INSUFFICIENT and error.status == 403:
            said = OAuthError(ErrorCode.INSUFFICIENT_SCOPE, "no scope of the token allows this interaction")
            return refusal(trail, error).with_headers(_challenge(trail, said, resource_server, at)[:1])
        case FhirError():
            return refusal(trail, error)
        case Limited():
            return refusal(trail, FhirError(Reason.TOO_MANY_REQUESTS, str(error), headers=error.headers))
        case OAuthError():
            return challenge(trail, error, resource_server, at=at)
        case RequestError():
            reason = Reason.TOO_LARGE if error.status == 413 else Reason.INVALID_BODY
            return refusal(trail, FhirError(reason, error.description, status=error.status))
        case StoreUnavailable():
            _log.error("the store does not answer", extra={"cause": str(error)})
            return refusal(trail, FhirError(Reason.STORE_UNAVAILABLE, headers=(("Retry-After", "2"),)))
        case AuditUnavailable():
            return refusal(trail, FhirError(Reason.AUDIT_UNAVAILABLE, headers=(("Retry-After", "5"),)))
        case _:
            _log.error("a passage failed", extra={"interaction_id": trail.interaction_id}, exc_info=error)
            return refusal(trail, FhirError(Reason.INTERNAL))


def refusal(trail: Trail, error: FhirError) -> Answer:
    """The answer to a refused request; the trail keeps the reason."""
    trail.reason = str(error.reason)
    if error.status in (401, 403, 404) and trail.decision == "permit" and trail.tally.shown == 0:
        trail.decision = "deny"
    body = operation_outcome(error.reason, error.diagnostics, error.expression)
    return Answer(error.status, (headers.JSON_BODY, *headers.PRIVATE, *error.headers), body)


def denied(decision: Deny, *, expression: str = "") -> FhirError | OAuthError:
    """The error of a decision that refuses: a challenge where another sign-in would open it, else the reason.

    One that conceals says no more than that nothing is there. expression is the entry of a Bundle that it is about.
    """
    if decision.step_up is not None:
        return _step_up(decision.step_up, decision.explanation)
    reason = Reason.NOT_FOUND if decision.conceal else decision.reason
    return FhirError(reason, expression=expression)


def _step_up(step_up: StepUp, explanation: str) -> OAuthError:
    """The error that tells a client which sign-in to ask for (RFC 9470 3)."""
    fields, wanted = {}, []
    if step_up.acr_values:
        fields["acr_values"] = " ".join(step_up.acr_values)
        wanted.append(f"by one of {fields['acr_values']}")
    if step_up.max_age is not None:
        fields["max_age"] = str(step_up.max_age)
        wanted.append(f"at most {step_up.max_age} s ago")
    return OAuthError(
        ErrorCode.INSUFFICIENT_USER_AUTHENTICATION,
        f"this access needs a sign-in {', '.join(wanted)}",
        detail=explanation,
        fields=fields,
    )


def challenge(trail: Trail, error: OAuthError, resource_server: ResourceServer, *, at: str) -> Answer:
    """The answer to a refused token or proof: 400 or 401 with WWW-Authenticate, never 403. at is the mount's path."""
    has_token = "authorization" in trail.request.headers
    reason = {
        ErrorCode.USE_DPOP_NONCE: Reason.NONCE_REQUIRED,
        ErrorCode.INVALID_DPOP_PROOF: Reason.PROOF_INVALID,
        ErrorCode.INSUFFICIENT_USER_AUTHENTICATION: Reason.STEP_UP_REQUIRED,
    }.get(error.code, Reason.TOKEN_INVALID if has_token else Reason.TOKEN_MISSING)
    said = _challenge(trail, error if has_token else None, resource_server, at)
    trail.reason = str(reason)
    trail.explanation = error.detail or error.description
    trail.answer_headers = ()  # a fresh nonce that the token earned: the challenge brings its own
    status = 400 if error.code is ErrorCode.INVALID_REQUEST and error.status == 400 else 401
    body = operation_outcome(reason, error.description)
    return Answer(status, (headers.JSON_BODY, *headers.PRIVATE, *said), body)


def _challenge(
    trail: Trail, error: OAuthError | None, resource_server: ResourceServer, at: str
) -> tuple[tuple[str, str], ...]:
    """WWW-Authenticate, first, with where the metadata of the mount are, and a nonce where one is due (RFC 9728 5.1)."""
    path = f"{trail.request.origin}/.well-known/oauth-protected-resource{at}"
    (name, value), *more = resource_server.challenge(error, trail.request)
    return (name, f'{value}{"," if " " in value else ""} resource_metadata="{path}"'), *more
