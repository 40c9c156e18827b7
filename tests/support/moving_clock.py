"""`securus` whose clock can be moved while it runs: `python -m tests.support.moving_clock FILE serve -c …`.

The file holds eight bytes, the seconds to add as a little-endian double; move() writes them.
"""

import mmap
import struct
import sys
import time
from pathlib import Path

_FORM = struct.Struct("<d")


def move(file: Path, seconds: float) -> None:
    """Move the clock of the process that runs on this file; makes the file."""
    with file.open("r+b" if file.exists() else "wb") as opened:
        opened.write(_FORM.pack(seconds))


def main() -> int:
    """Run it with every look at the clock moved by what the file says then."""
    with Path(sys.argv.pop(1)).open("rb") as file:
        shared = mmap.mmap(file.fileno(), _FORM.size, prot=mmap.PROT_READ)
    right = time.time
    time.time = lambda: right() + _FORM.unpack_from(shared)[0]
    from gateway.cli import main as securus  # whoever keeps time.time as it is keeps this one

    return securus()


if __name__ == "__main__":
    sys.exit(main())
