"""Data sets: COCO-format files and the embedded scenes. All follow `loading.DetectionDataset`."""

from .coco import CocoDataset
from .loading import DetectionDataset, as_tv_tensors, collate, to_coco_results, write_coco
from .pictures import load_image
from .scenes import Scenes
from .sources import open_dataset

__all__ = [
    "CocoDataset", "DetectionDataset", "Scenes", "as_tv_tensors", "collate", "load_image", "open_dataset",
    "to_coco_results", "write_coco",
]  # fmt: skip
