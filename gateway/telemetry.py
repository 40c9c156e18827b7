"""The metrics that operators see, in the text format of Prometheus.

No label takes a value from a caller: reasons, routes, rules and interactions come from closed lists of ours.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from authz.events import (
    ClientChanged,
    ClockCompared,
    ConsentChanged,
    ConsentGiven,
    Event,
    GrantRevoked,
    KeySetFetched,
    OwnRecordShown,
    PageRefused,
    ProofChecked,
    Refused,
    SignIn,
    TokenIssued,
)
from gateway.counting import Counter, Histogram

_SKEWS = (-3600, -300, -120, -60, -30, -10, -5, -2, -1, 0, 1, 2, 5, 10, 30, 60, 120, 300, 3600)
_ENDPOINTS = frozenset(
    {"/authorize", "/par", "/token", "/revoke", "/introspect", "/userinfo", "/grants/", "/sign-in", "/patient",
     "/encounter", "/consent"}
)  # fmt: skip
_PAGES = frozenset(
    {"authorize", "sign-in", "patient", "encounter", "consent", "logout", "account", "officer"}
)
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The metrics of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "securus_requests", "Requests answered", ["route", "interaction", "outcome"], registry=registry
        )
        self.request_seconds = Histogram(
            "securus_request_seconds",
            "Time to the answer's first byte",
            "route",
            bounds=_BUCKETS,
            registry=registry,
        )
        self.upstream_seconds = Histogram(
            "securus_upstream_seconds",
            "Time to the store's headers",
            "route",
            bounds=_BUCKETS,
            registry=registry,
        )
        self.page_links_left_out = Counter(
            "securus_page_links_left_out",
            "Page links of a store that its profile does not know",
            ["route"],
            registry=registry,
        )
        self.refusals = Counter("securus_refusals", "Refused requests", ["reason"], registry=registry)
        self.decisions = Counter(
            "securus_policy_decisions", "Decisions by rule", ["policy", "rule", "effect"], registry=registry
        )
        self.shadow_decisions = Counter(
            "securus_shadow_decisions",
            "Requests that a policy in shadow would answer in another way",
            ["policy", "would"],
            registry=registry,
        )
        self.tokens = Counter("securus_tokens_issued", "Access tokens issued", ["grant"], registry=registry)
        self.proofs = Counter("securus_dpop_proofs", "DPoP proofs looked at", ["outcome"], registry=registry)
        self.sign_ins = Counter("securus_sign_ins", "Attempts to sign in", ["outcome"], registry=registry)
        self.key_sets = Counter(
            "securus_key_set_fetches", "Fetches of clients' key sets", ["outcome"], registry=registry
        )
        self.client_changes = Counter(
            "securus_client_changes", "Changes in the client registry", ["what"], registry=registry
        )
        self.replay_seconds = Histogram(
            "securus_replay_store_seconds", "Time of a replay claim", bounds=_BUCKETS, registry=registry
        )
        self.errors = Counter(
            "securus_oauth_errors", "OAuth errors given", ["endpoint", "error"], registry=registry
        )
        self.pages_refused = Counter(
            "securus_pages_refused", "Pages that refused somebody", ["page", "cause"], registry=registry
        )
        self.consents = Counter("securus_consents", "Consent pages answered", ["outcome"], registry=registry)
        self.own_consents = Counter(
            "securus_own_consents",
            "Consents changed at the pages of an account",
            ["outcome", "by"],
            registry=registry,
        )
        self.own_records = Counter(
            "securus_own_records", "Pages of an account that were shown", ["what", "by"], registry=registry
        )
        self.grants_revoked = Counter(
            "securus_grants_revoked", "Grants ended before their time", ["reason"], registry=registry
        )
        self.clock_skew = Histogram(
            "securus_clock_skew_seconds",
            "iat of clients less our own time",
            "kind",
            bounds=_SKEWS,
            registry=registry,
        )
        self.audit_events = Counter("securus_audit_events", "Audit records written", registry=registry)
        self.audit_indexed = Counter("securus_audit_indexed", "Audit records indexed", registry=registry)
        self.signals = Counter("securus_signals", "Signals of unusual access", ["rule"], registry=registry)
        self.audit_behind = Gauge(
            "securus_audit_index_behind_records", "Audit records that wait for the index", registry=registry
        )
        self.audit_covered = Gauge(
            "securus_audit_covered_timestamp_seconds",
            "When every audit record was last covered by a signed head",
            registry=registry,
        )
        self.audit_broken = Gauge(
            "securus_audit_broken",
            "1 where a chain of the audit log is not whole and is not signed",
            registry=registry,
        )
        self.audit_retired = Counter(
            "securus_audit_retired_records", "Audit records that a stub stands for", registry=registry
        )
        self.audit_retention = Counter(
            "securus_audit_retention_rounds", "Rounds of the retention", ["outcome"], registry=registry
        )
        self.audit_heads_undelivered = Counter(
            "securus_audit_heads_undelivered", "Signed heads that their file did not take", registry=registry
        )
        self.audit_feed_records = Counter(
            "securus_audit_feed_records", "Records of audit feeds", ["feed", "outcome"], registry=registry
        )
        self.audit_feed_lag = Gauge(
            "securus_audit_feed_lag_records",
            "Records that an audit feed has not delivered",
            ["feed"],
            registry=registry,
        )
        self.audit_feed_age = Gauge(
            "securus_audit_feed_lag_seconds",
            "Age of the oldest record that an audit feed has not delivered",
            ["feed"],
            registry=registry,
        )
        self.break_glass = Counter(
            "securus_break_glass", "Requests for emergency access", ["outcome"], registry=registry
        )
        self.notifications = Counter(
            "securus_notifications",
            "Deliveries of notifications",
            ["receiver", "outcome"],
            registry=registry,
        )
        self.notifications_waiting = Gauge(
            "securus_notifications_waiting", "Notifications in the outbox", registry=registry
        )
        self.limited = Counter(
            "securus_limited",
            "Requests refused by a limit of the configuration",
            ["limit"],
            registry=registry,
        )
        self.workers = Gauge("securus_workers", "Processes that answer requests", registry=registry)
        self.worker_ends = Counter(
            "securus_worker_ends", "Workers that ended and were started again", registry=registry
        )
        self.policies_in_force = Gauge(
            "securus_policies_in_force",
            "Processes in which the policies of this digest are in force",
            ["version"],
            registry=registry,
        )
        self.connections = Gauge("securus_connections", "Open connections of callers", registry=registry)
        self.connections_at_most = Gauge(
            "securus_connections_at_most", "Connections of callers that may be open", registry=registry
        )
        self.handshakes = Gauge(
            "securus_handshakes",
            "TLS handshakes of callers that have not ended",
            ["state"],
            registry=registry,
        )
        self.turned_away = Counter(
            "securus_connections_turned_away",
            "Connections that were refused, or ended for a new one",
            ["why"],
            registry=registry,
        )
        for why in ("address", "all", "room", "body", "descriptors", "error", "handshake"):
            self.turned_away.labels(why)
        self.inflight = Gauge("securus_inflight_requests", "Requests being answered", registry=registry)
        self.criteria_not_pushed_down = Counter(
            "securus_criteria_not_pushed_down",
            "Searches of which the store was not told all that the judge looks at",
            ["route"],
            registry=registry,
        )
        self.narrowing_ignored = Counter(
            "securus_narrowing_ignored",
            "Searches whose restriction the store did not echo",
            registry=registry,
        )
        for outcome in ("started", "continued", "refused"):
            self.break_glass.labels(outcome)
        self.facts = Counter(
            "securus_fact_requests",
            "Facts of policies that requests needed",
            ["route", "fact", "outcome"],
            registry=registry,
        )
        self.consents_written = Counter(
            "securus_consents_written",
            "Versions of consents that were written, by the status that each has",
            ["route", "status"],
            registry=registry,
        )
        self.patient_consents = Counter(
            "securus_consent_requests",
            "Consents of patients that requests needed",
            ["route", "outcome"],
            registry=registry,
        )
        self._proofs = {
            outcome: self.proofs.labels(outcome) for outcome in ("accepted", "nonce", "replayed", "refused")
        }
        self._clock_skews = {
            kind: self.clock_skew.labels(kind) for kind in ("dpop", "assertion", "request_object")
        }

    def event(self, event: Event) -> None:
        """Count what happened in the authorization server."""
        match event:
            case TokenIssued():
                self.tokens.labels(event.grant_type).inc()
            case ProofChecked():
                self._proofs[event.outcome].inc()
                if event.claim_seconds is not None:
                    self.replay_seconds.observe(event.claim_seconds)
                if event.skew_seconds is not None:
                    self._clock_skews["dpop"].observe(event.skew_seconds)
            case ClockCompared():
                self._clock_skews[event.kind].observe(event.seconds)
            case SignIn():
                self.sign_ins.labels(event.outcome).inc()
            case ConsentGiven():
                self.consents.labels(event.outcome).inc()
            case ConsentChanged():
                self.own_consents.labels(event.outcome, _by(event.relationship)).inc()
            case OwnRecordShown():
                self.own_records.labels(event.what, _by(event.relationship)).inc()
            case GrantRevoked():
                self.grants_revoked.labels(event.reason).inc()
            case Refused():
                endpoint = event.endpoint if event.endpoint in _ENDPOINTS else "other"
                self.errors.labels(endpoint, event.code).inc()
            case PageRefused():
                page = event.endpoint.split("/", 2)[1]
                self.pages_refused.labels(page if page in _PAGES else "other", event.cause).inc()
            case KeySetFetched():
                self.key_sets.labels(event.outcome).inc()
            case ClientChanged():
                self.client_changes.labels(event.what).inc()
            case _:
                pass

    def shadowed(self, found: Iterable[tuple[str, str]]) -> None:
        """Count what policies in shadow would have done."""
        for policy, would in found:
            self.shadow_decisions.labels(policy, would).inc()

    def put_in_force(self, version: str) -> None:
        """Say which policies are in force, by the digest of their text."""
        self.policies_in_force.clear()
        self.policies_in_force.labels(version).set(1)

    def text(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self.registry)


def _by(relationship: str) -> str:
    """Who acted: the patient, or somebody in their stead."""
    return "representative" if relationship else "patient"
