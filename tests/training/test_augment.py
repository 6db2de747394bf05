from dataclasses import replace

import pytest
import torch

from hospitium.training.augment import AUGMENTATIONS, Augmentation, augment


def images_of(count=6, channels=1, size=12):
    draw = torch.Generator().manual_seed(7)
    return torch.rand((count, channels, size, size), generator=draw)


def changed(images, how, seed=1):
    return augment(images, how, generator=torch.Generator().manual_seed(seed))


NAMED = [how for how in AUGMENTATIONS.values() if how is not None]


def test_ranges_of_zero_change_nothing_but_the_darkest_thousandth():
    """A power needs a base above zero, so that values below 0.001 become 0.001."""
    images = images_of()
    images[0, 0, 0, 0] = 0.0
    torch.testing.assert_close(
        changed(images, Augmentation()), images.clamp(1e-3, 1), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("how", NAMED)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_stay_in_range_finite_and_of_their_shape(how, channels):
    images = torch.cat([images_of(20, channels), torch.zeros(1, channels, 12, 12),
                        torch.ones(1, channels, 12, 12)])  # fmt: skip
    out = changed(images, how)
    assert out.shape == images.shape and out.dtype == torch.float32
    assert torch.isfinite(out).all() and out.min() >= 0 and out.max() <= 1


@pytest.mark.parametrize("how", NAMED)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(how):
    images = images_of()
    assert torch.equal(changed(images, how), changed(images, how))
    assert not torch.equal(changed(images, how), changed(images, how, seed=2))


def test_each_image_is_changed_in_its_own_way_and_what_came_in_is_not():
    images = images_of(1).repeat(8, 1, 1, 1)
    before = images.clone()
    out = changed(images, AUGMENTATIONS["radiograph"])
    assert len({tuple(image.flatten().tolist()) for image in out}) == 8
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    "name", ["rotate_deg", "shift", "zoom", "aspect", "gamma", "contrast", "brightness", "noise",
             "blur"]
)  # fmt: skip
def test_every_range_has_an_effect_of_its_own(name):
    images = images_of()
    how = replace(Augmentation(), **{name: 10.0 if name == "rotate_deg" else 0.3})
    assert (changed(images, how) - images).abs().max() > 0.01


def test_a_chest_is_never_mirrored_or_turned_upside_down():
    """The bright upper left corner stays the brightest whatever is drawn."""
    images = torch.zeros(200, 1, 16, 16)
    images[:, :, 1:7, 1:7] = 0.9
    out = changed(images, AUGMENTATIONS["radiograph_strong"])
    corners = torch.stack([out[:, 0, rows, columns].mean((1, 2))
                           for rows in (slice(0, 8), slice(8, 16))
                           for columns in (slice(0, 8), slice(8, 16))])  # fmt: skip
    assert (corners.argmax(0) == 0).all()


def test_a_shift_moves_by_at_most_its_share_of_the_side():
    images = torch.zeros(100, 1, 21, 21)
    images[:, :, 10, 10] = 1.0
    out = changed(images, Augmentation(shift=0.1))
    rows, columns = (torch.where(out[:, 0] > 0.05)[axis] for axis in (1, 2))
    assert rows.min() >= 7 and rows.max() <= 13 and columns.min() >= 7 and columns.max() <= 13
