import hashlib

import pytest

from hospitium.errors import PluginError
from hospitium.plan import parse_plan
from hospitium.plan.checking import problems_of
from hospitium.training.plugins import load_plugin

GOOD = """
def register(plugin):
    plugin.model("mine", lambda in_channels, num_outputs: None)
    plugin.loss("square", lambda logits, labels, weights: 0.0)
    plugin.algorithm("slow", lambda fedavg: fedavg)
"""


def plugin_of(folder, code):
    path = folder / "mine.py"
    path.write_text(code)
    return load_plugin(path)


def test_a_plug_in_file_adds_its_names_and_is_known_by_its_digest(tmp_path):
    plugin = plugin_of(tmp_path, GOOD)
    assert (set(plugin.models), set(plugin.losses), set(plugin.algorithms)) == (
        {"mine"}, {"square"}, {"slow"},
    )  # fmt: skip
    assert plugin.sha256 == hashlib.sha256(GOOD.encode()).hexdigest()
    assert plugin.path == str(tmp_path / "mine.py")


def test_a_plan_may_use_the_models_and_losses_of_its_plug_in(tmp_path):
    plan = parse_plan("model.name = 'mine'\ntraining.loss = 'square'")
    assert problems_of(plan, extra=plugin_of(tmp_path, GOOD).extra) == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def register(plugin) return", "cannot be loaded .SyntaxError"),
        ("import no_such_package_anywhere", "cannot be loaded .ModuleNotFoundError"),
        ("1 / 0", "cannot be loaded .ZeroDivisionError"),
        ("x = 1", "has no function `register.plugin.`"),
        ("def register(plugin): 1 / 0", "`register` failed .ZeroDivisionError"),
        ("def register(): pass", "`register` failed .TypeError"),
        ("def register(plugin): plugin.metric('x', 1)", "`register` failed .AttributeError"),
        (
            "def register(plugin): plugin.model('small_cnn', 1)",
            "'small_cnn' is there already",
        ),
        ("def register(plugin): plugin.model('logistic', 1)", "model 'logistic' is there already"),
        ("def register(plugin): plugin.loss('focal', 1)", "loss 'focal' is there already"),
        ("def register(plugin): plugin.algorithm('fedavg', 1)", "'fedavg' is there already"),
        (
            "def register(plugin):\n    plugin.loss('x', 1)\n    plugin.loss('x', 2)",
            "loss 'x' is there already",
        ),
    ],
)
def test_a_plug_in_that_cannot_be_used_is_told_why_and_that_nothing_was_started(
    tmp_path, code, expected
):
    with pytest.raises(PluginError, match=expected) as caught:
        plugin_of(tmp_path, code)
    assert "Nothing was started" in str(caught.value) and "mine.py" in str(caught.value)


def test_a_file_that_is_not_there_or_is_not_python_is_a_plug_in_error(tmp_path):
    (tmp_path / "notes.txt").write_text(GOOD)
    for name in ("none.py", "notes.txt"):
        with pytest.raises(PluginError, match="cannot be loaded"):
            load_plugin(tmp_path / name)
