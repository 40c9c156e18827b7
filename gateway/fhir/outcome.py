"""FhirError: every refusal of a FHIR request, with a stable reason code, as an OperationOutcome."""

import json
from enum import StrEnum

REASON_SYSTEM = "urn:securus:reason"  # CodeSystem of issue.details.coding


class Reason(StrEnum):
    """The stable reason codes. docs/reasons.md is generated from REASONS; a test compares."""

    AMBIGUOUS_PATH = "ambiguous-path"
    AMBIGUOUS_QUERY = "ambiguous-query"
    AMBIGUOUS_HEADER = "ambiguous-header"
    UNKNOWN_ROUTE = "unknown-route"
    UNKNOWN_TYPE = "unknown-type"
    UNKNOWN_PARAMETER = "unknown-parameter"
    UNSUPPORTED_PARAMETER = "unsupported-parameter"
    INVALID_PARAMETER = "invalid-parameter"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    NOT_ACCEPTABLE = "not-acceptable"
    TOO_LARGE = "too-large"
    HEADERS_TOO_LARGE = "headers-too-large"
    INVALID_BODY = "invalid-body"
    PATCH_FAILED = "patch-failed"
    VERSION_CONFLICT = "version-conflict"
    MULTIPLE_MATCHES = "multiple-matches"
    SPLIT_TRANSACTION = "split-transaction"
    TOKEN_MISSING = "token-missing"
    TOKEN_INVALID = "token-invalid"
    PROOF_INVALID = "proof-invalid"
    NONCE_REQUIRED = "nonce-required"
    STEP_UP_REQUIRED = "step-up-required"
    SCOPE_INSUFFICIENT = "scope-insufficient"
    DETAILS_INSUFFICIENT = "details-insufficient"
    DETAILS_UNKNOWN = "details-unknown"
    MIXED_CONTEXTS = "mixed-contexts"
    NO_PATIENT_CONTEXT = "no-patient-context"
    POLICY_DENIED = "policy-denied"
    NO_PERMIT = "no-permit"
    INTERACTION_CLOSED = "interaction-closed"
    DOCUMENT_OF_ANOTHER_PATIENT = "document-of-another-patient"
    DOCUMENT_OF_ANOTHER_ORGANIZATION = "document-of-another-organization"
    DOCUMENT_LABEL_TOO_LOW = "document-label-too-low"
    CONTENT_REFUSED = "content-refused"
    BREAK_GLASS_NEEDS_ONE_PATIENT = "break-glass-needs-one-patient"
    BREAK_GLASS_NEEDS_REASON = "break-glass-needs-reason"
    QUERY_CLOSED = "query-closed"
    TOLD_BY_SEARCH = "told-by-search"
    JOIN_CLOSED = "join-closed"
    COUNT_CLOSED = "count-closed"
    NOT_FOUND = "not-found"
    STALE_LINK = "stale-link"
    FACTS_TOO_MANY = "facts-too-many"
    FACTS_UNAVAILABLE = "facts-unavailable"
    CONSENT_UNAVAILABLE = "consent-unavailable"
    CONSENT_INVALID = "consent-invalid"
    CONSENT_STATUS = "consent-status"
    CONSENT_KEPT_HERE = "consent-kept-here"
    LABELS_UNAVAILABLE = "labels-unavailable"
    POLICY_UNAVAILABLE = "policy-unavailable"
    STORE_UNAVAILABLE = "store-unavailable"
    AUDIT_UNAVAILABLE = "audit-unavailable"
    AUDIT_BACKLOG = "audit-backlog"
    UPSTREAM_UNAVAILABLE = "upstream-unavailable"
    UPSTREAM_TIMEOUT = "upstream-timeout"
    UPSTREAM_INVALID = "upstream-invalid"
    UPSTREAM_REFUSED = "upstream-refused"
    NARROWING_IGNORED = "narrowing-ignored"
    TOO_MANY_JOBS = "too-many-jobs"
    RATE_EXCEEDED = "rate-exceeded"
    TOO_MANY_REQUESTS = "too-many-requests"
    OVERLOADED = "overloaded"
    INTERNAL = "internal"


# Reason → (HTTP status, FHIR issue code, sentence for the caller)
REASONS: dict[Reason, tuple[int, str, str]] = {
    Reason.AMBIGUOUS_PATH: (400, "invalid", "The path has no single reading."),
    Reason.AMBIGUOUS_QUERY: (400, "invalid", "The query has no single reading."),
    Reason.AMBIGUOUS_HEADER: (400, "invalid", "A header has no single reading."),
    Reason.UNKNOWN_ROUTE: (404, "not-found", "The path is not one of the FHIR R4 REST API."),
    Reason.UNKNOWN_TYPE: (404, "not-supported", "The type is not a FHIR R4 resource type."),
    Reason.UNKNOWN_PARAMETER: (400, "not-supported", "A search parameter is not known for this type."),
    Reason.UNSUPPORTED_PARAMETER: (403, "not-supported", "A search parameter is closed here."),
    Reason.INVALID_PARAMETER: (400, "value", "A parameter has a value that is not allowed."),
    Reason.METHOD_NOT_ALLOWED: (405, "not-supported", "The method is not allowed here."),
    Reason.UNSUPPORTED_MEDIA_TYPE: (415, "not-supported", "The media type of the body is not accepted."),
    Reason.NOT_ACCEPTABLE: (406, "not-supported", "No format that was asked for can be given."),
    Reason.TOO_LARGE: (413, "too-long", "The body is larger than allowed."),
    Reason.HEADERS_TOO_LARGE: (431, "too-long", "The headers are larger than allowed."),
    Reason.INVALID_BODY: (400, "structure", "The body is not a resource of the expected type."),
    Reason.PATCH_FAILED: (422, "processing", "The patch does not fit the resource."),
    Reason.VERSION_CONFLICT: (
        412,
        "conflict",
        "The stored version is not the one that the request is about.",
    ),
    Reason.MULTIPLE_MATCHES: (412, "multiple-matches", "The criteria match more than one resource."),
    Reason.SPLIT_TRANSACTION: (
        422,
        "processing",
        "What the entries do together cannot be decided: split the transaction.",
    ),
    Reason.TOKEN_MISSING: (401, "login", "An access token is required."),
    Reason.TOKEN_INVALID: (401, "login", "The access token is not valid here."),
    Reason.PROOF_INVALID: (401, "login", "The proof of possession is not valid."),
    Reason.NONCE_REQUIRED: (401, "login", "The proof must carry the nonce of the DPoP-Nonce header."),
    Reason.STEP_UP_REQUIRED: (
        401,
        "login",
        "The sign-in is too old, or not of a kind that this access needs.",
    ),
    Reason.SCOPE_INSUFFICIENT: (403, "forbidden", "No scope of the token allows this interaction."),
    Reason.DETAILS_INSUFFICIENT: (
        403,
        "forbidden",
        "No authorization detail of the token allows this interaction.",
    ),
    Reason.DETAILS_UNKNOWN: (
        403,
        "forbidden",
        "The token carries authorization details that are not enforced here.",
    ),
    Reason.MIXED_CONTEXTS: (403, "forbidden", "The token mixes patient, user and system scopes."),
    Reason.NO_PATIENT_CONTEXT: (403, "forbidden", "The token has patient scopes but no patient."),
    Reason.POLICY_DENIED: (403, "forbidden", "A policy forbids this access."),
    Reason.NO_PERMIT: (403, "forbidden", "No policy permits this access."),
    Reason.INTERACTION_CLOSED: (403, "not-supported", "This interaction is closed at this gateway."),
    Reason.DOCUMENT_OF_ANOTHER_PATIENT: (
        403,
        "business-rule",
        "The document is not about the patient under whom it is filed.",
    ),
    Reason.DOCUMENT_OF_ANOTHER_ORGANIZATION: (
        403,
        "business-rule",
        "The document is by, or kept by, an organisation for whom the caller may not file.",
    ),
    Reason.DOCUMENT_LABEL_TOO_LOW: (
        403,
        "business-rule",
        "The document says that it is less confidential than such documents are here.",
    ),
    Reason.CONTENT_REFUSED: (
        422,
        "business-rule",
        "The content runs, or cannot be looked into: it is of a kind that is not taken here.",
    ),
    Reason.BREAK_GLASS_NEEDS_ONE_PATIENT: (
        403,
        "forbidden",
        "Emergency access is for one patient: read that Patient, or search within the record of one.",
    ),
    Reason.BREAK_GLASS_NEEDS_REASON: (
        403,
        "forbidden",
        "Emergency access needs a reason in X-Break-Glass-Reason: one sentence of 10 to 500 characters.",
    ),
    Reason.QUERY_CLOSED: (403, "forbidden", "No policy opens this form of search."),
    Reason.TOLD_BY_SEARCH: (
        403,
        "forbidden",
        "Only a search that proves its narrowing can tell whether this access is permitted.",
    ),
    Reason.JOIN_CLOSED: (403, "forbidden", "The search reads resources that the caller may not read."),
    Reason.COUNT_CLOSED: (403, "forbidden", "The number of matches cannot be told to this caller."),
    Reason.NOT_FOUND: (404, "not-found", "There is no such resource."),
    Reason.STALE_LINK: (404, "not-found", "The page link is not valid for this caller any more."),
    Reason.FACTS_TOO_MANY: (
        403,
        "too-costly",
        "A list that a policy decides by is longer than the policy allows.",
    ),
    Reason.FACTS_UNAVAILABLE: (503, "transient", "What a policy decides by could not be found out."),
    Reason.CONSENT_UNAVAILABLE: (503, "transient", "The consents of a patient could not be had."),
    Reason.CONSENT_INVALID: (422, "processing", "The consent cannot be kept as it is."),
    Reason.CONSENT_STATUS: (409, "business-rule", "A consent does not go on from its status like this."),
    Reason.CONSENT_KEPT_HERE: (
        403,
        "not-supported",
        "The consents of this base are kept by the gateway, apart from all else.",
    ),
    Reason.LABELS_UNAVAILABLE: (503, "transient", "The security labels that count here could not be had."),
    Reason.POLICY_UNAVAILABLE: (503, "transient", "No policy set is in force."),
    Reason.STORE_UNAVAILABLE: (503, "transient", "The store of the gateway does not answer."),
    Reason.AUDIT_UNAVAILABLE: (503, "transient", "The access could not be recorded."),
    Reason.AUDIT_BACKLOG: (
        503,
        "transient",
        "Audit records wait to be delivered: nothing is written until then.",
    ),
    Reason.UPSTREAM_UNAVAILABLE: (502, "transient", "The FHIR store cannot be reached."),
    Reason.UPSTREAM_TIMEOUT: (504, "timeout", "The FHIR store did not answer in time."),
    Reason.UPSTREAM_INVALID: (502, "processing", "The answer of the FHIR store was not valid."),
    Reason.UPSTREAM_REFUSED: (400, "processing", "The FHIR store refused the request."),
    Reason.NARROWING_IGNORED: (502, "processing", "The FHIR store ignored a restriction of the search."),
    Reason.TOO_MANY_JOBS: (429, "throttled", "This client has as many exports running as it may have."),
    Reason.RATE_EXCEEDED: (
        429,
        "throttled",
        "The rule that opens this is used as often as it may be for now.",
    ),
    Reason.TOO_MANY_REQUESTS: (
        429,
        "throttled",
        "This is asked more often, or more at once, than it may be.",
    ),
    Reason.OVERLOADED: (503, "throttled", "The gateway is busy; try again later."),
    Reason.INTERNAL: (
        500,
        "exception",
        "The gateway failed; the operator finds the cause by the interaction id.",
    ),
}


class FhirError(Exception):
    """A refusal of a FHIR request.

    reason       stable code; gives status, issue code and the standing sentence
    diagnostics  what was wrong and what would be right, for the caller: no PHI, no id that the caller did not send
    status       HTTP status where it differs from the reason's own
    headers      further response headers, e.g. Allow, WWW-Authenticate
    expression   where in the caller's body it is, e.g. Bundle.entry[3]
    """

    def __init__(
        self,
        reason: Reason,
        diagnostics: str = "",
        *,
        status: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        expression: str = "",
    ) -> None:
        super().__init__(f"{reason}: {diagnostics}")
        self.reason = reason
        self.diagnostics = diagnostics
        self.status = REASONS[reason][0] if status is None else status
        self.headers = headers
        self.expression = expression


def operation_outcome(reason: Reason, diagnostics: str = "", expression: str = "") -> bytes:
    """The OperationOutcome of a refusal, as JSON in UTF-8 (FHIR R4 3.1.0.1)."""
    _, code, sentence = REASONS[reason]
    issue: dict[str, object] = {
        "severity": "error",
        "code": code,
        "details": {"coding": [{"system": REASON_SYSTEM, "code": str(reason)}], "text": sentence},
    }
    if diagnostics:
        issue["diagnostics"] = diagnostics
    if expression:
        issue["expression"] = [expression]
    return json.dumps(
        {"resourceType": "OperationOutcome", "issue": [issue]}, ensure_ascii=False, separators=(",", ":")
    ).encode()
