import pytest

from hospitium.errors import PlanError, StorageError, UsageError
from hospitium.operations.plans import check, new_plan, show
from hospitium.plan import parse_plan
from hospitium.plan.writing import TEMPLATES

PLUGIN = """
def register(plugin):
    plugin.model("my_net", lambda in_channels, num_outputs: None)
"""


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_is_a_plan_without_a_problem(tmp_path, name):
    written = new_plan(tmp_path / "plan.toml", template_name=name)
    assert written["template"] == name
    assert check(tmp_path / "plan.toml", num_sites=4)["digest"] == written["digest"]


def test_a_plan_is_shown_with_every_default_and_reads_back_to_the_same(tmp_path):
    (tmp_path / "plan.toml").write_text("[rounds]\ncount = 3\n")
    found = show(tmp_path / "plan.toml")
    assert found["plan"]["rounds"]["count"] == 3
    assert found["plan"]["algorithm"]["name"] == "fedavg"
    assert parse_plan(found["toml"]).digest == found["digest"]


def test_a_plan_that_exists_is_not_written_over(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        new_plan(path, template_name="xray-classification")
    assert path.read_text() == "mine"


def test_a_template_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    with pytest.raises(UsageError, match="xray-classification"):
        new_plan(tmp_path / "plan.toml", template_name="x")
    assert not (tmp_path / "plan.toml").exists()


def test_a_plan_cannot_be_written_where_there_is_no_folder(tmp_path):
    with pytest.raises(StorageError):
        new_plan(tmp_path / "nowhere" / "plan.toml", template_name="xray-classification")


def test_everything_wrong_with_a_plan_is_said_at_once(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text('[rounds]\nquorum = 5\n[privacy]\nsecure_sums = "on"\n[model]\nname = "x"\n')
    with pytest.raises(PlanError) as caught:
        check(path, num_sites=3)
    text = str(caught.value)
    assert "secure_sums = 'on' is not built yet" in text
    assert "only 3 sites" in text and "unknown name 'x'" in text
    assert "3 problems" in text


def test_a_plug_in_adds_to_the_names_that_a_plan_may_use(tmp_path):
    (tmp_path / "plan.toml").write_text('[model]\nname = "my_net"\n')
    (tmp_path / "plugin.py").write_text(PLUGIN)
    with pytest.raises(PlanError, match="my_net"):
        check(tmp_path / "plan.toml")
    assert check(tmp_path / "plan.toml", plugin=tmp_path / "plugin.py")["ok"]
