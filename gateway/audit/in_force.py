"""Which configuration and policies are in force, on record: at the start, and at every reload with what was before."""

from hashlib import sha256
from pathlib import Path

from authz.events import ConfigurationInForce, Emit

_NONE = "none"


class InForce:
    """Tells of configuration and policies that come into force."""

    def __init__(self, file: Path, emit: Emit) -> None:
        self._emit = emit
        self._policies = _NONE
        self._configuration = _digest(file)

    def begins(self, policies: str | None) -> None:
        """The server starts with these policies; None where there are none."""
        self._told("start", "changed", policies or _NONE)

    def changes(self, policies: str) -> None:
        """A reload put these in force, whether or not they are others."""
        self._told("reload", "same" if policies == self._policies else "changed", policies)

    def stays(self) -> None:
        """A reload was refused: what was in force still is."""
        self._told("reload", "refused", self._policies)

    def _told(self, mode: str, outcome: str, policies: str) -> None:
        old, self._policies = self._policies, policies
        self._emit(ConfigurationInForce(mode, outcome, old, policies, self._configuration))


def _digest(file: Path) -> str:
    """The digest of the configuration; empty where it cannot be read again: the server was made without a file."""
    try:
        return f"sha256:{sha256(file.read_bytes()).hexdigest()}"
    except OSError:
        return ""
