"""What differing exports cost a federation, and what one reader gives back: docs/results/harmonisation.md.

    python scripts/harmonisation.py [--work FOLDER] [--seeds 42,43,44,45,46] [--sets phantoms,pneumoniamnist]

Four hospitals hold the same kind of images and export them in four ways. Three federations are
trained on the same cases: of plain exports, of the four exports read as a usual script reads them,
and of the four exports read by Hospitium. It can be stopped at any moment and started again:
finished arms are kept, an interrupted one is resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pydicom
from over_seeds import half_width, interval, shared_error
from PIL import Image

from hospitium.engines.site_worker import answer_request
from hospitium.engines.workers import WorkerPool
from hospitium.evaluation.metrics import positive_placements
from hospitium.imaging.cache import write_cases
from hospitium.imaging.cases import Cases, Split
from hospitium.imaging.instance import Skip
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.reading import read_dicom
from hospitium.imaging.selection import read_options, select
from hospitium.imaging.sources import read_source
from hospitium.imaging.writing import Radiograph, Study, write_radiograph
from hospitium.operations.new_runs import new_run
from hospitium.operations.predicting import CaseFolder, labels_of, predict
from hospitium.operations.running import OnThisMachine, open_ledger, run_to_end
from hospitium.operations.starting import create_run, prepare_site
from hospitium.operations.versions import versions
from hospitium.plan import Plan
from hospitium.state.home import Home
from hospitium.testing.partition import Federation, make_federation, parse_partition
from hospitium.testing.phantoms import Knobs, Site, write_chest
from hospitium.training import trainer_for

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("HOSPITIUM_DATA", ROOT.parent / "shared" / "data"))
EXPORTS = {  # what each hospital's PACS sends; site-1 to site-4
    "inverted": "DX, 12 bits, MONOCHROME1",
    "jpeg": "secondary capture, 8-bit JPEG",
    "spacing": "DX, 12 bits, a 1.4 times larger plate with smaller pixels",
    "window": "DX, 14 bits, to be shown through a SIGMOID window",
}
ARMS = {
    "clean": "clean: every site exports DX, 12 bits, MONOCHROME2, one spacing",
    "unharmonised": "four exports, read by `pixel_array`, least and greatest value, resize",
    "harmonised": "four exports, read by Hospitium",
}
SETS = {
    "phantoms": {"side": 64, "size": 32, "field_mm": 427.0, "rounds": 40, "lr": 0.002},
    "pneumoniamnist": {"side": 28, "size": 28, "field_mm": 300.0, "rounds": 40, "lr": 0.004},
}
NUM_PHANTOMS = 2000


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "harmonisation")
    parser.add_argument("--seeds", default="42,43,44,45,46")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--rounds", type=int, help="fewer, to try the script out")
    parser.add_argument("--cases", type=int, default=NUM_PHANTOMS, help="phantom studies")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "harmonisation.md")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    results = {
        name: {seed: results_of(name, seed, options) for seed in seeds}
        for name in options.sets.split(",")
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(write_page(results), encoding="utf-8", newline="\n")
    print(f"{options.out} was written.")


# --- one seed of one data set ------------------------------------------------------------------


def results_of(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the result of each arm; run or resume those that there are none of yet."""
    work = options.work / name / f"seed-{seed}"
    kept = {arm: work / f"{arm}.json" for arm in ARMS}
    if not all(path.exists() for path in kept.values()):
        work.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        plan = plan_of(name, seed, rounds=options.rounds)
        cases = cases_of(name, seed, work, num_phantoms=options.cases)
        federation = make_federation(
            cases, partition=parse_partition("iid"), num_sites=len(EXPORTS), seed=seed
        )
        write_exports(work / "exports", name, federation)
        prepared = time.monotonic() - began
        clean = read_all(work / "exports" / "clean", federation, our_reader(plan))
        for arm, path in kept.items():
            if not path.exists():
                found = run_arm(options.work, name, seed, arm, plan, federation, clean)
                path.write_text(json.dumps({**found, "prepared_s": prepared}), encoding="utf-8")
        shutil.rmtree(work / "exports")
        shutil.rmtree(work / "phantoms", ignore_errors=True)
    return {arm: json.loads(path.read_text(encoding="utf-8")) for arm, path in kept.items()}


def plan_of(name: str, seed: int, *, rounds: int | None) -> Plan:
    """Return the plan: the default recipe, fewer rounds, and the steps that undo the exports."""
    facts = SETS[name]
    size = int(facts["size"])
    plan = Plan(name="harmonisation", seed=seed)
    return replace(
        plan,
        imaging=replace(
            plan.imaging,
            modalities=("DX", "OT"),
            body_parts=("CHEST",),
            secondary_capture="accept",
            voi="apply",
            spacing_kinds=("detector", "scanned"),
            pipeline=replace(
                plan.imaging.pipeline,
                size=(size, size),
                spacing_mm=(facts["field_mm"] / size,) * 2,
                resize="crop",
            ),
        ),
        model=replace(plan.model, init_seed=seed),
        training=replace(plan.training, lr=facts["lr"]),
        rounds=replace(plan.rounds, count=rounds or int(facts["rounds"]), quorum=3),
    )


def cases_of(name: str, seed: int, work: Path, *, num_phantoms: int) -> Cases:
    """Return the images as they are before any export, in [0, 1], numbered by a column."""
    side = int(SETS[name]["side"])
    harmonise = Harmonise(size=(side, side))
    if name == "phantoms":  # of one vendor: the exports alone differ
        source = work / "phantoms"
        sites = [Site(site_id="one", vendor="Alder")]
        knobs = Knobs(is_compressed=False)
        write_chest(source, num_cases=num_phantoms, seed=seed, sites=sites, size=side, knobs=knobs)
    else:
        source = DATA / name / f"{name}.npz"
    cases = read_source(source, harmonise=harmonise, seed=seed)
    return replace(cases, columns={"number": np.arange(len(cases)).astype(np.str_)})


def run_arm(
    work: Path,
    name: str,
    seed: int,
    arm: str,
    plan: Plan,
    federation: Federation,
    clean: np.ndarray,
) -> dict[str, Any]:
    """Train the federation of one arm, or go on with it; return what it says of the test cases."""
    home, run_id = Home(work / "home"), f"{name}-{seed}-{arm}"
    began = time.monotonic()
    if run_id not in home.runs():
        mixed = work / name / f"seed-{seed}" / "exports" / "mixed"
        images = clean
        if arm != "clean":
            reader = our_reader(plan) if arm == "harmonised" else naive_reader(plan)
            images = read_all(mixed, federation, reader)
        with new_run(home, run_id, out=None) as folder:
            sites = [
                prepare_site(site_id, with_images(cases, images), folder / "data" / site_id)
                for site_id, cases in federation.sites.items()
            ]
            write_cases(folder / "joint", with_images(federation.joint_test, images))
            write_cases(folder / "well-kept", with_images(federation.joint_test, clean))
            create_run(folder, run_id=run_id, plan=plan, sites=sites, facts={})
    folder = home.run(run_id)
    read = time.monotonic() - began
    pool = WorkerPool(answer_request, num_workers=0)
    try:
        run_to_end(folder, engines=OnThisMachine(pool), say=say, label=run_id)
    finally:
        pool.close()
    test = federation.joint_test
    return {
        "labels": test.labels.tolist(),
        "sites": site_of(federation)[numbers_of(test)].tolist(),
        "scores": scores_of(folder, "joint"),
        "well_kept": scores_of(folder, "well-kept"),
        "learnt": [learnt(folder, site_id) for site_id in federation.sites],
        "train": sum(len(cases.split("train")) for cases in federation.sites.values()),
        "rounds": plan.rounds.count,
        "plan": plan.digest,
        "read_s": read,
        "train_s": time.monotonic() - began - read,
    }


def learnt(folder: Path, site_id: str) -> float:
    """Return the AUROC on a site's own training cases: near chance, it has not been learnt yet."""
    labels = labels_of(
        CaseFolder(cases=folder / "data" / site_id, statistics=folder), "train"
    ).labels
    values = np.array(scores_of(folder, f"data/{site_id}", split="train"))
    return float(positive_placements(values, labels == 1).mean())


def scores_of(folder: Path, cases: str, *, split: Split = "test") -> list[float]:
    """Return the probability of a pneumonia that the federated model gives each case of a split."""
    ledger = open_ledger(folder)
    try:
        chosen = ledger.chosen()
        assert chosen is not None, "the run is finished"
        place = CaseFolder(cases=folder / cases, statistics=folder / cases)
        trainer = trainer_for(ledger.plan)
        said = predict(ledger.plan, trainer, ledger.store.get(chosen.digest), place, split)
        return [round(float(value), 7) for value in said[:, 1]]
    finally:
        ledger.close()


def say(event: Any) -> None:
    """Tell every twentieth round."""
    if event["kind"] == "round" and event["round"] % 20 == 0:
        print(f"  {event['run']}: round {event['round']} of {event['of']}", file=sys.stderr)


# --- the four exports --------------------------------------------------------------------------


def write_exports(folder: Path, name: str, federation: Federation) -> None:
    """Write each case twice as DICOM: as every site should, and as its own site does."""
    if (folder / "complete").exists():
        return
    field_mm = float(SETS[name]["field_mm"])
    for export, (site_id, cases) in zip(EXPORTS, federation.sites.items(), strict=True):
        for number, image in zip(numbers_of(cases), cases.images[:, 0], strict=True):
            for kind, place in (("plain", "clean"), (export, "mixed")):
                path = folder / place / f"{number:05d}.dcm"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_export(path, image, kind, field_mm=field_mm, name=f"{site_id}/{number}")
    (folder / "complete").touch()


def write_export(path: Path, image: np.ndarray, kind: str, *, field_mm: float, name: str) -> None:
    """Write an image in [0, 1] as one hospital's equipment does."""
    study = Study(name=name, patient_id=name, patient_sex="O", patient_age=50,
                  study_date="20200101", manufacturer=kind)  # fmt: skip
    header = Radiograph(
        study=study,
        modality="DX",
        bits_stored=12,
        photometric="MONOCHROME2",
        spacing_mm=field_mm / len(image),
        window=(2048.0, 4096.0, "LINEAR"),
    )
    if kind == "inverted":
        header = replace(header, photometric="MONOCHROME1")
        image = 1 - image
    elif kind == "jpeg":
        header = replace(header, modality="OT", bits_stored=8, encoding="jpeg", window=None)
    elif kind == "spacing":
        image = on_larger_plate(image)
        header = replace(header, spacing_mm=1.4 * field_mm / len(image))
    elif kind == "window":
        centre, width = 6000.0, 3000.0
        inside = np.clip(image, 0.01, 0.99)
        values = centre + width / 4 * np.log(inside / (1 - inside))  # PS3.3 C.11.2.1.3.1, undone
        header = replace(header, bits_stored=14, window=(centre, width, "SIGMOID"))
        write_radiograph(path, np.rint(values).astype(np.uint16), header=header)
        return
    top = 2**header.bits_stored - 1
    write_radiograph(path, np.rint(image * top).astype(np.uint16), header=header)


def on_larger_plate(image: np.ndarray) -> np.ndarray:
    """Return the image with pixels of about 0.7 times the size, on a plate 1.4 times as wide."""
    inner = 10 * round(len(image) / 7)
    fine = Image.fromarray(image).resize((inner, inner), Image.Resampling.BILINEAR)
    return np.pad(np.clip(np.asarray(fine), 0, 1), inner // 5)


# --- two readers -------------------------------------------------------------------------------

Reader = Callable[[Path], np.ndarray]


def our_reader(plan: Plan) -> Reader:
    """Return the product's way: read, select, harmonise, all by the plan."""
    harmonise, options = Harmonise.of(plan), read_options(plan.imaging)

    def read(path: Path) -> np.ndarray:
        instance = read_dicom(path, options=options)
        skip = (
            instance
            if isinstance(instance, Skip)
            else select(instance.facts, instance.cautions, imaging=plan.imaging)
        )
        if skip is not None:
            raise SystemExit(f"{path}: {skip}")
        return harmonise.apply(instance)[0]

    return read


def naive_reader(plan: Plan) -> Reader:
    """Return what scripts usually do: decoded values, least to greatest value, resized."""
    rows, columns = plan.imaging.pipeline.size

    def read(path: Path) -> np.ndarray:
        pixels = pydicom.dcmread(path).pixel_array.astype(np.float32)
        low, high = pixels.min(), pixels.max()
        scaled = (pixels - low) / max(high - low, 1)
        resized = Image.fromarray(scaled).resize((columns, rows), Image.Resampling.BILINEAR)
        return np.asarray(resized, np.float32)

    return read


def read_all(folder: Path, federation: Federation, read: Reader) -> np.ndarray:
    """Return every case's image ``(number, 1, row, column)`` in [0, 1]."""
    total = sum(len(cases) for cases in federation.sites.values())
    images = [read(folder / f"{number:05d}.dcm") for number in range(total)]
    return np.clip(np.stack(images)[:, np.newaxis], 0, 1).astype(np.float32)


def with_images(cases: Cases, images: np.ndarray) -> Cases:
    """Return the cases with the images that have their numbers."""
    return replace(cases, images=images[numbers_of(cases)])


def numbers_of(cases: Cases) -> np.ndarray:
    """Return the number of each case."""
    return cases.columns["number"].astype(np.int64)


def site_of(federation: Federation) -> np.ndarray:
    """Return for each number which site holds the case."""
    sites = np.zeros(sum(len(cases) for cases in federation.sites.values()), np.int64)
    for index, cases in enumerate(federation.sites.values()):
        sites[numbers_of(cases)] = index
    return sites


# --- the page ----------------------------------------------------------------------------------


def auroc(result: dict[str, Any], *, scores: str = "scores", site: int | None = None) -> float:
    """Return the area under the curve, of all test cases or of one site's."""
    labels, values = np.array(result["labels"]), np.array(result[scores])
    where = np.full(len(labels), True) if site is None else np.array(result["sites"]) == site
    return float(positive_placements(values[where], labels[where] == 1).mean())


def difference_error(seeds: dict[int, dict[str, Any]], arm: str) -> float:
    """Return the error of an arm minus clean that the test cases bring and all seeds share.

    Where each seed has its own test cases, their differences show it already: 0.
    """
    every = list(seeds.values())
    if any(result["clean"]["labels"] != every[0]["clean"]["labels"] for result in every):
        return 0.0
    pairs = [
        (np.array(result[arm]["scores"]), np.array(result["clean"]["scores"])) for result in every
    ]
    return shared_error(pairs, np.array(every[0]["clean"]["labels"]) == 1)


def write_page(results: dict[str, dict[int, dict[str, Any]]]) -> str:
    """Return the page: what was done, what fell, what came back."""
    lines = _head(results)
    for name, seeds in results.items():
        lines += _set(name, seeds)
    return "\n".join([*lines, *_claims(results), *_limits()])


def _head(results: dict[str, dict[int, dict[str, Any]]]) -> list[str]:
    found = versions()
    seeds = sorted({seed for each in results.values() for seed in each})
    return [
        "# What differing exports cost, and what one reader gives back",
        "",
        "Four simulated hospitals hold the same kind of chest X-rays, shared out evenly. Each exports",
        "them as DICOM in its own way:",
        "",
        "| site | export |",
        "|---|---|",
        *(f"| site-{number} | {words} |" for number, words in enumerate(EXPORTS.values(), start=1)),
        "",
        "Three federations are trained on the same cases, with the same first params, batches and plan;",
        "only the arrays that training sees differ:",
        "",
        *(f"- **{arm}**: {words.removeprefix('clean: ')}" for arm, words in ARMS.items()),
        "",
        "The script of the second arm is what is usually written in an afternoon: `pixel_array` of",
        "pydicom, scaled from its least to its greatest value, resized to the model's input. Polarity,",
        "spacing and window are not looked at. The third arm reads the same files with the product's reader and",
        'a plan that says `voi = "apply"`, `secondary_capture = "accept"`, one `spacing_mm` and',
        '`resize = "crop"`. In all arms training standardises each image (`normalise = "image"`), which by',
        "itself undoes any linear change of brightness and contrast.",
        "",
        "Each arm is judged on all sites' test cases, read as that arm reads them. *At a well-kept",
        "hospital* is the same model on the same test cases as plain exports.",
        "",
        "Written by `python scripts/harmonisation.py`, seeds "
        + ", ".join(str(seed) for seed in seeds)
        + f"; torch {found.get('torch')}, numpy {found.get('numpy')}, CPU.",
        "",
    ]


def _set(name: str, seeds: dict[int, dict[str, Any]]) -> list[str]:
    first = next(iter(seeds.values()))["clean"]
    facts = SETS[name]
    return [
        f"## {name}",
        "",
        f"{first['train']:,} training and {len(first['labels']):,} test cases (seed "
        f"{next(iter(seeds))}), {facts['side']} x {facts['side']} pixels, trained at "
        f"{facts['size']} x {facts['size']}; `small_cnn`, {first['rounds']} rounds.",
        "",
        "| federation | AUROC | minus clean | at a well-kept hospital |",
        "|---|---|---|---|",
        *(_arm(arm, seeds) for arm in ARMS),
        "",
        "AUROC of each site's own test cases, mean over the seeds:",
        "",
        "| federation | " + " | ".join(EXPORTS) + " |",
        "|---" * (len(EXPORTS) + 1) + "|",
        *(_sites(arm, seeds) for arm in ARMS),
        "",
        "The same of its own *training* cases, as that arm reads them. Where this is far below the",
        "clean federation, the site has not been learnt in these rounds, and part of the fall would go",
        "with longer training:",
        "",
        "| federation | " + " | ".join(EXPORTS) + " |",
        "|---" * (len(EXPORTS) + 1) + "|",
        *(_learnt(arm, seeds) for arm in ARMS),
        "",
        "| seed | " + " | ".join(ARMS) + " | seconds | plan |",
        "|---" * (len(ARMS) + 3) + "|",
        *(_seed(seed, result) for seed, result in seeds.items()),
        "",
    ]


def _arm(arm: str, seeds: dict[int, dict[str, Any]]) -> str:
    values = [auroc(result[arm]) for result in seeds.values()]
    kept = [auroc(result[arm], scores="well_kept") for result in seeds.values()]
    fall = "" if arm == "clean" else interval(*_fall(arm, seeds), form="+.4f")
    return f"| {arm} | {interval(values)} | {fall} | {interval(kept)} |"


def _fall(arm: str, seeds: dict[int, dict[str, Any]]) -> tuple[list[float], float]:
    """Return an arm minus clean of each seed, and the error that the seeds share."""
    found = [auroc(result[arm]) - auroc(result["clean"]) for result in seeds.values()]
    return found, difference_error(seeds, arm)


def _sites(arm: str, seeds: dict[int, dict[str, Any]]) -> str:
    cells = [
        f"{mean(auroc(result[arm], site=site) for result in seeds.values()):.4f}"
        for site in range(len(EXPORTS))
    ]
    return f"| {arm} | " + " | ".join(cells) + " |"


def _learnt(arm: str, seeds: dict[int, dict[str, Any]]) -> str:
    cells = [
        f"{mean(result[arm]['learnt'][site] for result in seeds.values()):.4f}"
        for site in range(len(EXPORTS))
    ]
    return f"| {arm} | " + " | ".join(cells) + " |"


def _seed(seed: int, result: dict[str, Any]) -> str:
    seconds = result["clean"]["prepared_s"] + sum(
        result[arm][part] for arm in ARMS for part in ("read_s", "train_s")
    )
    cells = " | ".join(f"{auroc(result[arm]):.4f}" for arm in ARMS)
    return f"| {seed} | {cells} | {seconds:.0f} | `{result['clean']['plan'][:12]}` |"


def _claims(results: dict[str, dict[int, dict[str, Any]]]) -> list[str]:
    lines = ["| claim | bar | found | held |", "|---|---|---|---|"]
    for name, seeds in results.items():
        harm, harm_se = _fall("unharmonised", seeds)
        cure, cure_se = _fall("harmonised", seeds)
        lines += [
            f"| {name}: without harmonisation AUROC falls | upper limit < 0 | "
            f"{interval(harm, harm_se, form='+.4f')} | "
            f"{_yes(mean(harm) + half_width(harm, harm_se) < 0)} |",
            f"| {name}: with it, within 1 % of clean | mean > -0.01 | "
            f"{interval(cure, cure_se, form='+.4f')} | {_yes(mean(cure) > -0.01)} |",
        ]
    return ["## Claims", "", *lines, ""]


def _yes(held: bool) -> str:
    return "yes" if held else "**no**"


def _limits() -> list[str]:
    return [
        "Intervals are of the mean over the seeds (t); for pneumoniamnist, whose test cases all seeds",
        "share, the error of the paired difference from these cases is joined to it. Phantoms are drawn",
        "anew for each seed.",
        "",
        "How far AUROC falls depends on how long is trained and on the exports chosen here; the tables by",
        "site show where it is lost. It is the size of one mixture, not a property of federations.",
        "",
        "The exports are made from images that were alike before, so that nothing but the export differs.",
        "Real hospitals differ in more: detectors, processing, patients. What a reader can undo is what",
        "the header tells, and that is all that is measured here.",
        "",
    ]


if __name__ == "__main__":
    main()
