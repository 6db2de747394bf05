"""Every command that a page shows exists, with these options; a marked part of them runs."""

import os

import pytest
import typer
from pages import PAGES, blocks, inline_commands, name_of
from typer.testing import CliRunner

from hospitium.cli.main import app

ROOT_COMMAND = typer.main.get_command(app)
ROOT_WORDS = ("COMMAND", "--help", "--version")
WITH_COMMANDS = [page for page in PAGES if any(block.commands for block in blocks(page))]
WITH_INLINE = [page for page in PAGES if inline_commands(page)]
MARKED = [page for page in PAGES if any(block.is_marked for block in blocks(page))]


def parse(words):
    """Parse words as the command line does; raise what it would say."""
    command, context = ROOT_COMMAND, None
    while True:
        context = command.make_context(command.name, list(words), parent=context)
        if not hasattr(command, "commands"):
            return
        rest = [*context._protected_args, *context.args]
        _, command, words = command.resolve_command(context, rest)


def option_names(words):
    """Return the options that the command of these words has, with those of its groups."""
    command, names = ROOT_COMMAND, set()
    names |= {name for item in command.params for name in (*item.opts, *item.secondary_opts)}
    for word in words:
        if word in getattr(command, "commands", {}):
            command = command.commands[word]
            names |= {o for item in command.params for o in (*item.opts, *item.secondary_opts)}
    return names, command


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_every_command_of_a_block_is_understood(page):
    for words in [words for block in blocks(page) for words in block.commands]:
        parse(words)


@pytest.mark.parametrize("page", WITH_INLINE, ids=name_of)
def test_every_command_in_the_prose_exists_with_its_options(page):
    for words in inline_commands(page):
        known, command = option_names(words)
        used = {word for word in words if word.startswith("--")}
        assert used <= known | {"--help"}, words
        assert command is not ROOT_COMMAND or words[0] in ROOT_WORDS, words


@pytest.mark.parametrize("page", MARKED, ids=name_of)
def test_marked_commands_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(os.environ, "HOSPITIUM_HOME", str(tmp_path / "home"))
    for words in [words for block in blocks(page) if block.is_marked for words in block.commands]:
        found = CliRunner().invoke(app, words)
        assert found.exit_code == 0, (words, found.output, found.exception)


def test_some_commands_are_marked():
    assert MARKED


def test_an_unknown_option_is_noticed():
    with pytest.raises(Exception, match="No such option"):
        parse(["demo", "--no-such-option"])
