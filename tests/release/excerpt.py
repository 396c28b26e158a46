"""Makes `excerpt.npz` from a folder of recorded outputs: ``python tests/release/excerpt.py FOLDER``.

The numbers are outputs of the authors' code (YonghaoHe/DSLA, a fork of mmdetection 2.20, at commit e10b5b0c891d) and,
for ATSS, FCOS and FoveaBox, of mmdetection's; no source is in them. The whole set is larger: here stand whole cases of
each kind, the first runs of the losses, so that a clone without the set still proves the method.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

WHOLE = (
    *("points", "scores", "unit_losses", "fcos_targets", "forward_head", "atss", "fovea", "targets_batch"),
    *(f"targets_{case}" for case in ("edges", "n1", "n5", "tiny", "huge", "overlap_same")),
)
RUNS = {"loss": 3, "fcos_loss": 1}  # so many of the recorded runs
OUT = Path(__file__).with_name("excerpt.npz")


def main(folder: Path) -> None:
    """Writes the archive; keys are file/key."""
    kept = {}
    for name in (*WHOLE, *RUNS):
        with np.load(folder / f"{name}.npz") as z:
            for key in z.files:
                run = key.split("_")[0]
                if name in RUNS and run[0] == "r" and run[1:].isdigit() and int(run[1:]) >= RUNS[name]:
                    continue
                value = z[key]
                if name in RUNS and key == "runs_json":
                    value = np.array(json.dumps(json.loads(str(value))[: RUNS[name]]))
                kept[f"{name}/{key}"] = value
    np.savez_compressed(OUT, **kept)
    print(f"{OUT.name}: {len(kept)} arrays, {OUT.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
