"""The page of recipes says how the photographs of the protocol are made of the public set: its code makes them."""

import json
import re
from pathlib import Path

from dsla.paper.protocol import images, plan

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/recipes.md").read_text(encoding="utf-8").split("## Small photographs")[1].split("\n## ")[0]
(CONVERSION,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


def as_voc(folder, sets):
    """COCO files as the public set lies: a picture and an XML a photograph, lists of the names of each set."""
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for listed, coco in sets.items():
        names = {c["id"]: c["name"] for c in coco["categories"]}
        stems = [Path(image["file_name"]).stem for image in coco["images"]]
        (folder / "ImageSets/Main" / listed).write_text("\n".join(stems[::-1]) + "\n")
        for image, stem in zip(coco["images"], stems, strict=True):
            things = ""
            for row in (a for a in coco["annotations"] if a["image_id"] == image["id"]):
                x, y, w, h = row["bbox"]
                corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + w, y + h), strict=True))
                box = "".join(f"<{side}>{at}</{side}>" for side, at in corners.items())
                things += f"<object><name>{names[row['category_id']]}</name><bndbox>{box}</bndbox></object>"
            size = f"<size><width>{image['width']}</width><height>{image['height']}</height></size>"
            (folder / f"Annotations/{stem}.xml").write_text(f"<annotation>{size}{things}</annotation>")
            (folder / f"JPEGImages/{stem}.jpg").touch()


def test_the_code_of_the_recipes_page_makes_the_photographs_of_a_voc_folder(tmp_path, monkeypatch):
    boxes = [(1, [5, 6, 20, 30]), (3, [7, 8, 0, 9]), (2, [0, 1, 2, 3])]  # the second has no area
    rows = [{"image_id": 12, "category_id": c, "bbox": box} for c, box in boxes]
    categories = [{"id": i, "name": name} for i, name in enumerate(("Platelets", "RBC", "WBC"), 1)]
    pictures = [{"id": i, "file_name": f"BloodImage_{i - 1:05}.jpg", "width": 64, "height": 48} for i in (8, 12)]
    coco = {"images": pictures, "annotations": rows, "categories": categories}
    as_voc(tmp_path / "BCCD_Dataset/BCCD", {"trainval.txt": coco, "test.txt": coco | {"images": pictures[:1]}})
    monkeypatch.chdir(tmp_path)
    exec(CONVERSION, {})
    made = json.loads(Path("cells/instances_train.json").read_text())
    assert (made["images"], made["categories"]) == (pictures, categories)
    assert made["annotations"] == [
        rows[0] | {"id": 1, "area": 600, "iscrowd": 0},
        rows[2] | {"id": 2, "area": 6, "iscrowd": 0},
    ]
    assert [image["id"] for image in json.loads(Path("cells/instances_val.json").read_text())["images"]] == [8]
    assert sorted(path.name for path in Path("cells/images").iterdir()) == [image["file_name"] for image in pictures]


def test_the_code_of_the_recipes_page_makes_the_sets_of_the_runs(shared, tmp_path, monkeypatch):
    """Their lines in the store name them by fingerprints of all names, sizes and boxes."""
    sets = {
        listed: json.loads((shared / f"data/bccd/instances_{split}.json").read_text())
        for listed, split in (("trainval.txt", "train"), ("test.txt", "val"))
    }
    as_voc(tmp_path / "BCCD_Dataset/BCCD", sets)
    monkeypatch.chdir(tmp_path)
    exec(CONVERSION, {})
    for name in plan("photographs")["files"]:
        made, given = (images("photographs", name, str(d)) for d in ("cells", shared / "data/bccd"))
        assert made.fingerprint() == given.fingerprint()
