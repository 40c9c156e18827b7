"""Decisions by the OpenID AuthZEN Authorization API 1.0: subject, action, resource and context in, a decision out.

A decision is true only when nothing is left that could refuse it: an access that depends on a resource which was not
given is false, with depends_on_resource beside it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from authz.protocol.tokens import Caller
from gateway.consents.consent import bases_record
from gateway.fhir.operations import OPERATIONS
from gateway.fhir.outcome import REASONS, FhirError
from gateway.policy.decision import Environment, Resource
from gateway.policy.engine import Engine
from gateway.policy.inquiries.consent_of import asked_of_consents, told
from gateway.policy.inquiries.explanation import explain
from gateway.policy.inquiries.explanation_parts import Truth
from gateway.policy.inquiries.explanation_words import as_json
from gateway.policy.inquiries.questions import QuestionError, asked_of, caller_of_claims
from gateway.policy.known import Known
from gateway.policy.networks import in_networks

MAX_EVALUATIONS = 100
_CONTEXTS = ("patient", "user", "system")
_ACTIONS = {
    "read": "GET /{type}/{id}",
    "vread": "GET /{type}/{id}/_history/{version}",
    "history-instance": "GET /{type}/{id}/_history",
    "history-type": "GET /{type}/_history",
    "search": "GET /{type}?{query}",
    "create": "POST /{type}",
    "update": "PUT /{type}/{id}",
    "patch": "PATCH /{type}/{id}",
    "delete": "DELETE /{type}/{id}",
    "operation": "",  # written by _operation
}
_OPERATION = re.compile(r"\$?[A-Za-z][A-Za-z0-9-]{0,63}")
_PARTS = ("subject", "action", "resource", "context")


class EvaluationError(Exception):
    """A request that is not one of the API: answered 400. The text says what would be right."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a question has unless its context says otherwise: the time, an address of no network, the mount asked.

    known is what facts and consents say for a caller at the mount of this path, '' where the question names none.
    """

    now: int
    peer: str = "192.0.2.1"
    location: str = ""
    known: Callable[[Caller, str], Known] = field(default=lambda caller, mount: Known())


def evaluation(engine: Engine, body: object, circumstances: Circumstances) -> dict[str, object]:
    """The answer to an access evaluation (AuthZEN 1.0 section 6). Raises EvaluationError."""
    question = _object(body, "the request")
    subject, action = _part(question, "subject"), _part(question, "action")
    resource, context = _part(question, "resource"), _part(question, "context", optional=True)
    try:
        asked = asked_of(_request(action, resource))
        caller = caller_of_claims(_claims(subject), now=circumstances.now)
    except FhirError as error:
        return _answer(False, {"reason": str(error.reason)}, REASONS[error.reason][2], error.diagnostics)
    except QuestionError as error:
        raise EvaluationError(str(error)) from error
    environment = _environment(context, circumstances, caller)
    environment.known.forget_deciding_by()  # of another question about the same caller
    found = explain(engine, asked, caller, environment, resource=_stored(resource))
    said = as_json(found)
    if environment.known.deciding_by:
        said["provisions"] = bases_record(environment.known.deciding_by)
    sentence = "" if found.reason is None else REASONS[found.reason][2]
    if found.allowed is Truth.OPEN:
        sentence = "It depends on the resource, which was not given."
    admin = str(said["explanation"]) or "; ".join(
        f"{each.rule.id} {each.outcome}: {each.rule.because}" for each in found.rules
    )
    allowed = found.allowed is Truth.TRUE
    if "consent" in context:
        permits, said["consent"] = _by_consent(engine, context, resource, environment.known)
        allowed = allowed and permits
    return _answer(allowed, said, sentence, admin)


def evaluations(engine: Engine, body: object, circumstances: Circumstances) -> dict[str, object]:
    """The answers to several (AuthZEN 1.0 section 7); without evaluations it is one. Raises EvaluationError."""
    question = _object(body, "the request")
    listed = question.get("evaluations")
    if not listed:
        return evaluation(engine, body, circumstances)
    if not isinstance(listed, list) or len(listed) > MAX_EVALUATIONS:
        raise EvaluationError(f"evaluations must be a list of at most {MAX_EVALUATIONS}")
    options = _object(question.get("options", {}), "options")
    semantic = options.get("evaluations_semantic", "execute_all")
    stops = {"execute_all": None, "deny_on_first_deny": False, "permit_on_first_permit": True}
    if not isinstance(semantic, str) or semantic not in stops:
        raise EvaluationError(f"evaluations_semantic must be one of {', '.join(stops)}")
    standing = {name: question[name] for name in _PARTS if name in question}
    found: list[dict[str, object]] = []
    for each in listed:
        # A member of an evaluation replaces the standing one whole (AuthZEN 1.0 7.1.1).
        answer = evaluation(engine, {**standing, **_object(each, "an evaluation")}, circumstances)
        found.append(answer)
        if stops[semantic] is not None and answer["decision"] is stops[semantic]:
            break
    return {"evaluations": found}


def _answer(decision: bool, said: Mapping[str, object], sentence: str, admin: str) -> dict[str, object]:
    context: dict[str, object] = {"reason_admin": {"en": admin}, **said}
    context.pop("decision", None)
    if sentence:
        context["reason_user"] = {"en": sentence}
    return {"decision": decision, "context": context}


def _by_consent(
    engine: Engine, context: Mapping[str, object], resource: Mapping[str, object], known: Known
) -> tuple[bool, dict[str, object]]:
    """Whether the consents that the context asks for permit it, and what is told of them. Raises EvaluationError."""
    asked, stored = _object(context["consent"], "context.consent"), _stored(resource)
    try:
        patient, question = asked_of_consents(
            asked, str(resource.get("type")), resource.get("id"), stored, engine.bases
        )
    except ValueError as error:
        raise EvaluationError(str(error)) from error
    return told(known, patient, question)


def _claims(subject: Mapping[str, object]) -> dict[str, object]:
    """The claims of the subject: its properties, with its id as sub; without scope every scope of its type."""
    type_, id_ = subject.get("type"), subject.get("id")
    if type_ not in _CONTEXTS:
        raise EvaluationError("subject.type must be patient, user or system: on whose behalf the app acts")
    if not isinstance(id_, str) or not id_:
        raise EvaluationError("subject.id must be text: the sub of the access token")
    claims = dict(_object(subject.get("properties", {}), "subject.properties"))
    claims.setdefault("scope", f"{type_}/*.cruds")
    return {**claims, "sub": id_}


def _request(action: Mapping[str, object], resource: Mapping[str, object]) -> str:
    name, type_ = action.get("name"), resource.get("type")
    if not isinstance(name, str) or name not in _ACTIONS:
        raise EvaluationError(f"action.name must be one of {', '.join(_ACTIONS)}")
    if not isinstance(type_, str) or not type_.isalpha():
        raise EvaluationError("resource.type must be a FHIR resource type such as Observation")
    properties = _object(action.get("properties", {}), "action.properties")
    if name == "operation":
        return _operation(type_, resource.get("id"), properties)
    values = {"type": type_}
    for key, value, needed in (
        ("id", resource.get("id"), True),
        ("version", properties.get("version"), True),
        ("query", properties.get("query", ""), False),
    ):
        if f"{{{key}}}" not in _ACTIONS[name]:
            continue
        if not isinstance(value, str) or (needed and not value) or set(value) & set("/?# "):
            where = "resource" if key == "id" else "action.properties"
            raise EvaluationError(f"{where}.{key} must be text as it stands in the request's URL")
        values[key] = value
    return _ACTIONS[name].format_map(values).removesuffix("?")


def _operation(type_: str, id_: object, properties: Mapping[str, object]) -> str:
    """The request of an operation: at an instance where the resource has an id, else at its type."""
    name, query = properties.get("name"), properties.get("query", "")
    if not isinstance(name, str) or not _OPERATION.fullmatch(name):
        raise EvaluationError("action.properties.name must be the name of an operation such as $everything")
    if not isinstance(query, str) or set(query) & set("/?# "):
        raise EvaluationError("action.properties.query must be text as it stands in the request's URL")
    if id_ is not None and (not isinstance(id_, str) or not id_ or set(id_) & set("/?# ")):
        raise EvaluationError("resource.id must be text as it stands in the request's URL")
    known = OPERATIONS.get(name.removeprefix("$"))
    method = "POST" if known is None else known.method
    place = type_ if id_ is None else f"{type_}/{id_}"
    return f"{method} /{place}/${name.removeprefix('$')}?{query}".removesuffix("?")


def _stored(resource: Mapping[str, object]) -> Resource | None:
    """The resource as it is stored, or is to be stored: its properties."""
    properties = _object(resource.get("properties", {}), "resource.properties")
    if not properties:
        return None
    known = {"resourceType": resource.get("type")}
    if isinstance(resource.get("id"), str):
        known["id"] = resource["id"]
    return {**known, **properties}


def _environment(context: Mapping[str, object], circumstances: Circumstances, caller: Caller) -> Environment:
    peer, now = context.get("network", circumstances.peer), context.get("time", circumstances.now)
    if not isinstance(peer, str) or in_networks(peer, (), unknown=True):
        raise EvaluationError("context.network must be an address such as 10.20.1.4")
    if not isinstance(now, int) or isinstance(now, bool) or now < 0:
        raise EvaluationError("context.time must be seconds since 1970")
    mount = context.get("mount", "")
    if not isinstance(mount, str):
        raise EvaluationError("context.mount must be the path of a mount such as /fhir/r4")
    return Environment(now, peer, circumstances.location, circumstances.known(caller, mount))


def _part(question: Mapping[str, object], name: str, *, optional: bool = False) -> Mapping[str, object]:
    if name not in question and not optional:
        raise EvaluationError(f"{name} is missing")
    return _object(question.get(name, {}), name)


def _object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise EvaluationError(f"{what} must be a JSON object")
    return value
