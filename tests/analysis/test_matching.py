"""Matching against pycocotools, against hand-made cases, and what must not change it."""

from __future__ import annotations

import json
import tracemalloc
import weakref
from functools import partial
from inspect import signature
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.ops import box_iou

import dsla
from dsla.analysis import assignment_statistics, calibration, errors, match, oracle, ranking, suppression
from dsla.analysis.tables import stream, truth_of
from dsla.coco import evaluation as coco_evaluation
from dsla.coco.matching import THRESHOLDS, iou, join
from dsla.errors import DataError

evaluate_detections = partial(coco_evaluation.evaluate_detections, engine="pycocotools")


def coco_matches(evaluation, threshold):
    """{detection number: (annotation id or None, ignored)} of pycocotools, for objects of all sizes."""
    run = evaluation.coco
    names = {row["id"]: row["original_id"] for row in run.cocoGt.dataset["annotations"]}
    level = int(np.argmin(np.abs(run.params.iouThrs - threshold)))
    matches = {}
    for entry in run.evalImgs:
        if entry is not None and entry["aRng"] == run.params.areaRng[0]:
            taken, ignored = entry["dtMatches"][level], entry["dtIgnore"][level]
            for number, to, skip in zip(entry["dtIds"], taken, ignored, strict=True):
                # pycocotools notes a match with a crowd region, too: for us that is "ignored"
                matches[number - 1] = (None if skip or not to else names[int(to)], bool(skip))
    return matches


def our_matches(truth, rows, threshold):
    table = match(truth=truth, detections=rows, iou_threshold=threshold)
    return {
        number: (None if pd.isna(to) else int(to), bool(skip))
        for number, to, skip in zip(table["detection"], table["match"], table["ignored"], strict=True)
    }


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("digits", [1, 3])  # 1: many equal scores
def test_equal_to_pycocotools(random_case, seed, digits):
    truth, rows = random_case(seed, digits=digits)
    evaluation = evaluate_detections(truth, rows)
    for threshold in (0.5, 0.75):
        assert our_matches(truth, rows, threshold) == coco_matches(evaluation, threshold)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("digits", [1, 3])
def test_average_precision_equal_to_pycocotools(random_case, seed, digits):
    truth, rows = random_case(seed, digits=digits)
    expected = evaluate_detections(truth, rows).summary[["AP", "AP50", "AP75"]]
    table = oracle(rows, truth, nms_threshold=1.0).set_index("variant")  # no IoU is above 1: nothing is suppressed
    np.testing.assert_allclose(table.loc["score"].to_numpy(float), expected.to_numpy(), atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolox_nano_results", "nanodet_m_416_results"])
def test_equal_to_pycocotools_on_real_results(shared, name):
    folder = shared / "data" / "coco_sample"
    truth, rows = folder / "instances.json", folder / "results" / f"{name}.json"
    evaluation = evaluate_detections(truth, rows)
    ours, theirs = our_matches(truth, rows, 0.5), coco_matches(evaluation, 0.5)
    assert len(theirs) > 6000
    assert ours == theirs
    expected = evaluation.summary[["AP", "AP50", "AP75"]]
    row = oracle(rows, truth, nms_threshold=1.0).set_index("variant").loc["score"]
    np.testing.assert_allclose(row.to_numpy(float), expected.to_numpy(), atol=1e-12)


def test_columns_by_hand(one_image):
    truth, rows = one_image(
        [(1, 0, 0, 10, 10), (1, 100, 0, 110, 10), (2, 0, 0, 10, 9)],
        [(1, 0.9, 0, 0, 10, 8), (1, 0.8, 0, 0, 10, 10), (1, 0.7, 100, 0, 110, 4), (2, 0.6, 50, 50, 60, 60)],
    )
    table = match(rows, truth)
    assert table["detection"].tolist() == [0, 1, 2, 3]
    assert table[["x1", "y1", "x2", "y2"]].iloc[2].tolist() == [100, 0, 110, 4]
    np.testing.assert_allclose(table["iou"], [0.8, 1.0, 0.4, 0.0])
    assert table["gt"].tolist() == [100, 100, 101, pd.NA]
    assert table["match"].tolist() == [100, pd.NA, pd.NA, pd.NA]  # the higher score takes it, not the better box
    assert not table["ignored"].any()
    assert (table.attrs["objects"], table.attrs["images"]) == (3, 1)

    either = match(rows, truth, class_aware=False)
    np.testing.assert_allclose(either["iou"], [8 / 9, 1.0, 0.4, 0.0])
    assert either["gt"].tolist() == [102, 100, 101, pd.NA]
    assert either["match"].tolist() == [102, 100, pd.NA, pd.NA]

    assert match(rows, truth, iou_threshold=0.4)["match"].tolist() == [100, pd.NA, 101, pd.NA]
    assert match(rows, truth, score_threshold=0.75)["detection"].tolist() == [0, 1]


@pytest.mark.robustness("wrong: raw logits as scores count in every analysis as in the evaluation, negative ones too")
@pytest.mark.filterwarnings("ignore::dsla.errors.DataWarning")
def test_logits_are_scores_like_others(random_case, tmp_path):
    truth, rows = random_case(3, digits=3)
    for row in rows:
        row["score"] = min(max(row["score"], 0.001), 0.999)
    logits = [{**row, "score": float(np.log(row["score"] / (1 - row["score"])))} for row in rows]
    assert sum(row["score"] < 0 for row in logits) > 10
    for analyse in (match, errors, suppression, oracle):
        table, same = (analyse(given, truth).drop(columns=["score", "best_score", "suppressor_score"], errors="ignore")
                       for given in (rows, logits))  # fmt: skip
        pd.testing.assert_frame_equal(table, same)
    files = {"truth": truth, "rows": rows, "logits": logits}
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    one, other = dsla.analysis.ask([tmp_path / "rows.json", tmp_path / "logits.json"], tmp_path / "truth.json",
                                   resamples=0)  # fmt: skip
    numbers, same = (a.numbers.set_index("name")["value"] for a in (one, other))
    for name in ("AP", "AP50", "AP_score", "AP_iou", "spearman_image", "detections", "missed"):
        assert (numbers[name] == same[name]).all(), name
    cut = dsla.analysis.ask(tmp_path / "logits.json", tmp_path / "truth.json", resamples=0, score_threshold=0.0)
    assert len(cut[0].tables["ranking"]) == sum(row["score"] >= 0 for row in logits)


def test_crowds(one_image):
    truth, rows = one_image([(1, 0, 0, 100, 100)], [(1, 0.9, 10, 10, 30, 30), (1, 0.8, 90, 90, 130, 130)])
    truth["annotations"][0]["iscrowd"] = 1
    table = match(rows, truth)
    assert table["ignored"].tolist() == [True, False]  # 1/16 of the second lies inside
    assert table["iou"].tolist() == [0.0, 0.0]
    assert table["gt"].isna().all()
    assert match(rows, truth, crowd="background")["ignored"].tolist() == [False, False]
    with pytest.raises(ValueError, match="'ignore' or 'background', got 'drop'"):
        match(rows, truth, crowd="drop")


def test_annotation_ids_from_zero(one_image):
    truth, rows = one_image([(1, 0, 0, 20, 20), (1, 50, 50, 70, 70)],
                            [(1, 0.9, 0, 0, 20, 20), (1, 0.8, 50, 50, 70, 70)])  # fmt: skip
    for i, row in enumerate(truth["annotations"]):
        row["id"], row["image_id"] = i, 0
    truth["images"][0]["id"] = 0
    for row in rows:
        row["image_id"] = 0
    assert match(rows, truth)["match"].tolist() == [0, 1]


@pytest.mark.parametrize("seed", range(4))
def test_order_of_detections_and_images_does_not_matter(random_case, seed):
    truth, rows = random_case(seed, digits=9)
    rng = np.random.default_rng(seed)
    rows = [row | {"number": i} for i, row in enumerate(rows)]
    order = rng.permutation(len(rows))
    turned = {**truth, "images": truth["images"][::-1], "annotations": truth["annotations"][::-1]}
    columns = ["iou", "gt", "match", "ignored", "score", "image"]
    plain = match(rows, truth).set_index("detection")[columns].sort_index()
    mixed = match([rows[i] for i in order], turned)
    mixed = mixed.assign(detection=order[mixed["detection"]]).set_index("detection")[columns].sort_index()
    pd.testing.assert_frame_equal(pd.DataFrame(plain), pd.DataFrame(mixed), check_flags=False)


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_chunks_hold_every_row_once(random_case, chunk):
    truth, rows = random_case(1)
    ground_truth = truth_of(truth)
    parts = list(stream(rows, ground_truth, chunk=chunk))
    assert sorted(pd.concat([p for p, _ in parts])["detection"]) == list(range(len(rows)))
    assert sorted(pd.concat([o for _, o in parts])["gt"]) == list(range(len(truth["annotations"])))
    assert len(parts) == -(-len(ground_truth.images) // chunk)
    for i, (detections, objects) in enumerate(parts):
        allowed = set(range(i * chunk, (i + 1) * chunk))
        assert set(detections["image_index"]) | set(objects["image_index"]) <= allowed


def as_tensors(truth, rows):
    """The same case as lists of tensors: targets and detections with labels 0…2 in the order of the ids."""
    label = {c: i for i, c in enumerate(sorted(c["id"] for c in truth["categories"]))}

    def boxes(some):
        xywh = torch.tensor([r["bbox"] for r in some], dtype=torch.float64).reshape(-1, 4)
        return torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)

    targets, detections = [], []
    for image in truth["images"]:
        mine = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        real, crowd = [a for a in mine if not a["iscrowd"]], [a for a in mine if a["iscrowd"]]
        hits = [r for r in rows if r["image_id"] == image["id"]]
        targets.append({"boxes": boxes(real), "labels": torch.tensor([label[a["category_id"]] for a in real]).long(),
                        "crowd_boxes": boxes(crowd), "image_id": image["id"]})  # fmt: skip
        detections.append({"boxes": boxes(hits), "labels": torch.tensor([label[r["category_id"]] for r in hits]).long(),
                      "scores": torch.tensor([r["score"] for r in hits], dtype=torch.float64)})  # fmt: skip
    return targets, detections


def test_files_tables_and_tensors_agree(tmp_path, random_case):
    truth, rows = random_case(3, crowds=False)
    targets, detections = as_tensors(truth, rows)
    numbers = ["image", "iou", "score"]
    expected = match(rows, truth)[numbers].to_numpy(float)
    table = match(rows, truth)[["image", "category", "x1", "y1", "x2", "y2", "score"]]
    by_tensors = [match(detections, truth), match(detections, targets), match(iter(detections), targets)]
    for other in (match(pd.DataFrame(table), truth), *by_tensors):
        np.testing.assert_allclose(other[numbers].to_numpy(float), expected)
    assert by_tensors[0]["category"].tolist() == match(rows, truth)["category"].tolist()
    assert by_tensors[0]["gt"].isna().tolist() == by_tensors[1]["gt"].isna().tolist()


@pytest.mark.parametrize(("boxes", "labels", "scores"), [(3, 2, 3), (2, 3, 3), (3, 3, 2)])
def test_columns_of_an_image_that_do_not_fit_each_other_are_refused(boxes, labels, scores):
    """Also where those of the next image make up for it."""
    targets = [{"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([0])}] * 2

    def detections(*counts):
        b, c, s = counts
        return {"boxes": torch.rand(b, 4).cumsum(1), "labels": torch.zeros(c, dtype=int), "scores": torch.rand(s)}

    other = detections(*(6 - n for n in (boxes, labels, scores)))
    with pytest.raises(DataError, match=f"image 0: {boxes} boxes, but "):
        match([detections(boxes, labels, scores), other], targets)


@pytest.mark.robustness("wrong: detections of an image are read in one way, by evaluations and analyses")
def test_one_reader_of_an_images_detections():
    """Of a data set whose labels are not in the order of its ids; whole lists, streams and supervision's kind."""
    rows = [{"id": n, "image_id": 1, "category_id": 10 - n, "bbox": [9 * n, 0, 8, 8]} for n in (1, 2)]
    categories = [{"id": n, "name": str(n)} for n in (8, 9)]
    content = {"images": [{"id": 1, "width": 99, "height": 99}], "annotations": rows, "categories": categories}
    data = SimpleNamespace(ground_truth=lambda: content, category_ids=(9, 8))
    one = {"boxes": np.array([[9.0, 0, 17, 8], [18, 0, 26, 8]]), "labels": [0, 1], "scores": [0.5, 0.4]}
    assert coco_evaluation.evaluate_detections(data, [one]).summary["AP"] == pytest.approx(1)
    other = SimpleNamespace(xyxy=one["boxes"], class_id=np.array([0, 1]), confidence=np.array([[0.5], [0.4]]))
    for source in ([one], iter([one]), (one,), [other], iter([other])):
        assert match(source, data)["category"].tolist() == [9, 8]
        assert match(source if isinstance(source, (list, tuple)) else [one], data)["iou"].tolist() == [1, 1]
    for wrong, message in (
        ({"scores": None}, "image 1: detections need scores"),
        ({"labels": None}, "image 1: boxes need labels"),
        ({"labels": [0.5, 1]}, "image 1: labels are whole numbers"),
        ({"boxes": np.zeros((2, 5))}, r"image 1: boxes are \[N, 4\]"),
        ({"labels": [0, 2]}, "image 1: class 2, but .* has the classes 0…1"),
    ):
        for read in (match, lambda a, b: coco_evaluation.evaluate_detections(b, a)):
            with pytest.raises(DataError, match=message):
                read([one | wrong], data)
    with pytest.raises(DataError, match="image 0: detections need scores"):  # of targets whose labels are ids
        match([one | {"scores": None}], [one])


def test_crowd_boxes_of_targets_take_every_class():
    target = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(),
              "crowd_boxes": torch.tensor([[0.0, 0, 50, 50]])}  # fmt: skip
    detections = {"boxes": torch.tensor([[5.0, 5, 20, 20], [60, 60, 70, 70]]), "labels": torch.tensor([4, 4]),
             "scores": torch.tensor([0.5, 0.5])}  # fmt: skip
    assert match([detections], [target])["ignored"].tolist() == [True, False]


def test_images_may_be_left_out_and_mixed_when_they_are_named(random_case):
    truth, rows = random_case(3)
    _, detections = as_tensors(truth, rows)
    named = [f | {"image_id": image["id"]} for f, image in zip(detections, truth["images"], strict=True)]
    kept = [named[4], named[1]]
    table = match(kept, truth)
    assert set(table["image"]) <= {41, 11}
    assert len(table) == sum(len(f["scores"]) for f in kept)
    with pytest.raises(DataError, match="image 77"):
        match([detections[0] | {"image_id": 77}], truth)


def test_bad_input_is_named(one_image):
    truth, rows = one_image([(1, 0, 0, 9, 9)], [(1, 0.5, 0, 0, 9, 9)])
    with pytest.raises(DataError, match="category_id"):
        match([rows[0] | {"category_id": 5}], truth)
    table = pd.DataFrame(match(rows, truth))
    with pytest.raises(DataError, match=r"\['score'\] missing"):
        match(table.drop(columns="score"), truth)
    with pytest.raises(DataError, match="not finite"):
        match(table.assign(x1=np.nan), truth)
    with pytest.raises(DataError, match="with an image_id that the ground truth does not know: 5"):
        match(table.assign(image=5), truth)
    for category in (5, np.nan):
        with pytest.raises(DataError, match=f"with a category_id that the ground truth does not know: {category}"):
            match(table.assign(category=category), truth)
    box = {"boxes": torch.zeros(1, 4), "scores": torch.zeros(1), "labels": torch.tensor([2])}
    with pytest.raises(DataError, match="image 1: class 2, but the given dict has the classes 0…1"):
        match([box], truth)
    with pytest.raises(DataError, match="not among the 1 images"):
        match([box | {"labels": torch.tensor([0])}] * 2, truth)
    with pytest.raises(TypeError, match="max_images"):
        match(rows, truth, max_images=3)


@pytest.mark.robustness("wrong: numbers of options that mean nothing are refused by every analysis")
@pytest.mark.parametrize(
    ("analysis", "options"),
    [
        (match, {"iou_threshold": 50}),
        (ranking, {"iou_threshold": np.nan}),
        (calibration, {"laece_iou": -0.1}),
        (calibration, {"max_detections": 0}),
        (suppression, {"nms_threshold": 60}),
        (oracle, {"nms_threshold": -0.1}),
        (errors, {"score_threshold": np.nan}),
        (ranking, {"iou_threshold": "0.5"}),
        (suppression, {"iou_threshold": None}),
        (calibration, {"max_detections": 10.5}),
        (calibration, {"max_detections": True}),
        (lambda rows, truth, **options: assignment_statistics("fcos", truth, **options), {"max_images": "3"}),
        (dsla.why, {"iou_threshold": "0.5"}),
        (errors, {"foreground": "0.5"}),
        (errors, {"foreground": 1.1}),
        (errors, {"background": None}),
    ],
)
def test_options_are_numbers_that_mean_something(one_image, analysis, options):
    truth, rows = one_image([(1, 0, 0, 9, 9)], [(1, 0.5, 0, 0, 9, 9)])
    ((name, value),) = options.items()
    with pytest.raises(DataError, match=f"{name} is .*, got {value!r}"):
        analysis(rows, truth, **options)


def test_iou_and_join():
    rng = np.random.default_rng(0)
    a, b = (np.sort(rng.uniform(0, 50, (40, 2, 2)), axis=1).reshape(40, 4) for _ in range(2))
    expected = box_iou(torch.from_numpy(a), torch.from_numpy(b)).diagonal()
    np.testing.assert_allclose(iou(a, b), expected, atol=1e-12)
    assert iou(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [0.0]
    left, right = rng.integers(0, 5, 20), rng.integers(0, 5, 10)
    pairs = {(i, j) for i in range(20) for j in range(10) if left[i] == right[j]}
    joined = list(zip(*join(left, right), strict=True))
    assert set(joined) == pairs
    assert joined == sorted(joined)
    assert len(THRESHOLDS) == 10


def test_overlaps_at_the_threshold_are_judged_as_in_pycocotools(one_image):
    """Half an object is IoU 0.5 up to the last bit: widths and corners of a file are rounded differently."""
    rng = np.random.default_rng(0)
    truth, rows = one_image([], [])
    for i in range(300):
        x, y, w, h = (rng.integers(1, 900, 4) / 10).tolist()
        truth["annotations"].append({"id": i, "image_id": 1, "category_id": 1, "bbox": [x + 100 * i, y, w, h]})
        rows.append({"image_id": 1, "category_id": 1, "bbox": [x + 100 * i, y, w, h / 2], "score": 1 - i / 300})
    for _ in range(3):  # 100 of a class and an image count
        part = {**truth, "annotations": truth["annotations"][:100]}
        ours, theirs = our_matches(part, rows[:100], 0.5), coco_matches(evaluate_detections(part, rows[:100]), 0.5)
        assert ours == theirs
        assert 10 < sum(to is None for to, _ in ours.values()) < 90
        truth["annotations"], rows = truth["annotations"][100:], rows[100:]


def test_equal_overlaps_are_equal(one_image):
    """Boxes that are their objects have IoU 1, though width × height and the corners' differences are rounded."""
    boxes = [[i * 50 + 0.1 * i, 0.3, 20.1 + i / 7, 11.7] for i in range(40)]
    truth, rows = one_image([], [])
    truth["annotations"] = [{"id": i, "image_id": 1, "category_id": 1, "bbox": b} for i, b in enumerate(boxes)]
    rows = [{"image_id": 1, "category_id": 1, "bbox": b, "score": i / 40} for i, b in enumerate(boxes)]
    assert match(rows, truth)["iou"].tolist() == [1.0] * 40


@pytest.mark.parametrize("seed", range(4))
def test_equal_scores_of_several_images_are_ordered_as_in_pycocotools(random_case, seed):
    truth, rows = random_case(seed, images=14, digits=1)
    order = np.random.default_rng(seed).permutation(14)
    truth["images"] = [truth["images"][i] for i in order]
    expected = evaluate_detections(truth, rows).summary[["AP", "AP50", "AP75"]]
    row = oracle(rows, truth, nms_threshold=1.0).set_index("variant").loc["score"]
    np.testing.assert_allclose(row.to_numpy(float), expected.to_numpy(), atol=1e-12)
    np.testing.assert_allclose(errors(rows, truth).summary()["AP50"], expected["AP50"], atol=1e-12)


def test_boxes_may_be_left_out(random_case):
    truth, rows = random_case(2)
    whole, lean = match(rows, truth), match(rows, truth, boxes=False)
    pd.testing.assert_frame_equal(pd.DataFrame(whole.drop(columns=["x1", "y1", "x2", "y2"])), pd.DataFrame(lean))


@pytest.mark.parametrize("analysis", [match, suppression, oracle, errors])
def test_images_are_read_one_after_the_other(analysis):
    """When the next image is asked for, the tensors of those before are gone."""
    alive, most = [], []
    targets = [{"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([0])}] * 40

    def detections():
        for _ in targets:
            most.append(sum(one() is not None for one in alive))
            prediction = {"boxes": torch.rand(5, 4), "scores": torch.rand(5), "labels": torch.zeros(5).long()}
            alive.extend(weakref.ref(prediction[name]) for name in prediction)
            yield prediction
            del prediction

    analysis(detections(), targets)
    assert len(most) == 40
    assert max(most) <= 3  # those of the image that was just handed over


@pytest.mark.parametrize("analysis", [suppression, oracle])
def test_memory_does_not_grow_with_the_boxes_of_all_images(analysis, monkeypatch):
    monkeypatch.setitem(stream.__kwdefaults__, "chunk", 8)
    box = torch.tensor([[0.0, 0, 60, 60]])

    def peak(images):
        def detections():
            generator = torch.Generator().manual_seed(0)
            for _ in range(images):
                boxes = box + 4 * torch.rand(400, 4, generator=generator)
                scores = torch.rand(400, generator=generator)
                yield {"boxes": boxes, "scores": scores, "labels": torch.zeros(400).long()}

        targets = [{"boxes": box, "labels": torch.tensor([0])}] * images
        tracemalloc.start()
        analysis(detections(), targets)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(8)
    assert peak(48) < 1.5 * peak(8)


def test_the_protocol_is_in_the_signature_and_in_the_table(one_image):
    truth, rows = one_image([(1, 0, 0, 9, 9)], [(1, 0.9, 0, 0, 9, 9)])
    for analyse in (match, errors, calibration, suppression, oracle):
        options = signature(analyse).parameters
        used = analyse(rows, truth, score_threshold=0.25).attrs
        for name in ("class_aware", "crowd", "before_nms"):
            assert used[name] == options[name].default
        assert (used["crowd"], options["score_threshold"].default, used["score_threshold"]) == ("ignore", None, 0.25)


def test_jitter_and_seed_of_statistics():
    targets = [{"boxes": [[4, 4, 40, 30], [20, 10, 60, 62]], "labels": [0, 0]}]
    of = partial(assignment_statistics, "tal", targets, strides=(8, 16), image_sizes=(64, 64))
    assert of().equals(of(jitter=0.1, seed=0))
    assert of(jitter=0.5).attrs["jitter"] == 0.5
    assert not of(jitter=0.5).equals(of(jitter=0.5, seed=3))
