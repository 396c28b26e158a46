"""The authors' recorded outputs: head, whole network, detections. Weights are mapped by name."""

import json

import numpy as np
import pytest
import torch
from narrow import narrow

from dsla import HeadOutputs, PointGrid
from dsla.models import Detector, Head, Postprocess
from dsla.models.backbone import pyramid
from dsla.models.checkpoint import from_mmdetection
from dsla.models.weights import fit

STRIDES = (8, 16, 32, 64, 128)
FORWARD = {"rtol": 1e-4, "atol": 1e-4}


def rows(x):
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def levels(data, key, count=5):
    """[B, P, N] of the maps key0 … key4."""
    return torch.cat([rows(torch.from_numpy(data[f"{key}{i}"]).float()) for i in range(count)], 1)


def head_weights(data, variant):
    start = f"{variant}_w_"
    stored = {k.removeprefix(start): torch.from_numpy(data[k]).float() for k in data.files if k.startswith(start)}
    mapped = from_mmdetection({f"bbox_head.{k}": v for k, v in stored.items()})
    return {k.removeprefix("head."): v for k, v in mapped.items()}


def head_of(data, variant, **options):
    info = next(v for v in json.loads(str(data["info_json"])) if v["variant"] == variant)
    if "norm_on_bbox" in info:
        options |= {
            "box_coding": "relu_stride" if info["norm_on_bbox"] else "exp",
            "conv_bias": info["conv_bias"] is True,
            "dcn_last": info["dcn_on_last_conv"],
        }
    head = Head(
        info["num_classes"],
        info["in_channels"],
        info["feat_channels"],
        info["stacked_convs"],
        STRIDES,
        groups=info["gn_groups"],
        **options,
    )
    fit(head, head_weights(data, variant), variant)
    return head


def features(data, variant):
    return [torch.from_numpy(data[f"{variant}_in_l{i}"]).float() for i in range(5)]


@pytest.mark.parametrize("variant", ["a", "b", "c"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_dsla_head(recorded, variant, mode):
    data = recorded("forward_head")
    head = head_of(data, variant).train(mode == "train")
    with torch.no_grad():
        out = head(features(data, variant))
    expected = levels(data, f"{variant}_{mode}_bbox_l")
    if head.box_coding == "relu_stride" and mode == "train":
        expected = expected * out.grid.stride[:, None]  # recorded in strides, ours are always pixels
    torch.testing.assert_close(out.logits, levels(data, f"{variant}_{mode}_cls_l"), **FORWARD)
    torch.testing.assert_close(out.distances, expected, **FORWARD)


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("oncls_plain", {"box_coding": "exp", "quality_on": "classification"}),
        ("onreg_norm", {"box_coding": "relu_stride", "quality_on": "regression"}),
    ],
)
def test_fcos_head(recorded, case, options):
    data = recorded("forward_head")
    head = head_of(data, "fcos", quality="centerness", offset=0.5, **options)
    with torch.no_grad():
        out = head(features(data, "fcos"))
    torch.testing.assert_close(out.logits, levels(data, f"fcos_{case}_cls_l"), **FORWARD)
    torch.testing.assert_close(out.distances, levels(data, f"fcos_{case}_bbox_l"), **FORWARD)
    torch.testing.assert_close(out.quality, levels(data, f"fcos_{case}_ctr_l").squeeze(-1), **FORWARD)


def test_whole_network(recorded):
    data = recorded("forward_full")
    config = json.loads(str(data["config_json"]))
    net, neck, top = config["backbone"], config["neck"], config["bbox_head"]
    width = neck["out_channels"]
    backbone = narrow(net["base_channels"], style=net["style"], frozen_stages=net["frozen_stages"])
    model = Detector(
        backbone,
        pyramid(backbone.out_channels, width, "output"),
        Head(
            top["num_classes"],
            width,
            top["feat_channels"],
            top["stacked_convs"],
            top["strides"],
            groups=top["norm_cfg"]["num_groups"],
        ),
        postprocess=Postprocess(keep_padding=True),
    )
    state = {k[2:]: torch.from_numpy(data[k]) for k in data.files if k.startswith("w_")}
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    fit(model, from_mmdetection(state), "forward_full")
    model.eval()
    image = torch.from_numpy(data["image"]).float()
    with torch.no_grad():
        maps = backbone(image)
        c2 = backbone.layer1(backbone.maxpool(backbone.relu(backbone.bn1(backbone.conv1(image)))))
        torch.testing.assert_close(c2[..., ::4, ::4], torch.from_numpy(data["c2"]), **FORWARD)
        for name in ("c3", "c4", "c5"):
            torch.testing.assert_close(maps[name], torch.from_numpy(data[name]), **FORWARD)
        for name, x in zip(("p3", "p4", "p5", "p6", "p7"), model.features(image), strict=True):
            torch.testing.assert_close(x, torch.from_numpy(data[name]), **FORWARD)
        out = model.head(model.features(image))
    torch.testing.assert_close(out.logits, levels(data, "cls_l"), **FORWARD)
    torch.testing.assert_close(out.distances, levels(data, "bbox_l"), **FORWARD)

    size, original = frames([data["img_shape"]] * len(image), [data["scale_factor"]] * len(image))
    results = detections(model.postprocess, out, size, original)
    for i, got in enumerate(results):
        if data["dets_robust"][i]:
            same_detections(got, data[f"dets_i{i}"], data[f"labels_i{i}"], tolerance=1e-3)


def frames(shapes, factors):
    """(height, width) of the images in the network's frame and, divided by (w, h, w, h), in the original."""
    size = [(int(s[0]), int(s[1])) for s in shapes]
    return size, [(h / float(f[1]), w / float(f[0])) for (h, w), f in zip(size, factors, strict=True)]


def detections(postprocess, outputs, size, original=None):
    return [postprocess.suppress(c) for c in postprocess.candidates(outputs, size, original)]


def same_detections(got, dets, labels, tolerance=1e-4):
    """The same set: every recorded detection has one of ours with its class, box and score."""
    dets, labels = torch.from_numpy(dets), torch.from_numpy(labels)
    assert len(got["boxes"]) == len(dets)
    assert bool((got["scores"].diff() <= 0).all())
    ours = torch.cat((got["boxes"], got["scores"][:, None], got["labels"][:, None].float() * 1e4), 1)
    theirs = torch.cat((dets, labels[:, None].float() * 1e4), 1)
    if len(dets):
        apart, match = (ours[:, None] - theirs[None]).abs().amax(-1).min(0)
        assert (apart <= tolerance).all(), f"off by {apart.max()}"
        assert len(match.unique()) == len(dets)


def test_get_bboxes(recorded):
    data = recorded("get_bboxes")
    count = len(data["strides"])
    grid = PointGrid.from_shapes(data["sizes"].tolist(), data["strides"].tolist())
    logits, distances = levels(data, "cls_l", count), levels(data, "bbox_l", count)
    size, original = frames(data["img_shape"], data["scale_factor"])
    runs = json.loads(str(data["runs_json"]))
    assert runs
    for k, run in enumerate(runs):
        options = run["test_cfg"]
        postprocess = Postprocess(
            score_threshold=options["score_thr"],
            nms_iou=options["nms"]["iou_threshold"],
            top_k=options["nms_pre"],
            max_detections=options["max_per_img"] if options["max_per_img"] >= 0 else None,
            keep_padding=True,
        )
        outputs = HeadOutputs(logits + run["logit_shift"], distances, grid)
        results = detections(postprocess, outputs, size, original if run["rescale"] else None)
        for i, got in enumerate(results):
            if run["robust"][i]:
                same_detections(got, data[f"r{k}_dets_i{i}"], data[f"r{k}_labels_i{i}"])


def test_candidates_before_nms(recorded):
    """Boxes and class scores of every point that passes top-k (run 0 without its NMS)."""
    data = recorded("get_bboxes")
    count = len(data["strides"])
    grid = PointGrid.from_shapes(data["sizes"].tolist(), data["strides"].tolist())
    outputs = HeadOutputs(levels(data, "cls_l", count), levels(data, "bbox_l", count), grid)
    size, original = frames(data["img_shape"], data["scale_factor"])
    threshold = json.loads(str(data["runs_json"]))[0]["test_cfg"]["score_thr"]
    candidates = Postprocess(score_threshold=threshold, keep_padding=True).candidates(outputs, size, original)
    for i, got in enumerate(candidates):
        scores = torch.from_numpy(data[f"raw_scores_i{i}"])[:, :-1]  # the last column is background
        row, label = (scores > threshold).nonzero(as_tuple=True)
        dets = np.concatenate((data[f"raw_boxes_i{i}"][row], scores[row, label][:, None].numpy()), 1)
        order = got["scores"].argsort(descending=True, stable=True)
        same_detections({k: v[order] for k, v in got.items()}, dets, label.numpy())


def test_fcos_inference(recorded):
    """mmdetection 2.20's FCOS: threshold and top-k look at the class alone, NMS at class · centerness."""
    data = recorded("fcos_loss")
    count = len(data["strides"])
    grid = PointGrid.from_shapes(data["sizes"].tolist(), data["strides"].tolist(), offset=0.5)
    outputs = HeadOutputs(
        levels(data, "cls_l", count), levels(data, "bbox_l", count), grid, levels(data, "ctr_l", count).squeeze(-1)
    )
    images = len(outputs.logits)
    size, original = frames([data["infer_img_shape"]] * images, [data["infer_scale_factor"]] * images)
    postprocess = Postprocess(top_k_over="pairs", select_by="class", keep_padding=True)
    for i, got in enumerate(detections(postprocess, outputs, size, original)):
        same_detections(got, data[f"infer_dets_i{i}"], data[f"infer_labels_i{i}"])
