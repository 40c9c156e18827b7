"""The log that operators read: one JSON object a line, with one place where secrets and ids are taken out.

No field takes a value from a caller but through redact(), which is the only way into a line.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime

_STANDARD = frozenset(vars(logging.makeLogRecord({})))
_SECRETS = re.compile(
    r"(?i)(eyJ[\w-]{8,}(?:\.[\w-]*){1,4}|(?:dpop|bearer|basic)\s+[^\s,]{8,}"
    r"|(?:access_token|refresh_token|code|client_assertion|password|request_uri|dpop|authorization|cookie)[=:]\s*[^\s&,;]+"
    r"|urn:ietf:params:oauth:request_uri:[\w-]+|(?<![\w-])[\w-]{43}(?![\w-]))"
)
_QUERY = re.compile(r"\?[^\s'\"]*")
_REFERENCE = re.compile(r"\b([A-Z][A-Za-z]+)/[A-Za-z0-9.\-]{1,64}")
_FIELDS = frozenset(
    {
        "cause", "code", "reason", "route", "interaction", "status", "interaction_id", "rule", "file", "listener",
        "address", "port", "signal", "seconds", "count", "kid", "state", "grant_type", "client_id", "outcome", "policy",
        "version", "endpoint", "detail", "worker", "peer",
    }
)  # fmt: skip


def redact(text: str) -> str:
    """The text without tokens, codes, query strings and ids of resources."""
    text = _SECRETS.sub("[secret]", text)
    text = _QUERY.sub("?[query]", text)
    return _REFERENCE.sub(r"\1/[id]", text)[:2000]


class JsonLines(logging.Formatter):
    """One JSON object a line; of the extra fields only those that are known. worker is the number of the process."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        message = record.getMessage()
        if record.name == "asyncio":
            message = message.partition("\n")[0]  # behind it stand tasks, with the texts of their exceptions
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(message),
        }
        if self._worker is not None:
            line["worker"] = self._worker
        for name, value in vars(record).items():
            if name not in _STANDARD and name in _FIELDS:
                line[name] = value if isinstance(value, int | float) else redact(str(value))
        if record.exc_info and record.exc_info[0] is not None:
            # The type and the place, not the text: an exception may quote what a caller sent.
            traceback = record.exc_info[2]
            while traceback is not None and traceback.tb_next is not None:
                traceback = traceback.tb_next
            line["exception"] = record.exc_info[0].__name__
            if traceback is not None:
                line["at_line"] = (
                    f"{traceback.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{traceback.tb_lineno}"
                )
        return json.dumps(line, ensure_ascii=False)


def log_to_stderr(level: int = logging.INFO, *, worker: int | None = None) -> None:
    """Send every log of the process, redacted, to stderr; of one of several processes with its number."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(worker))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)  # a library that warns of a caller's certificate writes no line of its own
