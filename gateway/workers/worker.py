"""One worker as its supervisor names it: its number, its end of the line between both, and the folder of them all."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process. line is the descriptor of its end of the line; folder is readable by its owner only."""

    number: int
    line: int
    folder: Path

    @classmethod
    def of(cls, argument: str) -> "Worker":
        """The worker that the internal argument of the command line names. Raises ValueError."""
        number, line, folder = argument.split(":", 2)
        return cls(int(number), int(line), Path(folder))

    @property
    def argument(self) -> str:
        """What of() reads."""
        return f"{self.number}:{self.line}:{self.folder}"

    @property
    def socket(self) -> Path:
        """The socket at which this worker answers what operators ask; only the supervisor connects to it."""
        return self.folder / f"{self.number}.sock"

    @property
    def configuration(self) -> Path:
        """The configuration as the supervisor read it: one that was edited since must not count for some workers."""
        return self.folder / "gateway.yaml"
