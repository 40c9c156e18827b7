"""`python -m gateway` is `securus`."""

import sys

from gateway.cli import main

sys.exit(main())
