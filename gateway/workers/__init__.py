"""Several processes for one gateway: a supervisor that starts and watches them, and what it shows of them together."""
