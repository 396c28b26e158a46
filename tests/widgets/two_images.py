"""Two black images with one object, and four detections whose overlaps are known by hand."""

import torch

OBJECT = [10.0, 10.0, 50.0, 50.0]
SHIFTED = [10.0, 10.0, 50.0, 46.0]  # IoU 0.9 with the object
WIDE = [10.0, 10.0, 66.0, 50.0]  # IoU 5/7 with the object, 0.9·5/7 = 9/14 with SHIFTED
FAR = [80.0, 80.0, 100.0, 100.0]


class Two:
    """Two black images; one object in the first, none in the second."""

    name, class_names, category_ids = "two", ("cat", "dog"), (7, 3)

    def __len__(self):
        return 2

    def __getitem__(self, i):
        boxes = torch.tensor([OBJECT] if i == 0 else []).reshape(-1, 4)
        labels = torch.zeros(len(boxes), dtype=torch.int64)
        return torch.zeros(3, 120, 120), {
            "boxes": boxes,
            "labels": labels,
            "crowd_boxes": torch.zeros(0, 4),
            "image_id": i,
        }

    def ground_truth(self):
        box = [10.0, 10.0, 40.0, 40.0]
        one = {"id": 1, "image_id": 0, "category_id": 7, "bbox": box, "area": 1600.0, "iscrowd": 0}
        return {
            "images": [{"id": i, "width": 120, "height": 120} for i in (0, 1)],
            "annotations": [one],
            "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        }


FOUND = [
    {
        "boxes": torch.tensor([SHIFTED, WIDE, FAR, OBJECT]),
        "scores": torch.tensor([0.6, 0.9, 0.5, 0.1]),
        "labels": torch.tensor([0, 0, 1, 0]),
        "image_id": 0,
    }
]
