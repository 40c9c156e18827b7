"""Every OAuth error that the code of authz/ can give, read from its source: code and pattern of the description.

A pattern is the text with … for what is filled in. What a function is handed and passes on as a description is
looked for where the function is called.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from authz.protocol.errors import ErrorCode
from tests.support.gateway import ROOT

_PASSED_ON = {"str(error)", "error.description"}
"""What was said by another error, which is found at its own place."""
_SAID_OF_TOKENS = {
    "authz/protocol/jose.py": "invalid_client, invalid_dpop_proof, invalid_request_object",
    "authz/protocol/jwk.py": "invalid_client, invalid_dpop_proof, invalid_request_object",
    "authz/protocol/dpop.py": "invalid_dpop_proof",
}
"""Whose JoseError becomes the description of which errors; in other files it is for the log only."""
_FOR_THE_LOG = {"read_key_set"}
"""Functions whose JoseError is the detail of an error, never its description."""
_FILLED = "…"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Wrapper:
    """A function that makes an error of a description that it is handed, or of one that it makes itself.

    description is which argument it is, or the pattern that the function always gives.
    """

    description: int | str
    code: str | None
    code_argument: int | None


def errors() -> dict[tuple[str, str], set[str]]:
    """(code, pattern) → the files that give it. Raises AssertionError for a description that cannot be read."""
    trees = {
        path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "authz").rglob("*.py"))
    }
    shared = {
        name: wrapper
        for tree in trees.values()
        for name, wrapper in _wrappers(tree).items()
        if not name.startswith("_")
    }
    found: dict[tuple[str, str], set[str]] = {}
    for path, tree in trees.items():
        name = str(path.relative_to(ROOT))
        for code, pattern in _of_file(tree, shared | _wrappers(tree), name):
            found.setdefault((code, pattern), set()).add(name)
    return found


def _wrappers(tree: ast.Module) -> dict[str, Wrapper]:
    functions = [n for n in ast.walk(tree) if isinstance(n, Function)]
    return {f.name: wrapper for f in functions if (wrapper := _wrapper(f)) is not None}


def _of_file(tree: ast.Module, wrappers: dict[str, Wrapper], name: str) -> Iterator[tuple[str, str]]:
    functions = [n for n in ast.walk(tree) if isinstance(n, Function)]
    owner = {id(node): f for f in functions for node in ast.walk(f)}  # the innermost comes last
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = _name(node.func)
        inside = owner.get(id(node))
        if called == "OAuthError" and (inside is None or inside.name not in wrappers):
            yield from _pairs(_code(node.args[0]), node.args[1], inside, f"{name}:{node.lineno}")
        elif called in wrappers:
            wrapper = wrappers[called]
            code = wrapper.code
            if wrapper.code_argument is not None and len(node.args) > wrapper.code_argument:
                code = (
                    _code(node.args[wrapper.code_argument]) or wrapper.code
                )  # one that is passed on: found where it begins
            if isinstance(wrapper.description, str):
                assert code is not None, f"{name}:{node.lineno}: the code cannot be read from the source"
                yield code, wrapper.description
            else:
                yield from _pairs(code, node.args[wrapper.description], inside, f"{name}:{node.lineno}")
        elif called == "RequestError":
            yield from _pairs("invalid_request", node.args[1], inside, f"{name}:{node.lineno}")
        elif called == "JoseError" and name in _SAID_OF_TOKENS:
            if inside is not None and inside.name in _FOR_THE_LOG:
                continue
            yield from _pairs(_SAID_OF_TOKENS[name], node.args[0], inside, f"{name}:{node.lineno}")


def _wrapper(function: Function) -> Wrapper | None:
    names = [argument.arg for argument in function.args.args if argument.arg != "self"]
    defaults = dict(zip(reversed(names), reversed(function.args.defaults), strict=False))
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and _name(node.func) == "OAuthError" and len(node.args) > 1:
            code, description = node.args[:2]
            if not isinstance(description, ast.Name) or description.id not in names:
                if not (isinstance(code, ast.Name) and code.id in names):
                    continue
                pattern = _pattern(description, function)
                assert pattern is not None, f"{function.name}: the description cannot be read from the source"
                default = defaults.get(code.id)
                return Wrapper(pattern, None if default is None else _code(default), names.index(code.id))
            if isinstance(code, ast.Name) and code.id in names:
                default = defaults.get(code.id)
                known = None if default is None else _code(default)
                return Wrapper(names.index(description.id), known, names.index(code.id))
            return Wrapper(names.index(description.id), _code(code), None)
    return None


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _code(node: ast.expr) -> str | None:
    """The error code that an expression names; None for one that is passed on."""
    text = ast.unparse(node)
    return str(ErrorCode[text.removeprefix("ErrorCode.")]) if text.startswith("ErrorCode.") else None


def _pairs(
    code: str | None, node: ast.expr, inside: Function | None, place: str
) -> Iterator[tuple[str, str]]:
    if ast.unparse(node) in _PASSED_ON:
        return
    pattern = _pattern(node, inside)
    assert pattern is not None, f"{place}: the description cannot be read from the source"
    assert code is not None, f"{place}: the code cannot be read from the source"
    yield code, pattern


def _pattern(node: ast.expr, inside: Function | None) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [
            _pattern(v, inside) if isinstance(v, ast.Constant) else _filled(v, inside) for v in node.values
        ]
        return "".join(part or _FILLED for part in parts)
    if isinstance(node, ast.Name):
        return _assigned(node.id, inside)
    return None


def _filled(node: ast.expr, inside: Function | None) -> str:
    value = node.value if isinstance(node, ast.FormattedValue) else node
    return (_assigned(value.id, inside) if isinstance(value, ast.Name) else None) or _FILLED


def _assigned(name: str, inside: Function | None) -> str | None:
    """The text that a function gives to a local name, where it is one constant text."""
    if inside is None:
        return None
    values = [
        node.value
        for node in ast.walk(inside)
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == name for target in node.targets)
    ]
    texts = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
    return texts[0] if len(values) == len(texts) == 1 else None
