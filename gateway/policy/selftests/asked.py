"""What a test inside a policy file asks, and who asks it: its `request` and its `as`."""

from collections.abc import Mapping

from authz.protocol.openid import SIGN_INS
from authz.protocol.tokens import Caller, caller_of
from gateway.fhir import request
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.policy.decision import Environment
from gateway.policy.networks import in_networks
from gateway.policy.reading.sign_in import seconds_of
from gateway.policy.rules import PolicySet, PolicyTest
from gateway.policy.scope_layer import LETTERS
from gateway.policy.selftests.effects import emergency_of
from gateway.policy.selftests.known import known_of
from gateway.policy.selftests.time import time_of
from gateway.yaml_source import did_you_mean

_ISSUER = "https://issuer.test"
_AS_WORDS = {
    "role": "roles",
    "user": "user",
    "org": "org",
    "purpose": "purpose",
    "acr": "acr",
    "patient": "patient",
}
_AS_KEYS = ("context", "client", "bound", "network", "scope", "signed_in", "time", "reason")
_SCOPES = "{context}/*.cruds"


class Unplayable(Exception):
    """A test that is not written right."""


def what_is_asked(test: PolicyTest) -> FhirRequest:
    """The request of a test. Raises Unplayable, FhirError."""
    text = test.body.get("request")
    if not isinstance(text, str) or " " not in text:
        raise Unplayable("'request' must be a method and a path, such as 'GET /Observation?code=x'")
    method, _, target = text.partition(" ")
    path, _, query = target.partition("?")
    return request.parse(method, path, query)


def who_asks(policies: PolicySet, test: PolicyTest, asked: FhirRequest) -> tuple[Caller, Environment]:
    """The caller of a test and the circumstances, as `as` says them. Raises Unplayable, TokenError."""
    said = test.body.get("as")
    if not isinstance(said, Mapping):
        raise Unplayable("'as' must say who calls: {context: patient, patient: A, client: portal}")
    context = _word(said, "context", ("user", "patient", "system"))
    bound = _word(said, "bound", ("dpop", "mtls"))
    peer = said.get("network", "192.0.2.1")
    if in_networks(str(peer), (), unknown=True):  # it lies in no network, unless it has no address
        raise Unplayable(f"network is '{peer}', expected an address such as 10.20.1.4")
    try:
        now = time_of(said.get("time"), (r for r in policies.rules if r.id.startswith(f"{test.policy}/")))
    except ValueError as error:
        raise Unplayable(str(error)) from error
    claims: dict[str, object] = {}
    for key, value in said.items():
        if key in _AS_KEYS:
            continue
        claim = policies.claims.get(_AS_WORDS.get(str(key), str(key)))
        if claim is None:
            raise Unplayable(
                f"no claim named '{key}'.{did_you_mean(str(key), [*_AS_WORDS, *policies.claims])}"
            )
        _place(claims, claim.path, value if claim.type != "codes" or isinstance(value, list) else [value])
    if context != "system":
        _sign_in(claims, said, policies, now)
    others = (Interaction.OPERATION, Interaction.BATCH)
    is_clinical = asked.interaction in LETTERS or asked.interaction in others
    default = _SCOPES.format(context=context) if is_clinical else ""
    scope = said.get("scope", default)
    member = "x5t#S256" if bound == "mtls" else "jkt"
    claims.update(
        {
            "iss": _ISSUER,
            "sub": "test",
            "aud": "https://gateway.test",
            "client_id": said.get("client", "test-client"),
            "iat": now,
            "exp": now + 300,
            "jti": "test",
            "scope": scope,
            "cnf": {member: "x" * 43},
        }
    )
    try:
        emergency = emergency_of(test.body, said)
    except ValueError as error:
        raise Unplayable(str(error)) from error
    known = known_of(test, policies, now)
    environment = Environment(now, str(peer), known=known, emergency=emergency)
    return caller_of(claims, issuer=_ISSUER), environment


def _sign_in(claims: dict[str, object], said: Mapping[object, object], policies: PolicySet, now: int) -> None:
    """When and how the person of a test signed in: just now and as people do here, unless it says otherwise."""
    ago = str(said.get("signed_in", "just now"))
    seconds = 0 if ago == "just now" else seconds_of(ago)
    if ago == "never":
        return
    if seconds is None:
        raise Unplayable("'signed_in' must say how long ago, such as 5m, or never")
    claims["auth_time"] = now - seconds
    if "acr" not in said and policies.claims["acr"].type == "string":
        _place(claims, policies.claims["acr"].path, next(iter(SIGN_INS)))


def _word(said: Mapping[str, object], key: str, words: tuple[str, ...]) -> str:
    """The word of a key of 'as', the first of words without one."""
    found = str(said.get(key, words[0]))
    if found not in words:
        raise Unplayable(f"{key} is '{found}', expected {' or '.join(words)}.{did_you_mean(found, words)}")
    return found


def _place(claims: dict[str, object], path: tuple[str, ...], value: object) -> None:
    for step in path[:-1]:
        inner = claims.setdefault(step, {})
        if not isinstance(inner, dict):
            raise Unplayable(f"the claim at '{'.'.join(path)}' stands in another's way")
        claims = inner
    claims[path[-1]] = value
