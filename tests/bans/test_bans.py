"""Nothing that turns data into code is in our own files, but what is allowed here with a reason."""

from pathlib import Path

import pytest
from lint import CALLS, KEYWORDS, METHODS, MODULES, banned, banned_below

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "bench", "scripts", "deploy", "docs", "verifier")
ALLOWED = {
    ("src/hospitium/engines/hub/asking.py", "random"): (
        "the length of a pause between two tries; nothing that is kept or secret depends on it"
    ),
    ("src/hospitium/engines/worker_process.py", "import by name"): (
        "a worker is told over its parent's own pipe, by our code, which of our functions to run"
    ),
    ("src/hospitium/imaging/decode_pool.py", "import by name"): (
        "the same for the processes that decode images: module and function come from our code"
    ),
    ("src/hospitium/operations/doctor_hops.py", "no TLS check"): (
        "the doctor looks at whose certificate answers and sends nothing over that line"
    ),
    ("src/hospitium/training/plugins.py", "code"): (
        "`--plugin FILE.py`: the owner's own file on this machine, by its digest; never between "
        "machines"
    ),
    ("bench/__main__.py", "import by name"): "a group of the bench, from a table in the same file",
    ("bench/imaging_pipeline.py", "np.load"): "the stock reader as a floor, on a file of the bench",
    ("docs/tutorial/own_model_before.py", "np.load"): "a script as researchers have it, to convert",
}
"""File and word, with the reason why it may stay."""


@pytest.fixture(scope="module")
def found():
    return banned_below(ROOT, *FOLDERS)


def test_nothing_that_is_banned_is_in_our_own_code(found):
    left = [f"{one.path}:{one.line}: {one.word}: {one.text}" for one in found]
    kept = [text for one, text in zip(found, left, strict=True) if is_banned(one)]
    assert not kept, "\n".join(kept)


def is_banned(one):
    return (one.path, one.word) not in ALLOWED


def test_every_allowance_is_still_needed(found):
    assert {(one.path, one.word) for one in found} >= set(ALLOWED)


def test_the_lint_has_read_the_whole_package():
    assert len(list((ROOT / "src").rglob("*.py"))) > 200


PLANTED = {
    "import pickle": "unpickling",
    "import dill as d": "unpickling",
    "from cloudpickle import loads": "unpickling",
    "def f():\n    import joblib": "unpickling",
    "import marshal, json": "unpickling",
    "import shelve": "unpickling",
    "import torch\ntorch.load(path)": "unpickling",
    "from torch import load\nload(path, weights_only=True)": "unpickling",
    "import numpy as np\nnp.load(path)": "np.load",
    "import numpy\nnumpy.load(path)": "np.load",
    "from numpy import load as read\nread(path)": "np.load",
    "read(path, allow_pickle=True)": "unpickling",
    "import yaml": "yaml",
    "eval(text)": "code",
    "exec(text)": "code",
    "compile(text, 'x', 'exec')": "code",
    "from builtins import eval as look\nlook(text)": "code",
    "__import__(name)": "import by name",
    "import importlib\nimportlib.import_module(name)": "import by name",
    "from importlib import import_module as get\nget(name)": "import by name",
    "import subprocess\nsubprocess.run(line, shell=True)": "shell",
    "import os\nos.system(line)": "shell",
    "from os import popen as p\np(line)": "shell",
    "archive.extractall(folder)": "unpacking",
    "import shutil\nshutil.unpack_archive(path)": "unpacking",
    "import tempfile\ntempfile.mktemp()": "mktemp",
    "from tempfile import mktemp\nmktemp()": "mktemp",
    "import random": "random",
    "from random import choice": "random",
    "import httpx\nhttpx.get(url, verify=False)": "no TLS check",
    "context.check_hostname = False": "no TLS check",
    "import ssl\ncontext.verify_mode = ssl.CERT_NONE": "no TLS check",
    "import ssl\nssl._create_unverified_context()": "no TLS check",
    "found.mac == mac": "== on a secret",
    "self._token != given": "== on a secret",
    "hmac(data) == found": "== on a secret",
    "import xml.etree.ElementTree as ET": "xml",
    "from xml.dom import minidom": "xml",
}


@pytest.mark.parametrize("source", PLANTED)
def test_a_planted_violation_is_found_with_its_line(source):
    *_, one = banned(f'"""A file."""\n\n{source}\n', "planted.py")
    assert one.word == PLANTED[source]
    assert one.text in source.splitlines()[-1] or one.text in source


def test_every_ban_has_a_planted_violation():
    words = {*MODULES.values(), *CALLS.values(), *METHODS.values(), *KEYWORDS.values()}
    assert {*words, "import by name", "== on a secret"} == set(PLANTED.values())


@pytest.mark.parametrize(
    "source",
    [
        "import importlib\nimportlib.import_module('json')",
        "model.eval()",
        "pattern = re.compile(text)",
        "import httpx\nhttpx.Client(verify=context)",
        "from hospitium.randomness import rng",
        "hmac.compare_digest(mac, found)",
        "token == ''",
        "digest == found.digest",
        "import numpy as np\nnp.random.default_rng(seed)",
    ],
)
def test_what_is_no_violation_is_passed_over(source):
    assert banned(source, "fine.py") == []
