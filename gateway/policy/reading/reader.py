"""Reading YAML nodes into values, with a problem at the place of every mistake. Used by gateway.policy.language."""

from collections.abc import Iterable

from gateway.yaml_source import Entry, Mapping, Node, Problem, Scalar, Sequence, did_you_mean


class Reader:
    """Collects problems while values are read; a value that is wrong reads as a harmless one."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def problem(self, node: Node | Entry, message: str, *, warning: bool = False) -> None:
        """Note a problem at a node."""
        self.problems.append(node.place.problem(message, warning=warning))

    def mapping(self, node: Node | None, what: str) -> Mapping | None:
        """The node as a mapping."""
        if isinstance(node, Mapping):
            return node
        if node is not None:
            self.problem(node, f"{what} must be a mapping, found {node.kind}")
        return None

    def items(self, node: Node | None, what: str) -> list[Node]:
        """The node as a list; a single value is a list of one."""
        if node is None:
            return []
        if isinstance(node, Sequence):
            return list(node)
        if isinstance(node, Scalar):
            return [node]
        self.problem(node, f"{what} must be a list, found {node.kind}")
        return []

    def text(self, node: Node | None, what: str) -> str:
        """The node as text that is not empty; '' when it is not."""
        if isinstance(node, Scalar) and node.value is not None and node.text.strip():
            return node.text
        if isinstance(node, Scalar) and node.value is not None:
            self.problem(node, f"{what} must not be empty")
        elif node is not None:
            self.problem(node, f"{what} must be text, found {node.kind}")
        return ""

    def flag(self, node: Node | None, what: str) -> bool:
        """The node as true or false; absent is false."""
        if node is None:
            return False
        if isinstance(node, Scalar) and isinstance(node.value, bool):
            return node.value
        self.problem(node, f"{what} must be true or false, found {node.kind}")
        return False

    def word(self, node: Node | None, what: str, choices: Iterable[str]) -> str:
        """The node as one of choices; '' when it is not."""
        found = self.text(node, what)
        known = list(choices)
        if found and found not in known and node is not None:
            self.problem(node, f"unknown {what} '{found}'.{did_you_mean(found, known)}")
            return ""
        return found

    def keys(self, mapping: Mapping, what: str, known: Iterable[str], later: Iterable[str] = ()) -> None:
        """Note every key that is not known; keys of later versions are named as such, never passed over."""
        known, later = list(known), set(later)
        for entry in mapping:
            if entry.key in later:
                self.problem(entry, f"'{entry.key}' is not supported by this version")
            elif entry.key not in known:
                self.problem(entry, f"{what} has no key '{entry.key}'.{did_you_mean(entry.key, known)}")
