"""Reads Python files and names what is banned in them: ways by which data become code, and worse.

It looks at names and not at types, so it errs on the side of too much; what is meant is on the
allow list of ``test_bans.py``, with a reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MODULES = {
    **dict.fromkeys(
        ("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"),
        "unpickling",
    ),
    **dict.fromkeys(("yaml", "ruamel"), "yaml"),
    "random": "random",
    "xml": "xml",
}
"""Modules, with the word under which they are banned."""

CALLS = {
    "torch.load": "unpickling",
    "numpy.load": "np.load",
    "np.load": "np.load",
    "eval": "code",
    "exec": "code",
    "compile": "code",
    "builtins.eval": "code",
    "builtins.exec": "code",
    "os.system": "shell",
    "os.popen": "shell",
    "subprocess.getoutput": "shell",
    "subprocess.getstatusoutput": "shell",
    "tempfile.mktemp": "mktemp",
    "ssl._create_unverified_context": "no TLS check",
    "shutil.unpack_archive": "unpacking",
}
METHODS = {"extractall": "unpacking", "extract": "unpacking"}
IMPORTING = ("__import__", "import_module", "importlib.import_module", "importlib.__import__")
KEYWORDS = {
    ("shell", True): "shell",
    ("allow_pickle", True): "unpickling",
    ("verify", False): "no TLS check",
    ("check_hostname", False): "no TLS check",
}
SECRET = re.compile(r"(^|_)(h?mac|token|seed|secret|password|passphrase|seal)$")
"""Names of what must be compared in constant time."""


@dataclass(frozen=True)
class Found:
    """One banned thing: where, under which word, and the source line."""

    path: str
    line: int
    word: str
    text: str


def banned(source: str, path: str) -> list[Found]:
    """Return everything that is banned in a source text, in order."""
    tree = ast.parse(source, path)
    lines, names = source.splitlines(), _imported(tree)
    found = {
        Found(path, node.lineno, word, lines[node.lineno - 1].strip())
        for node in ast.walk(tree)
        for word in _words(node, names)
    }
    return sorted(found, key=lambda one: (one.line, one.word))


def banned_below(root: Path, *folders: str) -> list[Found]:
    """Return everything that is banned in the Python files of some folders."""
    return [
        one
        for folder in folders
        for path in sorted((root / folder).rglob("*.py"))
        for one in banned(path.read_text(encoding="utf-8"), path.relative_to(root).as_posix())
    ]


def _words(node: ast.AST, names: dict[str, str]) -> Iterator[str]:
    """Yield the words under which a node is banned."""
    if isinstance(node, ast.Import):
        yield from (MODULES[top] for item in node.names if (top := _top(item.name)) in MODULES)
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        if (top := _top(node.module or "")) in MODULES:
            yield MODULES[top]
    elif isinstance(node, ast.Call):
        yield from _of_call(node, names)
    elif isinstance(node, ast.Compare) and _compares_a_secret(node):
        yield "== on a secret"
    elif isinstance(node, ast.Attribute) and _name(node, names) == "ssl.CERT_NONE":
        yield "no TLS check"
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Attribute):
                yield from _keyword(target.attr, node.value)


def _of_call(node: ast.Call, names: dict[str, str]) -> Iterator[str]:
    """Yield the words under which a call is banned."""
    name = _name(node.func, names)
    if name in CALLS:
        yield CALLS[name]
    elif name in IMPORTING and not _is_literal(node):
        yield "import by name"
    elif isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        yield METHODS[node.func.attr]
    for keyword in node.keywords:
        yield from _keyword(keyword.arg or "", keyword.value)


def _keyword(name: str, value: ast.expr) -> Iterator[str]:
    """Yield the word under which a keyword is banned; one that is no constant counts as the worst.

    A ``verify`` that is a trust store, and a ``shell`` that is a variable, are told apart by hand.
    """
    for (banned_name, worst), word in KEYWORDS.items():
        if name == banned_name and isinstance(value, ast.Constant) and value.value is worst:
            yield word


def _compares_a_secret(node: ast.Compare) -> bool:
    """Whether ``==`` or ``!=`` stands beside something that is named like a secret."""
    if not any(isinstance(one, ast.Eq | ast.NotEq) for one in node.ops):
        return False
    sides = [node.left, *node.comparators]
    if any(isinstance(side, ast.Constant) for side in sides):
        return False
    return any(SECRET.search(_last(side)) for side in sides)


def _imported(tree: ast.Module) -> dict[str, str]:
    """Return what each imported name stands for: after ``from os import system``, ``os.system``."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({item.asname or _top(item.name): item.name for item in node.names})
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for item in node.names:
                names[item.asname or item.name] = f"{node.module}.{item.name}"
    return names


def _name(node: ast.expr, names: dict[str, str]) -> str:
    """Return the dotted name of an expression, with what was imported spelt out; "" for none."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        before = _name(node.value, names)
        return f"{before}.{node.attr}" if before else ""
    return ""


def _last(node: ast.expr) -> str:
    """Return the last name of an expression: of ``self._token`` and of ``self._token()`` alike."""
    if isinstance(node, ast.Call):
        return _last(node.func)
    if isinstance(node, ast.Subscript):
        return _last(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _top(module: str) -> str:
    return module.split(".")[0]


def _is_literal(node: ast.Call) -> bool:
    """Whether the first argument of a call is a constant."""
    return bool(node.args) and isinstance(node.args[0], ast.Constant)
