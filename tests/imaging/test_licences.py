"""No GPL-licensed distribution is installed with ``hospitium[site]``: we are Apache-2.0."""

import re
import tomllib
from collections.abc import Iterable
from email.message import Message
from importlib.metadata import metadata, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
# LGPL may be linked to; GPL "WITH" an exception (GCC's run-time library) may be too
GPL = re.compile(r"(?<![A-Za-z])A?GPL(?!\S*\s+WITH\b)|(?<!Lesser )General Public License", re.I)


def is_gpl(found: Message) -> bool:
    """Return whether the declared licence leaves no choice but the GPL or AGPL.

    The SPDX expression decides; where there is none, the classifiers and the first line of the
    free text, any of which is enough. A free text that is a whole licence file is not searched.
    """
    expression = found.get("License-Expression")
    if expression:
        needed = re.split(r"\bAND\b(?![^(]*\))", expression)
        return any(all(map(GPL.search, re.split(r"\bOR\b", one))) for one in needed)
    words = [line for line in found.get_all("Classifier", []) if line.startswith("License ::")]
    words += (found.get("License") or "").splitlines()[:1]
    return any(GPL.search(line.replace("Library or Lesser", "Lesser")) for line in words)


def site_dependencies() -> set[str]:
    """Return the names of all that ``hospitium[site]`` brings on this machine, itself left out."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    pending = _active(project["dependencies"] + project["optional-dependencies"]["site"], {""})
    seen: set[tuple[str, frozenset[str]]] = set()
    while pending:
        wanted = pending.pop()
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key not in seen:
            seen.add(key)
            pending += _active(requires(wanted.name) or [], wanted.extras | {""})
    return {name for name, _ in seen}


def _active(lines: Iterable[str], extras: set[str]) -> list[Requirement]:
    found = [Requirement(line) for line in lines]
    return [
        one
        for one in found
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras)
    ]


def test_no_site_dependency_is_gpl():
    names = site_dependencies()
    assert {"numpy", "pydicom", "python-gdcm", "jinja2", "markupsafe"} <= names
    assert [name for name in sorted(names) if is_gpl(metadata(name))] == []


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        ("Classifier", "License :: OSI Approved :: GNU General Public License v3 (GPLv3)", True),
        ("Classifier", "License :: OSI Approved :: GNU Affero General Public License v3", True),
        ("Classifier", "License :: OSI Approved :: GNU Lesser General Public License v3", False),
        ("License", "GPL V3.0", True),
        ("License", "LGPL-2.1", False),
        ("License", "MIT\nbundles libgfortran: GPL with an exception", False),
        ("License-Expression", "GPL-3.0-or-later", True),
        ("License-Expression", "MIT AND AGPL-3.0-only", True),
        ("License-Expression", "GPL-3.0-only AND (MIT OR Apache-2.0 WITH LLVM-exception)", True),
        ("License-Expression", "MIT OR GPL-2.0-only", False),
        ("License-Expression", "MIT AND (GPL-2.0-only OR BSD-2-Clause)", False),
        ("License-Expression", "BSD-3-Clause AND (GPL-3.0-only WITH GCC-exception-3.1)", False),
    ],
)
def test_a_gpl_licence_is_told_from_others(field, text, expected):
    found = Message()
    found[field] = text
    assert is_gpl(found) is expected
