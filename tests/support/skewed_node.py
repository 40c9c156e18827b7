"""`securus` on a machine whose clock is wrong: `python -m tests.support.skewed_node SECONDS serve -c …`."""

import sys
import time


def main() -> int:
    """Run it with every look at the clock moved by so many seconds."""
    seconds, right = int(sys.argv.pop(1)), time.time
    time.time = lambda: right() + seconds
    from gateway.cli import main as securus  # whoever keeps time.time as it is keeps this one

    return securus()


if __name__ == "__main__":
    sys.exit(main())
