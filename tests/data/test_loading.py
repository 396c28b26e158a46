"""Transforms, batches, results."""

import random
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import ConcatDataset, Subset
from torchvision import tv_tensors
from torchvision.transforms import v2

import dsla
from dsla.data import Scenes, as_tv_tensors, collate, to_coco_results
from dsla.data.loading import DetectionDataset, check_unmoved, from_tv_tensors
from dsla.data.sampling import Augmented, Part
from dsla.errors import DataError


def test_items_keep_bytes_where_the_file_has_bytes(tmp_path):
    scenes = Scenes("val", size=2)
    image, target = scenes.item(1)
    assert image.dtype == torch.uint8
    assert torch.equal(scenes[1][0], image.float() / 255)
    assert torch.equal(scenes[1][1]["boxes"], target["boxes"])
    scenes.transforms = lambda image, target: (image.flip(-1), target)
    assert torch.equal(scenes.item(1)[0], image.flip(-1))


class One(DetectionDataset):
    """An image with two objects and a crowd."""

    name, class_names, category_ids = "one", ("ant", "bee"), (3, 7)

    def __init__(self, transforms=None):
        self.transforms = transforms

    def __len__(self):
        return 1

    def load(self, i):
        self.check_index(i)
        boxes = torch.tensor([[10.0, 10, 30, 40], [60, 5, 90, 35]])
        target = {"boxes": boxes, "labels": torch.tensor([1, 0]), "crowd_boxes": torch.tensor([[0.0, 0, 20, 20]])}
        return torch.arange(3 * 80 * 100).reshape(3, 80, 100) / 24000, {**target, "image_id": 5}


def test_index_outside_ends_iteration():
    assert len(list(One())) == 1
    with pytest.raises(IndexError, match="one: image 1 of 1"):
        One()[1]
    assert One()[-1][1]["image_id"] == 5


def test_a_data_set_whose_load_gives_something_for_any_index_ends_too():
    class Unchecked(One):
        def load(self, i):
            return super().load(0)

    assert len(list(islice(iter(Unchecked()), 5))) == 1
    assert len(dsla.predict(dsla.build("scenes-dsla", class_names=One.class_names), Unchecked())) == 1


def test_transforms_v2_move_image_boxes_and_crowds_together():
    image, target = One(v2.RandomHorizontalFlip(1.0))[0]
    assert type(image) is type(target["boxes"]) is torch.Tensor
    assert torch.equal(image, One()[0][0].flip(2))
    assert target["boxes"].tolist() == [[70, 10, 90, 40], [10, 5, 40, 35]]
    assert target["crowd_boxes"].tolist() == [[80, 0, 100, 20]]
    assert target["labels"].tolist() == [1, 0]
    assert target["image_id"] == 5


def test_transforms_that_resize_convert_and_sanitise():
    chain = v2.Compose(
        [v2.ToDtype(torch.uint8, scale=True), v2.Resize((40, 50)), v2.SanitizeBoundingBoxes(min_size=12)]
    )
    image, target = One(chain)[0]
    assert image.dtype == torch.float32
    assert image.shape == (3, 40, 50)
    assert image.max() <= 1
    assert target["boxes"].tolist() == [[30, 2.5, 45, 17.5]]
    assert target["labels"].tolist() == [0]
    assert target["crowd_boxes"].shape == (0, 4)


def test_objects_that_a_crop_removes_are_dropped():
    def crop(image, target):
        return v2.functional.crop(image, 0, 50, 80, 50), {
            **target,
            "boxes": v2.functional.crop(target["boxes"], 0, 50, 80, 50),
        }

    image, target = One(crop)[0]
    assert image.shape == (3, 80, 50)
    assert target["boxes"].tolist() == [[10, 5, 40, 35]]
    assert target["labels"].tolist() == [0]
    assert target["crowd_boxes"].shape == (0, 4)


def test_tv_tensors_and_back_is_the_identity():
    image, target = One()[0]
    wrapped, inside = as_tv_tensors(image, target)
    assert isinstance(wrapped, tv_tensors.Image)
    assert isinstance(inside["boxes"], tv_tensors.BoundingBoxes)
    assert inside["boxes"].canvas_size == (80, 100)
    back, same = from_tv_tensors(wrapped, inside)
    assert torch.equal(back, image)
    assert same.keys() == target.keys()
    assert all(torch.equal(same[k], target[k]) for k in ("boxes", "labels", "crowd_boxes"))


MOVING = [v2.RandomHorizontalFlip(1.0), v2.Resize((64, 64)), v2.SanitizeBoundingBoxes(min_size=1000), v2.CenterCrop(99)]


@pytest.mark.robustness("wrong: transforms that move boxes are refused where images meet the ground truth")
@pytest.mark.parametrize("transforms", MOVING, ids=lambda t: type(t).__name__)
def test_transforms_that_move_boxes_are_refused_by_what_compares_with_the_ground_truth(transforms):
    scenes, model = Scenes("val", size=2, transforms=transforms), dsla.load("scenes-dsla")
    message = "scenes-val, image 1: the transforms move its boxes or resize it, but its ground truth is as annotated"
    recipe = dsla.recipe("scenes-dsla", steps=1, batch_size=1)
    for use in (
        lambda: dsla.evaluate(model, scenes),
        lambda: dsla.analysis.match(model, scenes),
        lambda: dsla.analysis.profile(model, scenes),
        lambda: dsla.why(model, scenes),
        lambda: dsla.train(recipe, Scenes("train", size=1), val=scenes, progress=False),
        lambda: dsla.widgets.DetectionBrowser(scenes, model),
        lambda: dsla.widgets.RankingExplorer(scenes, model),
        lambda: Part(scenes, [0]).unmoved(0),
    ):
        with pytest.raises(DataError, match=message):
            use()


def test_transforms_that_move_nothing_are_evaluated_with():
    """A grey world is harder; its images are those that the model sees, in the analyses, too."""
    grey, model = Scenes("val", size=4, transforms=v2.Grayscale(3)), dsla.load("scenes-dsla")
    assert torch.equal(grey.unmoved(1)[0], grey[1][0])
    assert dsla.evaluate(model, grey)["AP"] < dsla.evaluate(model, Scenes("val", size=4))["AP"] - 0.01
    alone = [model.eval()([grey[i][0]])[0] for i in range(4)]
    together = dsla.analysis.match(model, grey)
    assert len(together) == sum(len(one["scores"]) for one in alone)


def test_transforms_on_an_image_without_objects():
    scenes = Scenes("train", size=400, transforms=v2.RandomHorizontalFlip(1.0))
    empty = next(i for i in range(400) if len(scenes.rows(i)) == 0)
    assert scenes[empty][1]["boxes"].shape == (0, 4)
    assert scenes[empty][1]["labels"].dtype == torch.int64


def test_collate_keeps_images_of_several_sizes_apart():
    batch = [(torch.zeros(3, 4, 5), {"image_id": 1}), (torch.zeros(3, 7, 2), {"image_id": 2})]
    images, targets = collate(batch)
    assert [tuple(image.shape) for image in images] == [(3, 4, 5), (3, 7, 2)]
    assert [target["image_id"] for target in targets] == [1, 2]


boxes = st.lists(st.tuples(*[st.floats(0, 50, width=32)] * 4, st.integers(0, 1), st.floats(0, 1, width=32)), max_size=6)


@given(st.lists(boxes, max_size=4))
def test_results_hold_every_detection_once(images):
    detections = []
    for rows in images:
        table = torch.tensor(rows).reshape(-1, 6)
        corners = torch.cat([table[:, :2], table[:, :2] + table[:, 2:4]], 1)
        detections.append({"boxes": corners, "labels": table[:, 4].long(), "scores": table[:, 5]})
    rows = to_coco_results(One(), list(range(10, 10 + len(images))), detections)
    expected = [(10 + n, *row) for n, image in enumerate(images) for row in image]
    assert len(rows) == len(expected)
    for row, (image_id, x, y, w, h, label, score) in zip(rows, expected, strict=True):
        assert (row["image_id"], row["category_id"], row["score"]) == (image_id, (3, 7)[label], score)
        assert row["bbox"] == pytest.approx([x, y, w, h], abs=1e-5)
        assert all(type(v) is float for v in row["bbox"])


def test_results_refuse_what_does_not_fit():
    detections = {"boxes": torch.zeros(1, 4), "scores": torch.ones(1), "labels": torch.tensor([2])}
    with pytest.raises(DataError, match=r"image 4: .*outside 0..1"):
        to_coco_results(One(), [4], [detections])
    with pytest.raises(DataError, match="2 image ids but 1 detection"):
        to_coco_results(One(), [4, 5], [detections])
    assert to_coco_results(One(), [], []) == []


def test_a_flip_by_chance_is_found_before_the_work():
    """Looked at once it passes half of the time."""
    scenes = Scenes("val", size=6)
    scenes.transforms = v2.RandomHorizontalFlip(0.5)
    for seed in range(20):
        torch.manual_seed(seed)
        with pytest.raises(DataError, match="the transforms move its boxes"):
            check_unmoved(scenes)


def test_chance_of_numpy_and_python_is_a_function_of_the_seed_too():
    scenes = Scenes("val", size=2)
    drawn = list[tuple[float, float]]()

    def asks(image, target):
        drawn.append((np.random.rand(), random.random()))  # noqa: NPY002
        return image, target

    scenes.transforms = asks
    state = np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    items = Augmented(scenes)
    for seed in (3, 4, 3):
        items[0, seed]
    assert drawn[0] == drawn[2]
    assert not {drawn[0][0], drawn[0][1]} & {drawn[1][0], drawn[1][1]}
    assert (np.random.get_state()[1].tolist(), random.getstate()) == state  # noqa: NPY002


def test_pixels_a_little_outside_the_range_are_cut_and_not_turned_round(tmp_path):
    class Overshot(Scenes):
        def load(self, i):
            image, target = super().load(i)
            image = image.float() / 255
            image[:, 0, 0], image[:, 0, 1] = 1.01, -0.01
            return image, target

    Overshot("val", size=1).to_coco(tmp_path)
    pixels = np.asarray(Image.open(tmp_path / "images" / "000000.png"))
    assert pixels[0, 0].tolist() == [255] * 3
    assert pixels[0, 1].tolist() == [0] * 3


def test_a_data_set_without_a_ground_truth_says_what_to_write():
    class Bare(One):
        ground_truth = DetectionDataset.ground_truth

    with pytest.raises(DataError, match=r"Bare has no ground truth: write its ground_truth\(\), a COCO dict"):
        len(Bare().truth)


def test_selections_of_pytorch_name_the_way():
    scenes, model = Scenes("val", size=4), dsla.build(dsla.recipe("scenes-dsla"), class_names=Scenes.class_names)
    for selection in (Subset(scenes, [0, 1]), ConcatDataset([scenes, scenes])):
        for use in (lambda s=selection: dsla.evaluate(model, s), lambda s=selection: dsla.train(model.recipe, s)):
            with pytest.raises(DataError, match=f"a {type(selection).__name__} has no ground truth of its own"):
                use()
