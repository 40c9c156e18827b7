"""A disk for a store that can be filled and emptied while a gateway writes to it.

A tmpfs of its own where we may mount one. Else the limit of what processes may write to a file (RLIMIT_FSIZE): they
meet EFBIG instead of ENOSPC, and nobody else does.
"""

import os
import resource
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_BYTES = 64 * 1024 * 1024
_LEAST = 4096  # bytes of a file that can still be written under the limit


@dataclass(frozen=True)
class SmallDisk:
    """A folder on it."""

    folder: Path
    is_mounted: bool

    @contextmanager
    def full(self, processes: Sequence[int]) -> Iterator[None]:
        """No room for what these processes write; inside of it there is none for anybody where it is a disk."""
        if self.is_mounted:
            ballast = self.folder / "ballast"
            try:
                with suppress(OSError), ballast.open("wb", buffering=0) as file:
                    while file.write(bytes(_LEAST)):
                        pass
                yield
            finally:
                ballast.unlink()
            return
        before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in processes}
        try:
            for pid, (_, hard) in before.items():
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (_LEAST, hard))
            yield
        finally:
            for pid, limits in before.items():
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Such a disk at folder, which is made."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_BYTES},mode=700", "tmpfs", str(folder)]
    is_mounted = (
        os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0
    )
    try:
        yield SmallDisk(folder, is_mounted)
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
