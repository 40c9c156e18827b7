"""An AuditEvent as a syslog message: RFC 5424, framed by octet counting (RFC 5425 4.3, RFC 6587 3.4.1).

PRI 85 is facility 10, severity 5, as ITI-20 asks. Its MSGID for DICOM's XML would be wrong here: the message is FHIR.
PROCID is nil: what is delivered again, by another process, is the same message to the last byte, so that a receiver can
tell by that, as by the id of the event, that it has it already.
"""

import json
import re

from gateway.audit.events.codes import Json

_PRIORITY = 85
APP_NAME = "securus"
MESSAGE_ID = "FHIR+AuditEvent"
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")
_NIL = "-"


def syslog_message(event: Json, *, host: str) -> bytes:
    """The message, in ASCII: JSON escapes whatever is not. host is what the issuer is called by."""
    hostname = _UNPRINTABLE.sub("", host)[:255] or _NIL
    at = str(event.get("recorded", "")) or _NIL
    header = f"<{_PRIORITY}>1 {at} {hostname} {APP_NAME} {_NIL} {MESSAGE_ID} {_NIL} "
    return header.encode("ascii") + json.dumps(event, separators=(",", ":")).encode("ascii")


def framed(message: bytes) -> bytes:
    """The message behind its length."""
    return b"%d %b" % (len(message), message)
