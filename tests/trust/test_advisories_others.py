"""Other people's advisories, a test for each class of fault: Flower to FATE, and faults in use.

The rows are those of the regression list of the project's specification of trust, in its order.
"""

import io
import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest
from desks import key_of
from own_code import ROOT, imported
from runs import create, go_on, sites_by_name, small_plan
from samples import (
    MEMBERS,
    PARAMS,
    REFUSED,
    SITE,
    TASK,
    UPDATE,
)
from tiny import tiny_plan

from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.requests import Question, Signer, Verifier
from hospitium.errors import (
    CorruptedError,
    HubError,
    PlanError,
    QuorumError,
    SiteError,
    TrustError,
    UpdateError,
)
from hospitium.plan.checking import check_plan
from hospitium.site.egress import prepare
from hospitium.state.hub_store import OpenTask, StoredAnswer
from hospitium.types import Seat
from hospitium.wire import blob, sealing
from hospitium.wire.canonical import digest
from hospitium.wire.gate import check_update
from hospitium.wire.sealing import RunKey, seal


def test_only_a_time_stamp_is_signed(hub):
    """Flower 1.42: here the body is signed too, and what is not signed is not read."""
    header = hub.asking.header(key_of("oslo request"), "POST", "/v1/said", content=b"approval")
    answer = hub.asking.plain(
        "POST", "/v1/said", content=b"Approval", headers={"hospitium-request": header}
    )
    assert answer.status_code == 401 and answer.json()["reason"] == "signature"


@pytest.mark.parametrize("num_cases", [10**9, -1, 0, True, 8.0, 1 << 70])
def test_a_weight_of_its_own_making(num_cases):
    """Flower 1.42: n = 1e9, n < 0."""
    with pytest.raises(UpdateError) as caught:
        check_update(
            replace(UPDATE, num_cases=num_cases), task=TASK,
            seat=Seat(site_id=SITE, num_cases=100), manifest=blob.manifest_of(PARAMS),
        )  # fmt: skip
    assert caught.value.reason == "weight"


@pytest.mark.parametrize("shape", [(1,), (), (1, 3), (3, 2), (6,), (2, 3, 1)])
def test_a_shape_that_would_be_broadcast(shape):
    """Flower 1.42: a scalar was added to every weight."""
    size = int(np.prod(shape))
    with pytest.raises(UpdateError) as caught:
        check_update(
            replace(UPDATE, delta={**PARAMS, "w": np.zeros(size, np.float32).reshape(shape)}),
            task=TASK, seat=Seat(site_id=SITE, num_cases=100), manifest=blob.manifest_of(PARAMS),
        )  # fmt: skip
    assert caught.value.reason == "header"


def test_a_seed_folded_to_32_bits(monkeypatch):
    """Flower#7522: a content key is 256 bits of the system's own; masks are not built yet."""
    sizes = []
    draw = os.urandom
    monkeypatch.setattr(sealing.os, "urandom", lambda size: sizes.append(size) or draw(size))
    run_key, seen = RunKey.generate(), set()
    for _ in range(50):
        out = io.BytesIO()
        seal(io.BytesIO(b"the same"), out, run_key=run_key.public, binding=digest(b"e"))
        seen.add(out.getvalue()[-24:])
    assert sizes == [32] * 50 and len(seen) == 50


def test_objects_that_are_loaded(honest):
    """OpenFL 1.9: ``dill.loads`` of what came; nothing here loads an object, by any library."""
    assert not {name.split(".")[0] for name in imported()} & {
        "dill", "cloudpickle", "joblib", "pickle", "shelve", "marshal",
    }  # fmt: skip
    for sample in honest.values():
        with pytest.raises(REFUSED):
            sample.read(
                b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system"
            )


# --- MONAI, PyTorch, Keras, Ray, ONNX, MLflow, FATE -----------------------------------------------


def test_bundles_zips_and_pickles_of_a_model_library():
    """Five advisories of MONAI: its nets are used, and nothing of it that reads a file."""
    lock = (ROOT / "constraints.txt").read_text()
    version = re.search(r"^monai==(\d+)\.(\d+)", lock, re.MULTILINE)
    assert tuple(map(int, version.groups())) >= (1, 6)
    assert '"monai>=1.6"' in (ROOT / "pyproject.toml").read_text()
    used = {name for name in imported() if name.split(".")[0] == "monai"}
    assert used and all(name.startswith("monai.networks.") for name in used)


@pytest.mark.parametrize(
    "name", ["os.system", "torch.hub", "monai.bundle.load", "__import__('os')", "file:///x.pt", ""]
)
def test_code_that_a_plan_names(name):
    """PyTorch CVE-2024-5480, Keras CVE-2025-1550, Ray CVE-2023-48022: names of a registry only."""
    plan = tiny_plan()
    with pytest.raises(PlanError, match="model"):
        check_plan(replace(plan, model=replace(plan.model, name=name)))
    assert not {"keras", "tensorflow", "ray", "torch.distributed.rpc", "torch.hub"} & imported()


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "location": "/etc/passwd"},
        {"external_data": "../../x", "dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "/etc/passwd", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]},
    ],
)
def test_paths_inside_model_files(tmp_path, entry):
    """ONNX external data; MLflow CVE-2023-1177, CVE-2024-1560."""
    head = json.dumps({"w": entry}).encode()
    path = tmp_path / "model"
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"\x00" * 4)
    with pytest.raises(CorruptedError):
        blob.read(path)


@pytest.mark.parametrize(
    "sums",
    [{"labels": (0, 1, 1)}, {"tree": (3,)}, {"n.subject-17": (1,)}, {"loss": (1, 2, 3, 4)},
     {"positives.kari": (1,)}],
)  # fmt: skip
def test_labels_that_leave_inside_something_else(tmp_path, sums):
    """FATE CVE-2020-25459: what leaves has names and lengths of a closed list."""
    with pytest.raises(SiteError):
        prepare(replace(UPDATE, sums=sums), task=TASK, outbox=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_silent_subset(tmp_path):
    """MediSwarm F8: a run that went on with whoever was left."""
    create(tmp_path, small_plan(rounds=2, quorum=3))
    sites = sites_by_name()
    sites["site-2"] = sites["site-1"]  # answers, but not as itself
    with pytest.raises(QuorumError, match=r"2 of 3 .* Without one: site-2"):
        go_on(tmp_path, sites)


def test_a_time_out_after_everything_had_arrived(tmp_path):
    """FLIP#684: the same statement again gets the same receipt, however often."""
    backend = LocalBackend(tmp_path / "hub")
    model = tmp_path / "model"
    model.write_bytes(b"m")
    place = {"run_id": "r", "site_id": "oslo", "nonce": "a" * 64}
    backend.enqueue(
        [OpenTask(**place, envelope=b"t", blob=digest(b"m"), upload_bytes=1)], blob=model
    )
    answer = StoredAnswer(**place, kind="update", statement=b"s", sha256=digest(b"s"), found="")
    assert len({backend.answer(answer).n for _ in range(3)}) == 1
    assert len(backend.answers("a" * 64, after=0, wait_s=0)) == 1
    backend.close()


def test_empty_metrics():
    """FLIP#727: sums that were asked for and are not there are refused, not taken for zeros."""
    with pytest.raises(UpdateError) as caught:
        check_update(
            replace(UPDATE, sums={}), task=TASK, seat=Seat(site_id=SITE, num_cases=100),
            manifest=blob.manifest_of(PARAMS), sum_lengths={"n": 1, "loss": 2},
        )  # fmt: skip
    assert caught.value.reason == "fields"


def test_healthy_but_not_registered(tmp_path):
    """MediSwarm F9: who is not on the list is told so, and counts as nobody."""
    verifier = Verifier({})
    question = Question(method="GET", path="/v1/standing")
    header = Signer(key_of("oslo request"), verifier.challenge()).header(
        question, content_sha256=digest(b"")
    )
    with pytest.raises(HubError) as caught:
        verifier.admit(header, question)
    assert caught.value.status == 401
    with pytest.raises(TrustError):
        MEMBERS.site("turin")
