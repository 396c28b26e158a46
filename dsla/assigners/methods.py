"""The methods of the package, in the order of tables and figures: an entry each, and nothing to import."""

from __future__ import annotations

from .entry import Method, Option

_GAMMA = Option("relaxation", float, 0.2, "γ: share by which each end of a level's range is relaxed", 0, 0.95)
_RADIUS = Option(
    "center_sampling", float, None, "only points within so many strides of the centre", 0.25, 8, optional=True
)
_ANCHOR = Option("anchor_scale", float, 8.0, "side of the anchor in strides", 0.25, 64)
_TOPK = Option("topk", int, 9, "candidates of a box at each level", 1, 100)
_SIGMA = Option("sigma", float, 0.4, "share of each side that the fovea keeps", 0.05, 1)

PACKAGE = (
    Method(
        name="fcos",
        title="FCOS",
        source="fcos:FCOS",
        criterion="fcos",
        summary="inside the box (or its middle) and its level's range; the smallest box wins",
        ranges="regress_ranges",
        fields=("center_sampling",),
        options=(_RADIUS,),
        colour="#5aa9dd",
        reference="Tian et al., ICCV 2019",
    ),
    Method(
        name="dsla",
        title="DSLA",
        source="dsla:DSLA",
        criterion="dsla",
        coupling="on",
        summary="inside the box and its level's relaxed range; the highest label wins",
        label="centerness (1 in the core zone) × interval relaxation",
        ranges="regress_ranges",
        fields=("relaxation", "truncate", "core_zone", "center_sampling"),
        options=(
            _GAMMA,
            Option("truncate", bool, True, "relaxed ends pass through int(), as in the release"),
            Option("core_zone", bool, True, "centerness is 1 within half a stride of the centre"),
            _RADIUS,
        ),
        colour="#d55e00",
        reference="Su et al., Pattern Recognition 131, 2022",
    ),
    Method(
        name="atss",
        title="ATSS",
        source="atss:ATSS",
        criterion="fcos",
        summary="of the nearest anchors of each level those with an IoU above mean + deviation",
        options=(_TOPK, _ANCHOR),
        colour="#8c6d31",
        reference="Zhang et al., CVPR 2020",
    ),
    Method(
        name="simota",
        title="SimOTA",
        source="simota:SimOTA",
        criterion="fcos",
        needs_predictions=True,
        summary="the k points of least classification and IoU cost, k from the best IoUs",
        options=(
            Option("center_radius", float, 2.5, "of the centre region, strides", 0.25, 16),
            Option("candidate_topk", int, 10, "IoUs that k sums", 1, 100),
            Option("iou_weight", float, 3.0, "of the IoU in the cost", 0, 20),
            Option("cls_weight", float, 1.0, "of the classification in the cost", 0, 20),
        ),
        colour="#b5507a",
        reference="Ge et al., YOLOX, arXiv 2107.08430",
    ),
    Method(
        name="tal",
        title="TAL",
        source="tal:TaskAligned",
        criterion="dsla",
        needs_predictions=True,
        summary="the points of highest score^α · IoU^β",
        label="that alignment, scaled to the box's best IoU",
        options=(
            Option("topk", int, 13, "points of a box", 1, 100),
            Option("alpha", float, 1.0, "exponent of the score", 0, 10),
            Option("beta", float, 6.0, "exponent of the IoU", 0.05, 20),
        ),
        colour="#4d6fae",
        reference="Feng et al., TOOD, ICCV 2021",
    ),
    Method(
        name="max-iou",
        title="Max-IoU",
        source="max_iou:MaxIoU",
        criterion="fcos",
        summary="one square anchor a point, its IoU against two thresholds (RetinaNet)",
        options=(
            Option("positive", float, 0.5, "IoU from which an anchor is positive", 0.05, 1),
            Option("negative", float, 0.4, "IoU below which an anchor is background", 0.05, 1),
            Option("low_quality", bool, True, "each box claims its best anchors, whatever their IoU"),
            _ANCHOR,
        ),
        colour="#3f8f8a",
        reference="Lin et al., RetinaNet, ICCV 2017",
    ),
    Method(
        name="fovea",
        title="FoveaBox",
        source="fovea:FoveaBox",
        criterion="fcos",
        summary="the shrunk middle of the box, at each level whose range holds its size",
        ranges="scale_ranges",
        options=(_SIGMA,),
        colour="#9467bd",
        reference="Kong et al., IEEE TIP 2020",
    ),
    Method(
        name="fovea-dsla",
        title="FoveaBox + DSLA",
        source="fovea:FoveaBox",
        fixed={"smooth": True},
        criterion="dsla",
        coupling="on",
        summary="FoveaBox's points, its ranges relaxed; the highest label wins",
        label="centerness (1 in the core zone) × interval relaxation of √(w · h)",
        ranges="scale_ranges",
        fields=("relaxation",),
        options=(_SIGMA, _GAMMA),
        colour="#6b3fa0",
        reference="Su et al., Pattern Recognition 131, 2022",
    ),
    Method(
        name="gfl",
        title="ATSS + IoU label",
        source="gfl:GFL",
        criterion="dsla",
        coupling="iou-only",
        summary="ATSS's points",
        options=(_TOPK, _ANCHOR),
        colour="#5c5c5c",
        reference="Li et al., NeurIPS 2020",
    ),
)
