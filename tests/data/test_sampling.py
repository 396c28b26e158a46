"""Order of images, flips and short sides: functions of the seed, whatever the number of workers or processes."""

from __future__ import annotations

import pytest
import torch
from listed import Listed

import dsla
from dsla.data.sampling import Augmented, Order, aspects

TINY = dsla.recipe("scenes-dsla", channels=16, head_convs=1)


def test_every_image_is_seen_once_an_epoch_in_an_order_of_its_own():
    batches = list(Order(10, 4, 0, 5, seed=3))
    seen = [i for b in batches for i, _ in b]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert list(Order(10, 4, 2, 5, seed=3)) == batches[2:]
    assert list(Order(10, 4, 0, 5, seed=4)) != batches
    assert len({s for b in batches for _, s in b}) == 20


def test_batches_hold_images_of_one_group_and_every_image_comes_once_an_epoch():
    """9 landscape and 4 upright images in batches of 4: images wait, none is dropped or comes twice."""
    groups = [1] * 9 + [0] * 4
    batches = list(Order(13, 4, 0, 26, seed=1, groups=groups))
    assert all(len({groups[i] for i, _ in b}) == 1 for b in batches)
    items = sorted((s for b in batches for _, s in b))
    assert len(set(items)) == 26 * 4
    times = [sum(i == k for b in batches for i, _ in b) for k in range(13)]
    assert min(times) >= 7  # 26 batches are 8 epochs; of the last one, up to 3 of a group wait
    assert max(times) <= 9
    assert list(Order(13, 4, 7, 26, seed=1, groups=groups)) == batches[7:]
    assert batches != list(Order(13, 4, 0, 26, seed=1))


def test_processes_share_the_images_of_each_step():
    whole = list(Order(10, 5, 2, 8, seed=3))
    shares = [list(Order(10, 5, 2, 8, seed=3, part=r, parts=3)) for r in range(3)]
    assert [[*a, *b, *c] for a, b, c in zip(*shares, strict=True)] == whole
    assert [len(s[0]) for s in shares] == [1, 2, 2]
    assert [len(b) for b in Order(10, 1, 0, 3, seed=3, part=0, parts=2)] == [0, 0, 0]


def test_groups_are_landscape_and_the_rest():
    sizes = [(60, 90), (90, 60), (80, 80)]
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    assert aspects(Listed(*((torch.zeros(3, *s), *none) for s in sizes))) == [1, 0, 0]


def test_the_short_side_is_drawn_for_each_image_and_boxes_follow_it():
    """Two short sides, 64 and 96, for an image of 48x80: scaled by 4/3 or 2, the long side at most 128."""
    image = torch.rand(3, 48, 80)
    data = Augmented(Listed((image, torch.tensor([[8.0, 6, 40, 30]]), torch.tensor([0]))), 0.0, (64, 96))
    transform = dsla.build(TINY.replace(min_size=(64, 96), max_size=128), num_classes=5).transform
    seen = {}
    for seed in range(16):
        picture, target = data[0, seed]
        assert target["short_side"] == data[0, seed][1]["short_side"]
        batch, moved = transform([picture], [target])
        seen[target["short_side"]] = (batch.image_sizes[0], moved[0]["boxes"][0].tolist())
        assert target["boxes"][0].tolist() == [8, 6, 40, 30]
        assert [n % 32 for n in batch.tensors.shape[-2:]] == [0, 0]
    size, box = seen[64]
    assert size == (64, 106)
    assert box == pytest.approx([8 * 106 / 80, 8, 40 * 106 / 80, 40])
    assert seen[96][0] == (76, 128)  # 2 would give a long side of 160
    drawn = [data[0, seed][1]["short_side"] for seed in range(200)]
    assert 70 < drawn.count(64) < 130
    assert "short_side" not in Augmented(data.dataset, 0.0, (64,))[0, 0][1]


def test_flips_move_boxes_with_their_pixels_and_are_the_same_for_any_number_of_workers():
    image = torch.zeros(3, 64, 96)
    image[:, 10:30, 5:25] = 1
    data = Augmented(Listed((image, torch.tensor([[5.0, 10, 25, 30]]), torch.tensor([0]))), TINY.flip)
    flipped = 0
    for seed in range(12):
        picture, target = data[0, seed]
        x1, y1, x2, y2 = target["boxes"][0].int().tolist()
        assert picture[:, y1:y2, x1:x2].min() == 1
        assert picture.sum() == image.sum()
        assert torch.equal(data[0, seed][0], picture)
        flipped += x1 != 5
    assert 0 < flipped < 12
