"""Data sets: COCO-format files and the embedded scenes. All follow `loading.DetectionDataset`."""

from dsla.data.coco import CocoDataset
from dsla.data.loading import (
    DetectionDataset,
    as_tv_tensors,
    collate,
    load_image,
    to_coco_results,
    write_coco,
)
from dsla.data.scenes import Scenes

__all__ = [
    "CocoDataset",
    "DetectionDataset",
    "Scenes",
    "as_tv_tensors",
    "collate",
    "load_image",
    "to_coco_results",
    "write_coco",
]
