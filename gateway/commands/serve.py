"""securus serve"""

import argparse
import asyncio
import gc
import os

from gateway.commands.answers import OK, add_verb
from gateway.commands.verbs import VERBS
from gateway.config.document import MOST_WORKERS, load
from gateway.log_lines import log_to_stderr
from gateway.workers.worker import Worker


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    verb = add_verb(verbs, "serve", VERBS["serve"].help, _serve)
    said = "processes that share the listeners; without it what the configuration says"
    verb.add_argument("--workers", type=_workers, metavar="N", help=said)
    verb.add_argument("--as-worker", type=Worker.of, help=argparse.SUPPRESS)  # of a supervisor's own use


def _serve(options: argparse.Namespace) -> int:
    worker: Worker | None = options.as_worker
    settings = load(options.config, os.environ, copy=None if worker is None else worker.configuration)
    log_to_stderr(worker=None if worker is None else worker.number)
    count = options.workers or settings.workers
    if worker is None and count > 1:
        from gateway.workers.supervisor import supervise  # which serves nobody itself

        return asyncio.run(supervise(settings, count=count))
    gc.disable()  # until the gateway is ready: nothing that opening makes is garbage
    import uvloop

    from gateway.serving import serve

    uvloop.run(serve(settings, worker=worker))
    return OK


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1 to {MOST_WORKERS}")
    return int(text)
