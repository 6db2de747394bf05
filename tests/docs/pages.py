"""The pages of the documentation, cut into what tests look at: blocks, commands, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(DOCS.rglob("*.md")),
]
RUN_MARK = "<!-- a test runs this -->"


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block: its page, language and text, and whether a test runs it."""

    page: Path
    language: str
    text: str
    is_marked: bool

    @property
    def commands(self) -> list[list[str]]:
        """The ``hospitium`` commands of a shell block, as words after the name."""
        if self.language not in ("bash", "console", "bat"):
            return []
        lines = [line.split(" > ")[0].strip() for line in self.text.splitlines()]
        return [
            shlex.split(line, comments=True)[1:] for line in lines if line.startswith("hospitium ")
        ]


def name_of(page: Path) -> str:
    """Return a page's path inside the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    pattern = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page=page,
            language=found[1],
            text=found[2],
            is_marked=text[: found.start()].rstrip().endswith(RUN_MARK),
        )
        for found in pattern.finditer(text)
    ]


def all_blocks(*languages: str) -> list[Block]:
    """Return the blocks of these languages of all pages."""
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links and pictures."""
    yield from re.findall(r"\]\(([^)\s]+)\)", prose(page))


def inline_commands(page: Path) -> list[list[str]]:
    """Return the ``hospitium`` commands that stand in the prose, as words after the name."""
    spans = re.findall(r"`(hospitium [^`]+)`", prose(page))
    return [shlex.split(re.sub(r"\s+", " ", span))[1:] for span in spans]
