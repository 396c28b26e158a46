"""Points, distances and overlap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import box_iou

import dsla
from dsla import DataError, PointGrid
from dsla.geometry import (
    Frame,
    aligned_iou,
    box_area,
    boxes_to_distances,
    distances_to_boxes,
    on_device,
    pairwise_iou,
    probability,
)


def test_points_by_hand():
    grid = dsla.PointGrid((16, 24), (8, 16), 0.5)
    assert grid.shapes == ((2, 3), (1, 2))
    assert grid.xy.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12], [8, 8], [24, 8]]
    assert grid.level.tolist() == [0] * 6 + [1] * 2
    assert grid.row.tolist() == [0, 0, 0, 1, 1, 1, 0, 0]
    assert grid.column.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert dsla.PointGrid((16, 24), (8,)).xy[4].tolist() == [8, 8]
    assert len(dsla.PointGrid((800, 1344), (8, 16, 32, 64, 128))) == 22400


def test_split_gives_maps_that_share_memory():
    grid = dsla.PointGrid((16, 24), (8, 16))
    values = torch.arange(2 * 8.0).view(2, 8)
    maps = grid.split(values)
    assert [list(m.shape) for m in maps] == [[2, 2, 3], [2, 1, 2]]
    assert maps[0][1, 1, 2] == values[1, 5]
    maps[1][0, 0, 0] = -1
    assert values[0, 6] == -1
    with pytest.raises(ValueError, match="8"):
        grid.split(values[:, :5])


def test_points_of_the_padding():
    grid = dsla.PointGrid((32, 32), (8,), 0.5)
    inside = grid.inside([(32, 32), (9, 20)])
    assert inside[0].all()
    assert grid.xy[inside[1]].tolist() == [[4, 4], [12, 4]]


def test_bad_grids():
    for size, strides in (((0, 8), (8,)), ((8, 8), (0,))):
        with pytest.raises(ValueError, match="positive"):
            dsla.PointGrid(size, strides)
    with pytest.raises(ValueError, match="2 feature maps but 1"):
        dsla.PointGrid.from_shapes([(1, 1), (2, 2)], (8,))


boxes = st.lists(st.tuples(*[st.floats(-200, 200, width=32)] * 4), min_size=1, max_size=6)


@settings(max_examples=60)
@given(boxes, boxes)
def test_iou_equals_torchvision_and_is_symmetric(a, b):
    a, b = (torch.tensor([[min(x, z), min(y, w), max(x, z) + 1, max(y, w) + 1] for x, y, z, w in v]) for v in (a, b))
    iou = pairwise_iou(a, b)
    torch.testing.assert_close(iou, box_iou(a, b))
    torch.testing.assert_close(iou, pairwise_iou(b, a).T)
    torch.testing.assert_close(aligned_iou(a, a), torch.ones(len(a)))


def test_iou_of_empty_and_of_half_precision_boxes():
    point = torch.tensor([[5.0, 5, 5, 5]])
    assert float(pairwise_iou(point, point)) == 0
    large = torch.tensor([[0.0, 0, 600, 600]]).half()  # 360,000 pixels² is infinite in half precision
    assert float(pairwise_iou(large, large)) == 1


@settings(max_examples=60)
@given(st.tuples(*[st.integers(-64, 64)] * 6))
def test_distances_and_boxes_are_inverse(v):
    xy, box = torch.tensor(v[:2]).float(), torch.tensor(v[2:]).float()
    assert torch.equal(distances_to_boxes(xy, boxes_to_distances(xy, box)), box)


def test_parity_of_iou_with_the_release(recorded):
    import numpy as np

    z = recorded("unit_losses")
    pred, target = torch.tensor(z["box_pred"]), torch.tensor(z["box_target"])
    np.testing.assert_allclose(aligned_iou(pred, target), z["iou"], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(pairwise_iou(pred[:40], target[:40]), z["iou_matrix40"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("image", "input_size", "size", "padded"),
    [
        ((480, 640), "native", (480, 640), (480, 640)),
        ((480, 640), (800, 1333), (800, 1066), (800, 1066)),
        ((480, 640), "800/1333", (800, 1066), (800, 1066)),
        ((300, 1000), "800 x 1333", (399, 1333), (399, 1333)),  # the longer side decides
        ((480, 640), 640, (480, 640), (640, 640)),
        ((1280, 400), "640", (640, 200), (640, 640)),
        ((10_000, 2), 640, (640, 1), (640, 640)),  # a side keeps a pixel
    ],
)
def test_frames(image, input_size, size, padded):
    frame = Frame.of(image, input_size)
    assert (frame.size, frame.padded) == (size, padded)
    boxes = torch.tensor([[0.0, 0, image[1], image[0]], [1.5, 1, 2, 2]])
    there = frame.boxes(boxes)
    assert torch.equal(there[0], torch.tensor([0.0, 0, size[1], size[0]]))
    assert torch.allclose(frame.back(there), boxes, rtol=1e-5)
    assert torch.equal(there, resize_boxes(boxes, list(image), list(size)))  # as detectors move their boxes
    assert frame.grid((8, 16), 0.5).shapes == PointGrid(padded, (8, 16), 0.5).shapes
    assert f"{size[1]} × {size[0]} pixels" in str(frame)
    assert ("stored as" in str(frame), "padded" in str(frame)) == (size != tuple(image), padded != size)


@pytest.mark.parametrize("size", ["big", 0, -3, "640/", (1333, 800), (1, 2, 3), 3.5, "", 99999])
def test_input_sizes_that_are_none(size):
    with pytest.raises(DataError, match=r"input size.*the shorter side first"):
        Frame.of((10, 10), size)


@pytest.mark.parametrize(
    ("shapes", "strides", "message"),
    [
        ([(2, 2)], (0,), "strides must be positive whole numbers, got 0"),
        ([(2, 2)], (-8,), "strides must be positive whole numbers, got -8"),
        ([(2, 2)], (8.5,), "strides must be positive whole numbers, got 8.5"),
        ([(2, 2)], (float("nan"),), "strides must be"),
        ([(2, 2), (0, 3)], (8, 16), "feature map 1 must be 2 positive whole numbers, got 0, 3"),
        ([(2, -1)], (8,), "feature map 0 must be"),
        ([], (), "strides must ascend, the finest level first, as 8, 16, 32; got none"),
    ],
)
def test_empty_maps_and_impossible_strides_are_refused(shapes, strides, message):
    with pytest.raises(ValueError, match=message):
        dsla.PointGrid.from_shapes(shapes, strides)
    with pytest.raises(ValueError, match=r"width of the image must be 2 positive whole numbers, got 8\.5, 8"):
        dsla.PointGrid((8.5, 8), (8,))
    for offset in (float("inf"), "0.5", None, torch.tensor([0.5, 0.5])):
        with pytest.raises(ValueError, match="finite offset"):
            dsla.PointGrid((8, 8), (8,), offset=offset)


@pytest.mark.parametrize("size", [800, "800x600", (800,), (800, 600, 3), ("800", "600"), None, (float("nan"), 8)])
def test_image_sizes_that_are_none_are_refused(size):
    with pytest.raises(ValueError, match="height and width of the image must be 2 positive whole numbers, got"):
        dsla.PointGrid(size, (8,))
    for strides in (8, "8", ("8",), None):
        with pytest.raises(ValueError, match="strides must be positive whole numbers, got"):
            dsla.PointGrid((64, 64), strides)


def test_a_rounding_that_there_is_not():
    assert dsla.geometry.resized((77, 30), 640, 640) == (639, 249)
    assert dsla.geometry.resized((77, 30), 640, 640, "nearest") == (640, 249)
    with pytest.raises(DataError, match="no rounding 'nearst': did you mean 'nearest'"):
        dsla.geometry.resized((77, 30), 640, 640, "nearst")


@pytest.mark.robustness("wrong: strides that do not ascend, which no pyramid has, are refused wherever they come from")
@pytest.mark.parametrize("strides", [(8, 8), (64, 32, 16), (8, 32, 16)])
def test_strides_ascend(strides):
    truth = {"images": [{"id": 1, "width": 64, "height": 64}], "categories": [{"id": 1, "name": "bolt"}],
             "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 8, 40, 40]}]}  # fmt: skip
    explorer = dsla.widgets.AssignmentExplorer(boxes=[[8, 8, 48, 48]])
    for use in (
        lambda: dsla.PointGrid((64, 64), strides),
        lambda: dsla.PointGrid.from_shapes([(8, 8)] * len(strides), strides),
        lambda: dsla.why([], truth, "fcos", strides=strides),
        lambda: dsla.why([], truth, dsla.assigners.ATSS(), strides=strides),
        lambda: dsla.analysis.assignment_statistics("fcos", truth, strides=strides),
        lambda: dsla.analysis.coverage("fcos", truth, strides=strides),
        lambda: dsla.analysis.coverage("fcos", truth, strides=[(8, 16), strides]),
        lambda: dsla.compare(np.zeros((64, 64, 3), np.uint8), [[8, 8, 48, 48]], strides=strides),
        lambda: dsla.widgets.AssignmentExplorer(strides=strides),
        lambda: explorer.set(strides=strides),
    ):
        with pytest.raises(DataError, match=f"strides must ascend.*; got {', '.join(map(str, strides))}"):
            use()


@pytest.mark.parametrize("form", [list, np.array, torch.tensor, iter, lambda sides: map(float, sides)])
def test_sizes_and_strides_in_any_form_are_taken(form):
    grid = dsla.PointGrid(form((64, 96)), form((8, 16)), offset=torch.tensor(0.5))
    assert (grid.shapes, grid.strides, grid.offset) == (((8, 12), (4, 6)), (8, 16), 0.5)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8])
def test_areas_of_whole_numbers_are_exact(dtype):
    """The largest box of the type, up to 30,000 pixels; in the type itself 100 × 100 is 16 as int8."""
    side = min(torch.iinfo(dtype).max, 30_000)
    boxes = torch.tensor([[0, 0, side, side], [0, 0, side, 1]], dtype=dtype)
    assert box_area(boxes).tolist() == [side * side, side]
    assert pairwise_iou(boxes, boxes).tolist() == [[1, 1 / side], [1 / side, 1]]
    assert aligned_iou(boxes, boxes.float()).tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_areas_of_floats_do_not_overflow(dtype):
    boxes = torch.tensor([[0, 0, 512, 1024]], dtype=dtype)
    assert box_area(boxes).tolist() == [512 * 1024]
    assert box_area(boxes).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_values_of_tensors_compare_by_identity_and_print_their_shapes():
    grid = dsla.PointGrid((16, 24), (8,))
    a, b = (dsla.HeadOutputs(torch.zeros(1, 6, 3), torch.zeros(1, 6, 4), grid) for _ in range(2))
    assert a == a
    assert a != b
    assert len({a, b, a}) == 2
    assert repr(a) == f"HeadOutputs(logits=[1, 6, 3], distances=[1, 6, 4], grid={grid}, quality=None)"


def test_one_copy_to_a_device_keeps_types_and_shapes():
    values = [torch.tensor([1, 2**40]), torch.tensor([0.1, 1e-30]), torch.zeros(0, 4), torch.tensor([[True], [False]])]
    for there, here in zip(on_device(torch.device("meta"), *values), values, strict=True):
        assert (there.dtype, there.shape) == (here.dtype, here.shape)


def test_a_probability_is_the_same_wherever_its_logit_stands():
    """Of a slice, of one value, of another shape; and it is the sigmoid."""
    x = torch.randn(4099, generator=torch.Generator().manual_seed(0)) * 8
    whole = probability(x)
    for first in range(40):
        for count in (1, 3, 7, 17, 100):
            assert torch.equal(probability(x[first : first + count].clone()), whole[first : first + count])
    assert torch.equal(probability(x[:4096].view(64, 64).T), whole[:4096].view(64, 64).T)
    torch.testing.assert_close(whole.double(), x.double().sigmoid(), rtol=3e-7, atol=1e-30)
    assert probability(torch.tensor([-1e4, 1e4])).tolist() == [0, 1]
    assert probability(torch.tensor([3.0], dtype=torch.float16)).dtype == torch.float32
