"""Order of images, flips and short sides: functions of the seed, whatever the number of workers or processes."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from listed import Listed

import dsla
from dsla.data.sampling import Augmented, Order, aspects
from dsla.training.schedule import total_steps

TINY = dsla.recipe("scenes-dsla", channels=16, head_convs=1)


def test_every_image_is_seen_once_an_epoch_in_an_order_of_its_own():
    batches = list(Order(10, 4, 0, 5, seed=3))
    seen = [i for b in batches for i, _ in b]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert list(Order(10, 4, 2, 5, seed=3)) == batches[2:]
    assert list(Order(10, 4, 0, 5, seed=4)) != batches
    assert len({s for b in batches for _, s in b}) == 20


GROUPED = [
    (45, 16, [1] * 40 + [0] * 5),
    (13, 4, [1] * 9 + [0] * 4),
    (501, 16, [1] * 500 + [0]),
    (5, 7, [1, 0, 1, 1, 0]),
]


@pytest.mark.robustness("wrong: every image comes once an epoch, whatever the sizes of the groups")
@pytest.mark.parametrize(("images", "batch_size", "groups"), GROUPED)
def test_every_image_comes_once_an_epoch_whatever_the_sizes_of_the_groups(images, batch_size, groups):
    """The e-th `images` items are a permutation; steps are ⌈E·N/B⌉; over resumes and processes, too."""
    epochs = 12
    steps = total_steps(TINY.replace(epochs=epochs, batch_size=batch_size), images)
    assert steps == -(-epochs * images // batch_size)
    batches = list(Order(images, batch_size, 0, steps, seed=1, groups=groups))
    assert {len(b) for b in batches} == {batch_size}
    assert len(batches) == steps
    order = [i for b in batches for i, _ in b]
    for epoch in range(epochs):
        assert sorted(order[epoch * images : (epoch + 1) * images]) == list(range(images))
    assert len({seed for b in batches for _, seed in b}) == steps * batch_size
    for start in (1, 7, steps - 1):
        assert list(Order(images, batch_size, start, steps, seed=1, groups=groups)) == batches[start:]
    shares = [Order(images, batch_size, 0, steps, seed=1, groups=groups, part=r, parts=3) for r in range(3)]
    assert [[*a, *b, *c] for a, b, c in zip(*shares, strict=True)] == batches


def test_batches_are_of_one_group_but_where_an_epoch_ends():
    """40 wide and 5 upright images, 16 a step: two batches of wide ones, then what is left of both."""
    groups = [1] * 40 + [0] * 5
    kinds = [{groups[i] for i, _ in b} for b in Order(45, 16, 0, 45, seed=0, groups=groups)]
    assert kinds[:2] == [{1}, {1}]
    assert sum(len(k) == 1 for k in kinds) >= 25  # one batch of an epoch's end and one of its start mix
    many = [1] * 700 + [0] * 300
    assert sum(len({many[i] for i, _ in b}) > 1 for b in Order(1000, 16, 0, 125, seed=0, groups=many)) <= 4


def test_alike_images_make_the_pieces_of_one_permutation_after_another():
    alike = [[i for i, _ in b] for b in Order(10, 4, 0, 5, seed=3)]
    assert alike == [[i for i, _ in b] for b in Order(10, 4, 0, 5, seed=3, groups=[1] * 10)]
    order = Order(10, 4, 0, 5, seed=3)
    assert [i for b in alike for i in b] == order._permutation(0) + order._permutation(1)


def test_an_epochs_permutation_is_no_other_seeds():
    """In version 1 epoch 1 of seed 0 was epoch 0 of seed 1; and so were what chance does to its items."""
    pieces = {tuple(i for b in Order(60, 60, e, e + 1, seed=s) for i, _ in b) for s in range(4) for e in range(4)}
    assert len(pieces) == 16
    first, second = (list(Order(60, 60, e, e + 1, seed=s, version=1)) for s, e in ((0, 1), (1, 0)))
    assert [i for i, _ in first[0]] == [i for i, _ in second[0]]


def test_the_images_of_c05_are_all_loaded(shared):
    data = dsla.CocoDataset(shared / "cases/inputs/C05", shared / "cases/inputs/C05/ann.json")
    steps = total_steps(TINY.replace(epochs=2, batch_size=16), len(data))
    order = Order(len(data), 16, 0, steps, 0, groups=aspects(data))
    times = Counter(i for batch in order for i, _ in batch)
    assert len(order) == 6
    assert set(times) == set(range(45))
    assert min(times.values()) == 2


RECORDED = [
    [(6, 1000003), (7, 1000005), (3, 1000007), (0, 1000008)],
    [(5, 1000009), (1, 1000010), (2, 1000011), (8, 1000013)],
    [(12, 1000004), (11, 1000006), (9, 1000012), (10, 1000014)],
]


def test_runs_that_began_with_version_1_go_on_with_it():
    """Recorded from version 1: images wait for their group into the next epoch."""
    groups = [1] * 9 + [0] * 4
    batches = list(Order(13, 4, 0, 26, seed=1, groups=groups, version=1))
    assert all(len({groups[i] for i, _ in b}) == 1 for b in batches)
    assert batches[:3] == RECORDED
    assert list(Order(13, 4, 7, 26, seed=1, groups=groups, version=1)) == batches[7:]


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
        batch, image_sizes, moved = transform([picture], [target])
        seen[target["short_side"]] = (image_sizes[0], moved[0]["boxes"][0].tolist())
        assert target["boxes"][0].tolist() == [8, 6, 40, 30]
        assert [n % 32 for n in batch.shape[-2:]] == [0, 0]
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
