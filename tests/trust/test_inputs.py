"""Every place that turns bytes into values is in the table of the page on the gate, and no other.

So a new parser cannot be added without somebody saying whose bytes it reads and what checks them.
"""

import ast
import re
from functools import cache

import pytest
from own_code import ROOT, trees

PAGE = ROOT / "docs" / "concepts" / "gate.md"
LAYERS = ("wire", "engines", "site", "state", "operations", "plan", "federation.py", "types.py")
PARSERS = {
    "json.loads", "json.load", "tomllib.loads", "tomllib.load", "base64.b64decode",
    "base64.b32decode", "bytes.fromhex", "float.fromhex", "binascii.unhexlify", "np.frombuffer",
    "numpy.frombuffer", "np.load", "struct.unpack", "zlib.decompress", "gzip.decompress",
    "parsedate_to_datetime", "urllib.parse.parse_qs", "ast.literal_eval",
}  # fmt: skip
LAST_NAMES = {name.rpartition(".")[2] for name in PARSERS}
METHODS = {"json", "unpack", "fromstring"}
"""Of an answer, of a struct, of a parser."""


@cache
def parsers():
    """Return every file that parses, but those of `imaging` and of the screens."""
    found = set()
    for path, tree in trees():
        name = path.relative_to(ROOT / "src" / "hospitium").as_posix()
        if name.split("/")[0] in LAYERS and any(_parsing(tree)):
            found.add(name)
    return found


def _parsing(tree):
    """Yield the line of each call of a parser."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _parses(node.func):
            yield node.lineno


def _parses(function):
    if isinstance(function, ast.Attribute) and function.attr in METHODS:
        return True
    return getattr(function, "attr", getattr(function, "id", "")) in LAST_NAMES and (
        ast.unparse(function) in PARSERS
    )


def rows():
    """Return the rows of the page's tables: file, whose bytes, what checks them."""
    text = PAGE.read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [(row[0].strip("`"), *row[1:]) for row in cells if row[0].endswith(".py`")]


def test_every_parser_is_in_the_table_and_the_table_names_no_other():
    listed = {row[0] for row in rows()}
    assert len(listed) == len(rows()), "a file is listed twice"
    assert parsers() - listed == set(), "not in docs/concepts/gate.md"
    assert listed - parsers() == set(), "in docs/concepts/gate.md and not in the code"


def test_every_row_says_whose_bytes_and_what_checks_them():
    assert len(rows()) > 40
    for row in rows():
        assert len(row) == 3 and all(row), row


def test_the_gates_of_the_page_exist():
    """A gate is a function of ours, or an error by its class."""
    names = {
        node.name
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    for row in rows():
        for gate in re.findall(r"`([A-Za-z_.]+)`", row[2]):
            assert gate.split(".")[-1] in names, (row, gate)


@pytest.mark.parametrize("source", ["json.loads(x)", "response.json()", "bytes.fromhex(x)"])
def test_a_planted_parser_is_seen(source):
    assert list(_parsing(ast.parse(f"def f(x):\n    return {source}"))) == [2]
