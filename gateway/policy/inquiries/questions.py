"""Questions put to policies by hand: who asks and what, in the words of policy tests or as the claims of a token."""

from collections.abc import Mapping

from authz.protocol.tokens import Caller, TokenError, caller_of
from gateway.fhir import request
from gateway.fhir.interaction import FhirRequest
from gateway.policy.decision import Environment
from gateway.policy.rules import PolicySet, PolicyTest
from gateway.policy.selftests import asked as selftest_asked
from gateway.yaml_source import Place

_PLACE = Place("question", 1, 1)
_LIFETIME_SECONDS = 300


class QuestionError(Exception):
    """A question that cannot be read. The text says what would be right."""


def asked_of(text: str, *, form: str = "") -> FhirRequest:
    """The request of 'GET /Observation?code=x'; form is the body of a search by POST. Raises QuestionError, FhirError."""
    method, _, target = text.strip().partition(" ")
    if not target.startswith("/"):
        raise QuestionError(
            f"'{text}' is not a method and a path below the mount, such as 'GET /Observation?code=x'"
        )
    path, _, query = target.partition("?")
    asked = request.parse(method.upper(), path, query)
    return request.with_form(asked, request.FORM_TYPE, form.encode()) if asked.posted else asked


def caller_in_words(
    policies: PolicySet, said: Mapping[str, object], asked: FhirRequest
) -> tuple[Caller, Environment]:
    """Who asks, as the `as` of a test says it: {context: user, role: nurse, network: 10.1.2.3}. Raises QuestionError."""
    try:
        return selftest_asked.who_asks(policies, PolicyTest("question", "", {"as": said}, _PLACE), asked)
    except (selftest_asked.Unplayable, TokenError) as error:
        raise QuestionError(str(error)) from error


def caller_of_claims(claims: Mapping[str, object], *, now: int) -> Caller:
    """Who asks, by the claims of an access token; what every token has and this one lacks is made up.

    Raises QuestionError.
    """
    issuer = claims.get("iss", "https://issuer.test")
    standing: dict[str, object] = {
        "iss": issuer,
        "sub": "question",
        "aud": "https://gateway.test",
        "client_id": "question",
        "iat": now,
        "exp": now + _LIFETIME_SECONDS,
        "jti": "question",
        "scope": "",
        "cnf": {"jkt": "x" * 43},
    }
    if not isinstance(issuer, str):
        raise QuestionError("iss must be text")
    try:
        return caller_of({**standing, **claims}, issuer=issuer)
    except TokenError as error:
        raise QuestionError(str(error)) from error
