from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from steps import steps_of

from hospitium.errors import UsageError
from hospitium.imaging.geometry import Volume, assemble
from hospitium.imaging.instance import Instance
from hospitium.imaging.masks import LabelMap, read_mask
from hospitium.imaging.nifti import read_nifti, read_nifti_labels
from hospitium.imaging.reading import read_dicom
from hospitium.randomness import rng
from hospitium.testing.phantoms import VENDORS, Knobs, Site, write_volumes
from hospitium.testing.phantoms.heads import GREY, LESION, WHITE, draw_head, draw_tissues
from hospitium.testing.phantoms.scanners3d import SCANNERS, grid_of
from hospitium.testing.phantoms.schedule import Planned
from hospitium.testing.phantoms.solids import Pose, points_of, radius, soften, thicken
from hospitium.testing.phantoms.volumes import Scan, draw_scan

STILL = Pose(angles=(0, 0, 0), shift_mm=(0, 0, 0))
EACH = [(kind, vendor) for kind in SCANNERS for vendor in VENDORS]


def site(vendor: str) -> Site:
    return Site(site_id=f"at-{vendor.lower()}", vendor=vendor)


def study(vendor: str, *, is_ill: bool = True, subject: str = "one") -> Planned:
    return Planned(site=site(vendor), subject=subject, number=1, is_ill=is_ill, is_recorded=is_ill)


def drawn(kind: str, vendor: str, *, size: int = 64, **changes) -> Scan:  # type: ignore[no-untyped-def]
    plan = study(vendor, **{k: v for k, v in changes.items() if k in ("is_ill", "subject")})
    knobs = Knobs(**{k: v for k, v in changes.items() if k not in ("is_ill", "subject")})
    scanner = SCANNERS[kind][vendor]
    return draw_scan(plan, scanner, seed=4, size=size, contrast="FLAIR", knobs=knobs)[0]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", params=["mr", "ct"])
def written(request, tmp_path_factory) -> tuple[str, Path]:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp(request.param)
    sites = [site(vendor) for vendor in VENDORS]
    knobs = Knobs(prevalence=1.0, seen_twice=0)
    write_volumes(path, kind=request.param, num_cases=4, seed=4, sites=sites, size=64, knobs=knobs)
    return request.param, path


def read_volume(path: Path) -> Volume:
    if path.name.endswith("nii.gz"):
        volume = read_nifti(path)
    else:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        instances = [read_dicom(file) for file in files]
        assert all(isinstance(instance, Instance) for instance in instances), instances
        volume = assemble(instances)
    assert isinstance(volume, Volume), volume
    return volume


def mask_of(path: Path, volume: Volume) -> LabelMap:
    if path.name.endswith("nii.gz"):
        labels = read_nifti_labels(path, like=volume, values=(0, 1))
    else:
        labels = read_mask(path.read_bytes(), volume=volume)
    assert isinstance(labels, LabelMap), labels
    return labels


def test_every_volume_and_its_mask_are_read_back(written: tuple[str, Path]) -> None:
    """The lesion's size and place are those that were drawn, whatever files the vendor writes."""
    kind, folder = written
    for row in rows(folder):
        volume = read_volume(folder / row["image"])
        labels = mask_of(folder / row["mask"], volume)
        scan = draw_scan(
            study(row["vendor"], subject=row["subject"]), SCANNERS[kind][row["vendor"]], seed=4,
            size=64, contrast="FLAIR", knobs=Knobs(prevalence=1.0, seen_twice=0),
        )[0]  # fmt: skip
        voxel_ml = abs(np.linalg.det(volume.affine[:3, :3])) / 1000
        assert labels.labels.shape == volume.values.shape[1:]
        found_ml = (labels.labels > 0).sum() * voxel_ml
        assert found_ml == pytest.approx(float(row["volume_ml"]), rel=0.15)
        centre = volume.affine @ [*np.argwhere(labels.labels > 0).mean(axis=0), 1]
        place = np.argwhere(scan.mask).mean(axis=0)[::-1]  # column, row, slice
        np.testing.assert_allclose(centre, scan.grid.affine_ras @ [*place, 1], atol=1.5)


def test_same_seed_same_bytes(written: tuple[str, Path], tmp_path: Path) -> None:
    kind, folder = written
    sites = [site(vendor) for vendor in VENDORS]
    knobs = Knobs(prevalence=1.0, seen_twice=0)
    write_volumes(tmp_path, kind=kind, num_cases=4, seed=4, sites=sites, size=64, knobs=knobs)  # type: ignore[arg-type]
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 80
    for name in files:
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name


@pytest.mark.parametrize(("kind", "vendor"), EACH)
def test_a_volume_without_a_lesion_has_an_empty_mask(kind: str, vendor: str) -> None:
    assert drawn(kind, vendor).mask.any()
    assert not drawn(kind, vendor, is_ill=False).mask.any()


@pytest.mark.parametrize("vendor", VENDORS)
def test_ct_values_mean_hounsfield_units(vendor: str) -> None:
    """Median air is -1000 and the liver's lesion is less dense than what is around it."""
    scanner = SCANNERS["ct"][vendor]
    scan = drawn("ct", vendor, size=96)
    slope, intercept = scanner.slope or (1.0, 0.0)
    hu = scan.stored * slope + intercept
    corner = hu[:, :6, 44:52]
    assert np.median(corner[corner > -1900]) == pytest.approx(-1000, abs=15)
    core = soften(scan.mask.astype(np.float32)) > 0.99
    assert 0 < np.median(hu[core]) < 50
    assert (scan.stored == -2000).any() == (scanner.padding == -2000)


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_lesion_is_bright_in_flair(vendor: str) -> None:
    scan = drawn("mr", vendor)
    near = soften(soften(scan.mask.astype(np.float32))) > 0
    assert np.median(scan.stored[scan.mask]) > 1.3 * np.median(scan.stored[near & ~scan.mask])


def test_hospitals_differ_in_grid_and_in_range_of_values() -> None:
    scans = {vendor: drawn("mr", vendor) for vendor in VENDORS}
    tops = [float(np.percentile(scan.stored, 99)) for scan in scans.values()]
    assert max(tops) > 8 * min(tops)
    assert len({scan.grid.shape for scan in scans.values()}) == 4
    alder, cedar = scans["Alder"].grid, scans["Cedar"].grid
    assert alder.gap_mm == 5 and cedar.orientation != alder.orientation
    sheared = grid_of(SCANNERS["ct"]["Cedar"], size=64)
    normal = np.cross(sheared.across, sheared.down)
    step = np.array(sheared.step_mm) / np.linalg.norm(sheared.step_mm)
    assert np.rad2deg(np.arccos(normal @ step)) == pytest.approx(15)
    assert sheared.gap_mm == pytest.approx(4)


def test_a_scanner_with_a_strong_bias_field_is_uneven() -> None:
    def unevenness(vendor: str) -> float:
        scan = drawn("mr", vendor, is_ill=False, noise=0.0).stored.astype(float)
        white = scan[scan > np.percentile(scan, 80)]
        return float(white.std() / white.mean())

    assert unevenness("Dogwood") > 1.5 * unevenness("Alder")


def test_a_head_has_a_cortex_around_white_matter() -> None:
    grid = grid_of(SCANNERS["mr"]["Dogwood"], size=64)
    points = points_of(grid, STILL)
    tissues = draw_tissues(rng(1, "a"), draw_head(rng(1, "b")), points, num_lesions=3)
    assert set(np.unique(tissues)) == set(range(7))
    depth = radius(points, centre=(0, 0, 0), radii=(1, 1, 1))
    assert depth[tissues == WHITE].mean() < depth[tissues == GREY].mean()
    assert depth[tissues == LESION].max() < depth[tissues == GREY].max()


def test_points_are_where_the_grid_says_and_a_turned_body_keeps_its_size() -> None:
    grid = grid_of(SCANNERS["mr"]["Cedar"], size=64)
    points = points_of(grid, STILL)
    for index in ((0, 0, 0), (5, 63, 1), (grid.shape[0] - 1, 7, 9)):
        wanted = grid.affine @ [index[2], index[1], index[0], 1]
        found = [axis[index] for axis in (points.x, points.y, points.z)]
        np.testing.assert_allclose(found, wanted[:3], atol=1e-3)
    turned = points_of(grid, Pose(angles=(0.3, -0.2, 0.5), shift_mm=(0, 0, 0)))
    for each in (points, turned):
        length = np.sqrt(each.x**2 + each.y**2 + each.z**2)
        np.testing.assert_allclose(length.max(), np.linalg.norm(grid.origin_mm), rtol=0.01)


def test_thin_parts_of_slices_lie_around_their_middle() -> None:
    grid = grid_of(SCANNERS["mr"]["Alder"], size=64)
    thin, thick = points_of(grid, STILL, parts=2), points_of(grid, STILL)
    np.testing.assert_allclose(thicken(thin.z, parts=2), thick.z, atol=1e-4)


def test_softening_keeps_the_sum_and_spreads_a_point() -> None:
    point = np.zeros((7, 7, 7), np.float32)
    point[3, 3, 3] = 64
    soft = soften(point)
    assert soft.sum() == 64 and soft[3, 3, 3] == 8 and soft[2, 2, 2] == 1


@pytest.mark.parametrize(
    "wrong", [{"size": 32}, {"num_cases": 0}, {"knobs": Knobs(awkward=0.1)}, {"sites": []}]
)
def test_arguments_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, wrong: dict[str, object]
) -> None:
    usual = {"kind": "mr", "num_cases": 1, "seed": 1, "sites": [site("Alder")]}
    with pytest.raises(UsageError, match="Nothing was written"):
        write_volumes(tmp_path / "a", **(usual | wrong))  # type: ignore[arg-type]
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("kind", "vendor"), EACH)
def test_a_volume_is_drawn_without_a_step_for_each_voxel(kind: str, vendor: str) -> None:
    assert steps_of(lambda: drawn(kind, vendor))[1] < 64**3 / 8
