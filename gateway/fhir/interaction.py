"""FhirRequest: what is asked, in the words of the FHIR R4 REST API. Made by gateway.fhir.request only."""

from dataclasses import dataclass, replace
from enum import StrEnum


class Interaction(StrEnum):
    """The interactions of FHIR R4 3.1.0, in the words that policies use."""

    READ = "read"
    VREAD = "vread"
    HISTORY_INSTANCE = "history-instance"
    HISTORY_TYPE = "history-type"
    HISTORY_SYSTEM = "history-system"
    SEARCH = "search"
    CREATE = "create"
    UPDATE = "update"
    PATCH = "patch"
    DELETE = "delete"
    BATCH = "batch"
    TRANSACTION = "transaction"
    OPERATION = "operation"
    CAPABILITIES = "capabilities"


@dataclass(frozen=True, slots=True)
class SearchTerm:
    """One search parameter as sent, decoded once: 'subject:Patient.name=x' has code, modifier and chain apart.

    values are the comma-separated alternatives with FHIR escapes resolved; text is the value before that.
    """

    name: str  # the whole left side as sent, decoded
    code: str  # the parameter's code, e.g. 'subject', '_id', '_include'
    modifier: str | None
    chain: str | None  # what follows the first '.', None without
    values: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class FhirRequest:
    """One FHIR request that has a single reading.

    interaction  what is asked
    type         resource type; None for system-level
    id, version  of an instance
    compartment  (type, id) of a compartment search
    operation    name without '$'
    terms        search and result parameters in the order sent; the query and, for POST _search, the form
    posted       a search that came by POST: it is forwarded by POST
    head         HEAD: answered as a GET without a body
    sealed       of a job or file of an export: what the gateway sealed into its URL
    """

    method: str
    interaction: Interaction
    type: str | None = None
    id: str | None = None
    version: str | None = None
    compartment: tuple[str, str] | None = None
    operation: str | None = None
    terms: tuple[SearchTerm, ...] = ()
    posted: bool = False
    head: bool = False
    sealed: str | None = None

    def with_terms(self, more: tuple[SearchTerm, ...]) -> "FhirRequest":
        """The same request with further criteria behind its own: each is one more AND, it can only narrow."""
        return replace(self, terms=(*self.terms, *more))
