"""The install forms hold: units verify, containers have few rights, a bundle installs alone."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def unit_of(path):
    """Return the settings of a unit, the last one of each name."""
    pairs = re.findall(r"^([A-Za-z]+)=(.*)$", path.read_text(), re.M)
    return dict(pairs)


REPLICA = DEPLOY / "systemd" / "hospitium-replica.service"


@pytest.mark.parametrize("path", sorted({*UNITS} - {REPLICA}), ids=lambda path: path.stem)
def test_a_unit_has_its_own_account_and_state_and_comes_back(path):
    unit = unit_of(path)
    assert unit["DynamicUser"] == unit["NoNewPrivileges"] == unit["PrivateTmp"] == "yes"
    assert (unit["ProtectSystem"], unit["UMask"]) == ("strict", "0077")
    assert (unit["StateDirectory"], unit["StateDirectoryMode"]) == (path.stem, "0700")
    assert (unit["Restart"], unit["StartLimitIntervalSec"]) == ("always", "0")
    assert unit["Environment"] == f"HOSPITIUM_HOME=%S/{path.stem}"


def test_a_replica_is_as_bounded_as_the_centre_and_writes_to_the_shared_folder_alone():
    centre, replica = (
        unit_of(DEPLOY / "systemd" / "hospitium-coordinator.service"),
        unit_of(REPLICA),
    )
    assert replica["ExecStart"].endswith(" coordinator replica")
    assert replica["Environment"] == "HOSPITIUM_HOME=" + replica["ReadWritePaths"]
    assert replica["RequiresMountsFor"] == replica["ReadWritePaths"] == "/srv/hospitium"
    own = {"Description", "Documentation", "ExecStart", "EnvironmentFile", "Environment", "User"}
    state = {"DynamicUser", "StateDirectory", "StateDirectoryMode"}
    assert {**replica, **{name: centre[name] for name in own | state}} == {
        **centre,
        "ReadWritePaths": "/srv/hospitium",
        "RequiresMountsFor": "/srv/hospitium",
    }


def test_a_site_may_cut_its_worker_off_and_has_no_right_at_all():
    unit = unit_of(DEPLOY / "systemd" / "hospitium-site.service")
    assert {"user", "net", "mnt"} <= set(unit["RestrictNamespaces"].split())
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == ""


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_takes_every_line_of_a_unit(path, tmp_path):
    program = Path(sys.executable).with_name("hospitium")
    text = re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={program}", path.read_text())
    (tmp_path / path.name).write_text(text)
    line = ["systemd-analyze", "verify", tmp_path / path.name]
    found = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize("side", ["site", "coordinator"])
def test_a_container_is_no_root_and_installs_from_the_bundle_alone(side):
    text = (DEPLOY / f"Containerfile.{side}").read_text()
    assert re.search(r"^USER 10001$", text, re.M)
    assert "--no-index --find-links . -c constraints.txt" in text
    assert "sha256sum --check --strict SHA256SUMS" in text
    assert f'"hospitium[{side}]"' in text and "ADD " not in text and "curl" not in text


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker is not here")
@pytest.mark.parametrize("side", ["site", "coordinator"])
def test_compose_reads_and_gives_no_right(side):
    line = ["docker", "compose", "-f", DEPLOY / "compose.yaml", "--profile", side, "config"]
    environment = {**os.environ, "HOSPITIUM_IMAGES": "./chest"}
    found = subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment)
    if "is not a docker command" in found.stderr or "unknown" in found.stderr:
        pytest.skip("docker compose is not here")
    assert found.returncode == 0, found.stderr
    assert "read_only: true" in found.stdout and "no-new-privileges:true" in found.stdout
    assert re.search(r"cap_drop:\n\s+- ALL", found.stdout)
    assert "privileged: true" not in found.stdout and "cap_add" not in found.stdout


# --- the offline bundle --------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path):
    """A project that is called as ours and needs one tiny wheel, which lies in a folder."""
    shelf, source = tmp_path / "shelf", tmp_path / "source"
    shelf.mkdir()
    (source / "src" / "hospitium").mkdir(parents=True)
    (source / "src" / "hospitium" / "__init__.py").write_text("import needed\n")
    (source / "constraints.txt").write_text("needed==1.0\n")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "hospitium"\nversion = "9.9"\n'
        '[project.optional-dependencies]\nsite = ["needed"]\ncoordinator = []\n'
        '[tool.setuptools.packages.find]\nwhere = ["src"]\n'
    )
    for version in ("1.0", "2.0"):
        write_wheel(shelf, version)
    return source, shelf


def write_wheel(folder, version):
    """Write a wheel with one module by hand."""
    info = f"needed-{version}.dist-info"
    files = {
        "needed.py": f"VERSION = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: needed\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / f"needed-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)


def bundle(source, shelf, out, *, side="site"):
    environment = {
        **os.environ, "PYTHON": sys.executable, "SOURCE": str(source), "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(shelf), "PIP_NO_BUILD_ISOLATION": "0",
    }  # fmt: skip
    line = ["bash", DEPLOY / "bundle.sh", side, out]
    return subprocess.run(line, capture_output=True, text=True, timeout=160, env=environment)


@pytest.mark.ci
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_a_bundle_installs_with_nothing_but_itself(tiny, tmp_path):
    source, shelf = tiny
    out = tmp_path / "wheels"
    found = bundle(source, shelf, out)
    assert found.returncode == 0, found.stderr
    names = {path.name for path in out.iterdir()}
    assert names == {
        "hospitium-9.9-py3-none-any.whl", "needed-1.0-py3-none-any.whl", "constraints.txt",
        "SHA256SUMS",
    }  # fmt: skip
    for line in (out / "SHA256SUMS").read_text().splitlines():
        digest, _, name = line.partition("  ")
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert hashlib.sha256((out / "SHA256SUMS").read_bytes()).hexdigest() in found.stdout
    target = tmp_path / "target"
    install = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", ".", "-c",
        "constraints.txt", "--target", target, "hospitium[site]",
    ]  # fmt: skip
    subprocess.run(install, cwd=out, check=True, capture_output=True, timeout=160)
    ask = "import hospitium, needed; print(needed.VERSION, hospitium.__file__)"
    line = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(target)!r}); {ask}"]
    said = subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()
    assert said[0] == "1.0" and said[1].startswith(str(target))


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
@pytest.mark.parametrize("words", [(), ("site",), ("laptop", "wheels")])
def test_a_bundle_without_a_side_or_a_folder_says_how(words):
    found = subprocess.run(["bash", DEPLOY / "bundle.sh", *words], capture_output=True, text=True)
    assert found.returncode == 2 and "usage: deploy/bundle.sh" in found.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_a_bundle_does_not_mix_with_what_is_there(tmp_path):
    (tmp_path / "old.whl").write_text("x")
    line = ["bash", DEPLOY / "bundle.sh", "site", tmp_path]
    found = subprocess.run(line, capture_output=True, text=True)
    assert found.returncode == 1 and "is not empty" in found.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["old.whl"]
