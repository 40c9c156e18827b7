"""What the command line says to somebody who used it in a way that it does not know: in words of the verb, with a hint."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

_CHOICE = re.compile(r"invalid choice: '?([^' ]+)'? \(choose from (.*)\)")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_OPTION = re.compile(r"--[a-z][a-z-]+")
_CONFIGURATIONS = frozenset({".yaml", ".yml"})
_ASKS_FOR_HELP = frozenset({"help", "?"})


class Arguments(argparse.ArgumentParser):
    """Reads arguments. Whatever is wrong is told by the reader of the verb, whose usage is then shown, with exit code 2."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As in argparse, but nothing is left over for whoever is above."""
        found, left = super().parse_known_args(args, namespace)
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)}.{self._meant_by(left[0])}")
        return found, left

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and what may have been meant; exit code 2."""
        choice = _CHOICE.search(message)
        if choice is not None:
            word, known = choice[1], _WORD.findall(choice[2])
            message = f"there is no '{word}' here: {', '.join(known)}.{self._of_words(word, known)}"
        super().error(message)

    def _of_words(self, word: str, known: Sequence[str]) -> str:
        if word in _ASKS_FOR_HELP:
            return f" '{self.prog} --help' says what each does"
        if Path(word).suffix in _CONFIGURATIONS:
            return f" Its file is named behind the verb: '-c {word}'"
        # Only who mistypes pays for the import.
        from gateway.yaml_source import did_you_mean

        return did_you_mean(word, known)

    def _meant_by(self, word: str) -> str:
        """A hint for an argument that nobody reads."""
        shown = self.format_help()
        if not word.startswith("-"):
            is_configuration = Path(word).suffix in _CONFIGURATIONS and "-c FILE" in shown
            return f" Did you mean '-c {word}'?" if is_configuration else ""
        from gateway.yaml_source import did_you_mean

        return did_you_mean(word.partition("=")[0], sorted(set(_OPTION.findall(shown))))
