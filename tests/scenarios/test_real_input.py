"""The main job on real chest X-rays, as a person would run it: about ten minutes on two cores."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_five_hospitals_learn_pneumonia_from_real_chest_x_rays(real_data, tmp_path):
    data = real_data / "pneumoniamnist" / "pneumoniamnist.npz"
    command = [sys.executable, "-m", "hospitium.cli.main", "--home", str(tmp_path / "home")]
    options = ["--sites", "5", "--partition", "dirichlet:0.5+scanner", "--seed", "42", "--json"]
    done = subprocess.run([*command, "demo", "--data", data, *options], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)
    federated = report["results"]["federated"]["test"]
    assert federated["auroc"]["estimate"] >= 0.960
    assert federated["accuracy"]["estimate"] >= 0.89
    assert report["gap_closed"] >= 0.8
