"""securus policy explain"""

import argparse
import json
import time
from pathlib import Path

from gateway.commands.answers import OK, REFUSED, add_verb, failed, problems, say
from gateway.commands.policy_sets import policy_set
from gateway.fhir.outcome import FhirError
from gateway.fhir.resource import parse_resource
from gateway.policy.decision import Environment, Resource
from gateway.policy.engine import Engine
from gateway.policy.inquiries import explanation_words
from gateway.policy.inquiries.explanation import explain
from gateway.policy.inquiries.questions import QuestionError, asked_of, caller_in_words, caller_of_claims
from gateway.yaml_source import YamlError, parse


def add(policy: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to securus policy."""
    verb = add_verb(
        policy, "explain", "show why a request is decided as it is, rule by rule", _explain, configured=False
    )
    verb.add_argument("request", metavar="REQUEST", help="such as 'GET /Observation?code=x'")
    verb.add_argument("--policies", type=Path, default=Path("policies"), metavar="DIR")
    who = verb.add_mutually_exclusive_group(required=True)
    who.add_argument(
        "--as", dest="words", metavar="WORDS", help="who asks, such as 'context: user, role: nurse'"
    )
    who.add_argument(
        "--claims", type=Path, metavar="FILE", help="who asks: the claims of the access token as JSON"
    )
    verb.add_argument("--network", default=None, metavar="ADDRESS", help="the caller's address")
    verb.add_argument("--form", default="", metavar="TEXT", help="the form of a search by POST")
    verb.add_argument(
        "--resource", type=Path, metavar="FILE", help="what is stored, or what is to be stored, as JSON"
    )
    verb.add_argument(
        "--base", action="append", default=[], metavar="URL", help="a URL of our own by which resources refer"
    )


def _explain(options: argparse.Namespace) -> int:
    policies = policy_set(options, options.policies)
    if policies is None:
        return REFUSED
    try:
        asked = asked_of(options.request, form=options.form)
        resource = None if options.resource is None else _resource(options.resource)
        if options.claims is not None:
            now = int(time.time())
            caller = caller_of_claims(_claims(options.claims), now=now)
            environment = Environment(now, options.network or "192.0.2.1")
        else:
            said = _words(options.words)
            if options.network is not None:
                said["network"] = options.network
            caller, environment = caller_in_words(policies, said, asked)
    except (QuestionError, FhirError) as error:
        return failed(options, str(error))
    except YamlError as error:
        return problems(options, list(error.problems))
    engine = Engine(policies, bases=frozenset(options.base))
    found = explain(engine, asked, caller, environment, resource=resource)
    say(options, explanation_words.as_json(found), explanation_words.as_lines(found))
    return OK


def _words(text: str) -> dict[str, object]:
    node = parse("{" + text.strip().removeprefix("{").removesuffix("}") + "}", "--as").plain()
    return node if isinstance(node, dict) else {}


def _claims(path: Path) -> dict[str, object]:
    try:
        claims = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise QuestionError(f"{path} is not JSON") from error
    if not isinstance(claims, dict):
        raise QuestionError(f"{path} must hold one JSON object: the claims of an access token")
    return claims


def _resource(path: Path) -> Resource:
    return parse_resource(path.read_bytes())
