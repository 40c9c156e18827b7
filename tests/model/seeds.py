"""The same worlds on every run: a law is played over the first seeds there are.

A world grows from its seed alone, so there is nothing to shrink, and what a property test draws would depend on which
modules are loaded: the tests that ask whether enough was seen must not.
"""

import inspect
from collections.abc import Callable
from typing import Concatenate, ParamSpec

P = ParamSpec("P")


def over_seeds(
    count: int,
) -> Callable[[Callable[Concatenate[int, P], None]], Callable[P, None]]:
    """A decorator that plays a law over the seeds 0 to `count` - 1; its other arguments stay the test's."""

    def law(play: Callable[Concatenate[int, P], None]) -> Callable[P, None]:
        def over_all(*args: P.args, **named: P.kwargs) -> None:
            for seed in range(count):
                play(seed, *args, **named)

        of_play = inspect.signature(play)
        rest = list(of_play.parameters.values())[1:]
        over_all.__name__, over_all.__doc__ = play.__name__, play.__doc__
        over_all.__signature__ = of_play.replace(parameters=rest)  # type: ignore[attr-defined]
        return over_all

    return law
