"""From a line of the log to its AuditEvents: the one table of which record becomes which."""

from gateway.audit.events import security
from gateway.audit.events.codes import Json
from gateway.audit.events.consent_decisions import consent_decision
from gateway.audit.events.disclosures import disclosure
from gateway.audit.events.record import Record, Recorder, read_record
from gateway.audit.events.rest import access, begun, delivered


def audit_events(line: bytes, recorder: Recorder, *, chain: str = "") -> list[Json]:
    """The AuditEvents of one line, each with an id that the same line always gives. Raises ValueError for no JSON."""
    return events_of(read_record(line, recorder, chain=chain))


def events_of(record: Record) -> list[Json]:
    """The AuditEvents of a record: at least one, and one more for each further patient, consent decision, disclosure."""
    match record.event:
        case "access":
            return [*access(record), *consent_decision(record), *disclosure(record)]
        case "delivered":
            return [*delivered(record), *disclosure(record)]
        case "write-begins":
            return begun(record)
        case "token-issued":
            return security.token_issued(record)
        case _:
            return security.security_event(record)
