from dataclasses import replace

import pytest

from hospitium.cli.output import command_line
from hospitium.errors import PluginError, UsageError
from hospitium.operations.baselines import baseline_plan
from hospitium.operations.starting import require_free_names, with_plugin
from hospitium.plan import Plan
from hospitium.plan.schema import AlgorithmSection
from hospitium.training.plugins import Plugin


def test_a_site_cannot_have_the_name_of_a_model_in_the_report():
    require_free_names(["oslo", "bergen"])
    with pytest.raises(UsageError, match="'pooled'"):
        require_free_names(["oslo", "pooled"])


def test_a_plan_that_was_agreed_with_one_plug_in_runs_with_no_other():
    plan = Plan(plugin_sha256="a" * 64)
    assert with_plugin(plan, Plugin(sha256="a" * 64)) == plan
    for other in (Plugin(), Plugin(sha256="b" * 64)):
        with pytest.raises(PluginError, match="agreed with the plug-in aaaa"):
            with_plugin(plan, other)


def test_a_baseline_takes_the_params_as_training_made_them_and_has_time_for_it():
    algorithm = AlgorithmSection(name="half_step", coordinator_lr=0.5, mu=0.1)
    plan = replace(Plan(), algorithm=algorithm)
    pooled = baseline_plan(plan, num_sites=8)
    assert (pooled.algorithm.name, pooled.algorithm.coordinator_lr) == ("fedavg", 1.0)
    assert pooled.algorithm.mu == 0.0
    assert pooled.training.batch_size == 8 * plan.training.batch_size
    assert pooled.rounds.deadline_s == 8 * plan.rounds.deadline_s


def test_the_command_in_a_report_tells_no_folder():
    words = ["demo", "--data", "/mnt/pacs/doe_john/images", "--sites", "3", "--partition", "iid"]
    assert command_line(words) == "hospitium demo --data images --sites 3 --partition iid"
