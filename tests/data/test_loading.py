"""Image files, transforms, batches, results."""

import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from dsla.data import Scenes, as_tv_tensors, collate, load_image, to_coco_results
from dsla.data.loading import DetectionDataset, from_tv_tensors
from dsla.errors import DataError

ORIENTATION = 0x0112


def half_red(size=(64, 48)) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    return image


MODES = {
    "RGB": ("png", half_red),
    "L": ("png", lambda: half_red().convert("L")),
    "1": ("png", lambda: half_red().convert("1")),
    "LA": ("png", lambda: half_red().convert("LA")),
    "P": ("png", lambda: half_red().quantize(4)),
    "RGBA": ("png", lambda: half_red().convert("RGBA")),
    "CMYK": ("jpg", lambda: half_red().convert("CMYK")),
    "YCbCr": ("jpg", lambda: half_red().convert("YCbCr")),
    "I;16": ("png", lambda: Image.fromarray(np.full((48, 64), 40000, dtype=np.uint16))),
    "I": ("tif", lambda: Image.fromarray(np.full((48, 64), 40000, dtype=np.int32))),
    "F": ("tif", lambda: Image.fromarray(np.full((48, 64), 0.5, dtype=np.float32))),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_three_channels_in_0_to_1(tmp_path, mode):
    ending, build = MODES[mode]
    build().save(tmp_path / f"x.{ending}")
    image = load_image(tmp_path / f"x.{ending}")
    assert image.dtype == torch.float32
    assert image.shape == (3, 48, 64)
    red, green, blue = image[:, :, :30].mean((1, 2)) * 255
    if mode in ("RGB", "P", "RGBA", "CMYK", "YCbCr"):
        assert red - green > 100
    else:
        assert red == green == blue
    grey = {"I;16": 40000 / 65535, "I": 40000 / 65535, "F": 0.5}
    if mode in grey:
        torch.testing.assert_close(image, torch.full((3, 48, 64), grey[mode]), atol=1 / 255, rtol=0)


def grey(tmp_path, values, name="x.png"):
    Image.fromarray(np.asarray(values)).save(tmp_path / name)
    return tmp_path / name


def test_white_follows_from_the_type_and_never_from_the_single_image(tmp_path):
    """C14: 16 bits keep their levels; frames of a data set keep their brightness."""
    ramp = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64)
    for top in (65535, 4095, 400, 255, 200):
        values = (ramp.astype(np.float64) * top / ramp.max()).round().astype(np.uint16)
        image = load_image(grey(tmp_path, values))
        assert torch.equal(image[0], torch.from_numpy((values / 65535).astype(np.float32)))
        assert len(image.unique()) == len(np.unique(values))
    image = load_image(grey(tmp_path, (ramp % 4096).astype(np.uint16)), value_range=(0, 4095))
    assert float(image.max()) == pytest.approx(ramp.max() / 4095)
    assert torch.equal(image[0], image[2])


def test_floats_outside_0_to_1_need_a_range_of_the_data_set(tmp_path):
    celsius = np.linspace(20, 35, 48 * 64, dtype=np.float32).reshape(48, 64)
    path = grey(tmp_path, celsius, "x.tif")
    with pytest.raises(DataError, match=r"x.tif: values from 20 to 35 in an image of floats.*value_range"):
        load_image(path)
    image = load_image(path, value_range=(20, 40))
    np.testing.assert_allclose(image[0], (celsius - 20) / 20, atol=1e-6)
    with pytest.raises(DataError, match=r"values from 0 to 1\.2"):
        load_image(grey(tmp_path, (celsius - 20) / 12.5, "y.tif"))


def test_cases_of_many_bits_are_read_alike(shared):
    folder = shared / "cases" / "inputs" / "C14"
    day, night = (load_image(folder / f"{name}.png", value_range=(0, 4095)) for name in ("day_4095", "night_255"))
    assert float(day.max()) == 1
    assert float(night.max()) == pytest.approx(255 / 4095)
    assert float(load_image(folder / "darker_200.png").max()) < float(load_image(folder / "night_255.png").max())


def test_items_keep_bytes_where_the_file_has_bytes(tmp_path):
    scenes = Scenes("val", size=2)
    image, target = scenes.item(1)
    assert image.dtype == torch.uint8
    assert torch.equal(scenes[1][0], image.float() / 255)
    assert torch.equal(scenes[1][1]["boxes"], target["boxes"])
    scenes.transforms = lambda image, target: (image.flip(-1), target)
    assert torch.equal(scenes.item(1)[0], image.flip(-1))


def test_transparent_pixels_are_white(tmp_path):
    clear = half_red().convert("RGBA")
    clear.paste((9, 9, 9, 0), (32, 0, 64, 48))
    clear.save(tmp_path / "rgba.png")
    half_red().quantize(2).save(tmp_path / "p.png", transparency=half_red().quantize(2).getpixel((60, 5)))
    for name in ("rgba.png", "p.png"):
        image = load_image(tmp_path / name)
        assert (image[:, :, 32:] == 1).all(), name
        assert image[:, 10, 10].tolist() == [1, 0, 0], name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_frames(tmp_path, orientation):
    """Upright by default and where the asked size is the upright one; as stored where only that fits."""
    stored = half_red((60, 40))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    upright = load_image(tmp_path / "x.png")
    turned = orientation > 4
    assert upright.shape == ((3, 60, 40) if turned else (3, 40, 60))
    red_side = {1: "left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "top", 7: "bottom", 8: "bottom"}[orientation]
    corner = {"left": (20, 2), "right": (20, -3), "top": (2, 20), "bottom": (-3, 20)}[red_side]
    assert upright[:, corner[0], corner[1]].tolist() == [1, 0, 0]
    assert torch.equal(load_image(tmp_path / "x.png", upright.shape[1:]), upright)
    as_stored = load_image(tmp_path / "x.png", (40, 60))
    assert as_stored[:, 20, 2].tolist() == ([1, 0, 0] if turned or red_side == "left" else [0, 0, 1])
    with pytest.raises(DataError, match=r"x.png: the image is 60x40.* 50x40") as error:
        load_image(tmp_path / "x.png", (40, 50))
    assert ("40x60" in str(error.value)) == turned


def test_broken_files_are_named(tmp_path):
    (tmp_path / "text.png").write_text("no image", encoding="utf-8")
    half_red((400, 400)).save(tmp_path / "whole.jpg", quality=95)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    (tmp_path / "empty.png").write_bytes(b"")
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    for name in ("text.png", "cut.jpg", "empty.png", "bomb.png"):
        with pytest.raises(DataError, match="cannot be read as an image") as error:
            load_image(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
    with pytest.raises(DataError, match="no such image file"):
        load_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="cannot be read"):
        load_image(tmp_path)


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
    found = []
    for rows in images:
        table = torch.tensor(rows).reshape(-1, 6)
        corners = torch.cat([table[:, :2], table[:, :2] + table[:, 2:4]], 1)
        found.append({"boxes": corners, "labels": table[:, 4].long(), "scores": table[:, 5]})
    rows = to_coco_results(One(), list(range(10, 10 + len(images))), found)
    expected = [(10 + n, *row) for n, image in enumerate(images) for row in image]
    assert len(rows) == len(expected)
    for row, (image_id, x, y, w, h, label, score) in zip(rows, expected, strict=True):
        assert (row["image_id"], row["category_id"], row["score"]) == (image_id, (3, 7)[label], score)
        assert row["bbox"] == pytest.approx([x, y, w, h], abs=1e-5)
        assert all(type(v) is float for v in row["bbox"])


def test_results_refuse_what_does_not_fit():
    found = {"boxes": torch.zeros(1, 4), "scores": torch.ones(1), "labels": torch.tensor([2])}
    with pytest.raises(DataError, match=r"image 4: .*outside 0..1"):
        to_coco_results(One(), [4], [found])
    with pytest.raises(DataError, match="2 image ids but 1 detection"):
        to_coco_results(One(), [4, 5], [found])
    assert to_coco_results(One(), [], []) == []
