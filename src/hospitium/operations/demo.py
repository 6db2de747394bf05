"""The main job on one machine: data, simulated hospitals, a plan, and all that follows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hospitium.errors import PlanError, UsageError
from hospitium.imaging.cache import write_cases
from hospitium.imaging.case_store import CaseStore
from hospitium.imaging.cases import Cases
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.sources import Columns, read_source
from hospitium.operations.case_caches import site_cache
from hospitium.operations.new_runs import new_run
from hospitium.operations.progress import Say
from hospitium.operations.starting import create_run, prepare_site, require_free_names
from hospitium.plan import Plan
from hospitium.plan.checking import MODEL_ARGS
from hospitium.plan.schema import ImagingSection, PipelineSection
from hospitium.plan.writing import template
from hospitium.state.home import Home
from hospitium.testing.partition import (
    Federation,
    describe,
    make_federation,
    parse_partition,
)
from hospitium.testing.phantoms import write_phantoms
from hospitium.training.plugins import Plugin, load_plugin
from hospitium.types import Json

NUM_PHANTOMS = 640
PHANTOM_SIZE = 32
"""Phantoms are drawn at four times this size and reduced when they are read, as studies are."""

DEMO_IMAGING = ImagingSection(secondary_capture="accept")
"""A demo takes all that can be trained on; digitised film is one of the four phantom vendors."""

_PHANTOM_ROUNDS = 40
_PHANTOM_LR = 0.002


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What a person may choose; None means that the demo chooses, and says what."""

    data: Path | None = None
    sites: int | None = None
    rounds: int | None = None
    partition: str | None = None
    label: str | None = None
    image_column: str | None = None
    subject_column: str | None = None
    split_column: str | None = None
    model: str | None = None
    image_size: int | None = None
    plugin: Path | None = None
    seed: int = 7
    out: Path | None = None


def prepare_demo(
    home: Home, options: DemoOptions, *, say: Say, command: str = "hospitium demo"
) -> Path:
    """Read the data, simulate the hospitals, write the plan and begin the run; return its folder.

    Raises:
        UsageError: An option has no meaning here.
        DataError: The data cannot be used.
        PartitionError: They cannot be shared out as asked.
        PlanError: The model or its size does not fit.
    """
    plugin = load_plugin(options.plugin.resolve()) if options.plugin else Plugin()
    text = _partition_text(options)
    partition = parse_partition(text)
    if options.sites is not None and partition.kind == "column":
        raise UsageError(
            f"--sites {options.sites} has no meaning with --partition {text}: the column says how "
            "many sites there are. Nothing was started. Leave one of the two out."
        )
    run_id = datetime.now(UTC).strftime("demo-%Y%m%d-%H%M%S-%f")[:-3]
    with new_run(home, run_id, out=options.out) as folder:
        store = None if options.data is None else site_cache(home)  # phantoms are made each time
        cases = _read(options, folder, store=store, say=say)
        federation = make_federation(
            cases, partition=partition, num_sites=options.sites or 4, seed=options.seed
        )
        require_free_names(federation.sites)
        plan = demo_plan(cases, options, num_sites=len(federation.sites), plugin=plugin)
        say({"kind": "partition", "text": federation.description, "sites": describe(federation)})
        sites = [
            prepare_site(site_id, own, folder / "data" / site_id)
            for site_id, own in federation.sites.items()
        ]
        write_cases(folder / "joint", federation.joint_test)
        facts: dict[str, Json] = {
            "command": command,
            "compare": True,
            "partition": _partition_facts(federation, cases),
            "out": str((options.out or folder / "report").resolve()),
        }
        create_run(folder, run_id=run_id, plan=plan, sites=sites, facts=facts, plugin=plugin)
    return folder


def demo_plan(
    cases: Cases, options: DemoOptions, *, num_sites: int, plugin: Plugin | None = None
) -> Plan:
    """Return the plan of a demo: a recipe, in the shape of these data.

    Own data are trained as well as in one place, with a step in each of many rounds; phantoms, and
    whoever asks for a number of rounds, by FedAvg with ten steps in a round.
    """
    name = options.model or "small_cnn"
    is_stepwise = options.data is not None and options.rounds is None
    plan = template("xray-as-pooled") if is_stepwise else Plan()
    plan = replace(
        plan,
        name="demo",
        seed=options.seed,
        task=replace(plan.task, classes=cases.classes),
        imaging=replace(
            DEMO_IMAGING,
            pipeline=PipelineSection(size=cases.images.shape[2:], channels=cases.images.shape[1]),
        ),
        model=replace(
            plan.model,
            name=name,
            args=_model_args(name, min(cases.images.shape[2:])),
            init_seed=options.seed,
        ),
        training=plan.training if options.data else replace(plan.training, lr=_PHANTOM_LR),
        rounds=replace(
            plan.rounds,
            count=options.rounds or (plan.rounds.count if options.data else _PHANTOM_ROUNDS),
            quorum=max(1, (2 * num_sites + 2) // 3),
        ),
        plugin_sha256=plugin.sha256 if plugin else "",
    )
    if plugin and name in plugin.models:
        return plan
    if name not in MODEL_ARGS:
        raise PlanError(
            [f"--model {name}: unknown name. Known: {', '.join(sorted(MODEL_ARGS))}"],
            where="demo",
        )
    return plan


def _model_args(name: str, size: int) -> dict[str, Json]:
    """Small images need a stem that does not throw half of them away."""
    if name in ("resnet18", "resnet50") and size <= 64:
        return {"stem": "small"}
    return {}


def _partition_text(options: DemoOptions) -> str:
    """Phantoms come from four vendors, one a hospital; other data are shared out unevenly."""
    if options.partition:
        return options.partition
    return "column:site" if options.data is None and options.sites is None else "dirichlet:0.5"


def _read(options: DemoOptions, folder: Path, *, store: CaseStore | None, say: Say) -> Cases:
    """Read the person's data, or make phantoms and read those as DICOM."""
    if options.data is None:
        say({"kind": "stage", "text": "Making chest X-ray phantoms (DICOM, four vendors)"})
        source = write_phantoms(
            folder / "phantoms",
            num_subjects=NUM_PHANTOMS,
            seed=options.seed,
            size=4 * PHANTOM_SIZE,
            progress=_counter(say, "studies written"),
        )
        size = options.image_size or PHANTOM_SIZE
    else:
        source, size = options.data, options.image_size or 0
    say({"kind": "stage", "text": "Reading images"})
    columns = Columns(
        image=options.image_column,
        label=options.label,
        subject=options.subject_column,
        split=options.split_column,
    )
    harmonise = Harmonise(size=(size, size) if size else None)
    return read_source(
        source,
        harmonise=harmonise,
        seed=options.seed,
        columns=columns if columns.named() else None,
        progress=_counter(say, "images read"),
        store=store,
    )


def _counter(say: Say, text: str) -> Any:
    def count(done: int, total: int) -> None:
        say({"kind": "count", "text": text, "done": done, "of": total})

    return count


def _partition_facts(federation: Federation, cases: Cases) -> dict[str, Json]:
    """Return the partition as the report has it."""
    rows: dict[str, Any] = {}
    for row in describe(federation):
        rows[str(row["site_id"])] = {
            "train": row["train"],
            "validation": row["val"],
            "test": row["test"],
            "shift": row["shift"],
        }
    notes = [federation.description]
    left = {**cases.skipped, **federation.left_out}
    if left:
        listed = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in left.items())
        notes.append(f"Left out: {listed}.")
    return {"name": federation.partition.text, "sites": rows, "note": " ".join(notes)}
