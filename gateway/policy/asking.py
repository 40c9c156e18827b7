"""The values that conditions stand on, for one caller: words of the file, claims of the token, facts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from authz.protocol.tokens import Caller
from gateway.fhir.ids import is_id
from gateway.policy.claims import claim_value
from gateway.policy.facts import Fact, FactQuestion, FactValues
from gateway.policy.known import Known
from gateway.policy.rules import FACT, Claim, Value

_PLACEHOLDER = re.compile(r"\{token\.([A-Za-z_][A-Za-z0-9_]*)\}")
_ESCAPED = re.compile(r"([\\,|$])")


class Unsayable(Exception):
    """A condition that has no value for this caller: the claim is missing or of another type."""


@dataclass(frozen=True, slots=True)
class Asking:
    """For whom conditions are compiled, and by what is known. in_doubt is False for what opens, True for what closes."""

    caller: Caller
    claims: Mapping[str, Claim]
    known: Known
    facts: Mapping[str, Fact]
    in_doubt: bool

    def patients(self, value: Value) -> frozenset[str] | None:
        """The patients of a value; None where they are supposed to be right. Raises Unsayable."""
        if value.fact is None:
            return _patients(value, self.caller, self.claims)
        found = self.fact(value.fact)
        if found is None:
            return None
        if self.in_doubt and not found.are_patients:
            raise Unsayable(f"not every value of the fact {value.fact} is a patient that is known")
        return found.patients

    def fact(self, name: str) -> FactValues | None:
        """The values of a fact; None where they are supposed to be right. Raises Unsayable."""
        fact = self.facts.get(name)
        if fact is None:
            raise Unsayable(f"no fact {name}")
        question = None
        if name not in self.known.facts:
            question = FactQuestion(fact, _filled(fact.query, self.caller, self.claims))
        found = self.known.fact(name, question)
        if found is None and not self.known.supposes:
            raise Unsayable(f"the values of the fact {name} are not known")
        return found

    def filled(self, query: str) -> str | None:
        """Criteria with claims and facts in them; '' where a fact has no value, None where it is supposed to be right.

        Raises Unsayable.
        """
        for name in FACT.findall(query):
            found = self.fact(name)
            if found is None:
                return None
            if self.in_doubt and not found.is_whole:
                raise Unsayable(f"not every value of the fact {name} is known")
            if not found.values:
                return ""
            texts = [_written(value, name) for value in sorted(found.values)]
            query = query.replace(f"{{facts.{name}}}", ",".join(texts))
        return _filled(query, self.caller, self.claims)


def _patients(value: Value, caller: Caller, claims: Mapping[str, Claim]) -> frozenset[str]:
    if value.claim is None:
        return frozenset(value.words)
    claim = claims.get(value.claim)
    if claim is None:
        raise Unsayable(f"no claim {value.claim}")
    found = claim_value(caller.claims, claim)
    if found is not None:
        ids = [text.removeprefix("Patient/") for text in (found if isinstance(found, list) else [found])]
        if all(map(is_id, ids)):
            return frozenset(ids)
    raise Unsayable(f"the token has no {value.claim} of the declared type")


def _filled(query: str, caller: Caller, claims: Mapping[str, Claim]) -> str:
    """Criteria with their claims filled in, each as one literal value: what would split it is escaped."""

    def value(match: re.Match[str]) -> str:
        found = claim_value(caller.claims, claims[match[1]]) if match[1] in claims else None
        return _written(found, match[1])

    return _PLACEHOLDER.sub(value, query)


def _written(value: object, name: str) -> str:
    """A value as it stands in criteria. Raises Unsayable for one that would end it."""
    if not isinstance(value, str) or any(c in value for c in "&=%+;#{}"):
        raise Unsayable(f"there is no {name} that can stand in criteria")
    return _ESCAPED.sub(r"\\\1", value)
