"""What a site says of a task that failed is of a closed list, whatever the error's text says."""

import ast
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hospitium
from hospitium.engines.hub.site_work import error_words
from hospitium.engines.site_worker import public_words
from hospitium.errors import HospitiumError, SiteError
from hospitium.site.leaving import words_of
from hospitium.site.public_words import FAILURES, OTHER, closed, failed_with

NAME = "ANNA^MEIER 1.2.840.113619.2.55.3 /data/patients/7"
ROOT = Path(hospitium.__file__).parent


def raising(error):
    def work():
        raise error

    return work


class CodedError(HospitiumError):
    code = NAME


@pytest.mark.parametrize(
    "error",
    [
        SiteError(NAME),
        SiteError("there are no training cases of " + NAME),
        CodedError("x"),
        RuntimeError(NAME),
        type(NAME, (OSError,), {})(NAME),
        type(NAME, (SiteError,), {})(NAME),
    ],
    ids=["words", "longer words", "code", "text", "class", "class of words"],
)
def test_no_word_of_an_error_travels_and_the_staff_can_read_it(tmp_path, error):
    reply = public_words(raising(error), tmp_path)
    for part in (NAME, "ANNA", "MEIER", "1.2.840", "patients"):
        assert part.encode() not in reply
    words = json.loads(reply)["error"]
    assert words.startswith(OTHER) and words == closed(words)
    if not isinstance(error, CodedError):
        assert NAME in (tmp_path / "site.log").read_text()


@given(st.text(max_size=80))
def test_text_of_any_kind_travels_as_nothing_or_as_it_is_on_the_list(text):
    expected = text if closed(text) == text else OTHER
    assert error_words(text).content == expected.encode()
    assert words_of(text.encode("utf-8", "replace"), "0" * 64).facts["public"] == closed(text)


def test_an_exception_is_told_by_its_nearest_class_of_python():
    assert failed_with(MemoryError()) == f"{OTHER} (MemoryError)"
    assert failed_with(json.JSONDecodeError("x", "y", 0)) == f"{OTHER} (ValueError)"


def said_in_the_code():
    """Return every sentence that the code gives a `SiteError`, or `_require` at the way out."""
    found = set()
    for path in ROOT.rglob("*.py"):
        text = path.read_text("utf-8")
        if "SiteError" not in text and path.name != "egress.py":
            continue
        for node in ast.walk(ast.parse(text)):
            name = getattr(getattr(node, "func", None), "id", "")
            if name == "SiteError" and isinstance(node.args[0], ast.Constant):
                found.add(node.args[0].value)
            elif name == "_require" and path.name == "egress.py":
                found.add(f"egress refused {node.args[1].value}")
    return found


def test_every_sentence_of_the_code_is_on_the_list_and_none_else():
    built = {OTHER, "the site's training died: its process ended before it answered"}
    assert said_in_the_code() == set(FAILURES) - built


def test_a_lack_of_memory_is_told_whatever_a_library_calls_it():
    class OutOfMemoryError(RuntimeError):
        """As torch has it."""

    assert failed_with(OutOfMemoryError("of Anna Meier")) == "the site failed (MemoryError)"
