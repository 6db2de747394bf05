"""Groups of commands; their help tells each command's whole sentence, over lines where it must."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

WHOLE = 1000
"""More letters than any sentence has; the library cuts it at the width of the terminal."""


class Group(TyperGroup):
    """A group whose list of commands is wrapped and not cut off."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands that are not hidden, each with its sentence."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [
            (name, command.get_short_help_str(WHOLE))
            for name, command in found
            if command is not None and not command.hidden
        ]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)
