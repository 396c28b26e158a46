"""Whether other commits train as this one does: the rule by which runs of several commits are of one protocol.

``python tests/same_weights.py COMMIT …`` trains 30 steps of each setting of the protocol's first part, here and at each
commit, and compares the weights bit for bit; it exits with 1 if any differ. Bits are those of one machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from dsla.paper.protocol import PLAN, tuned
from dsla.paper.runs import read

ROOT = Path(__file__).parents[1]
STEPS = 30
# In words that every commit since the first run understands: it prints the hash of each setting's weights.
TRAIN = f"""
import json, sys, torch, dsla
from dsla.models.weights import content_hash
torch.set_num_threads(1)
data = dsla.Scenes("train", size={16 * STEPS}, seed=1)
for name, fields in json.loads(sys.argv[1]):
    result = dsla.train(dsla.recipe(name, **fields, steps={STEPS}), data, seed=0, progress=False)
    model = result[0] if isinstance(result, tuple) else getattr(result, "model", result)
    print(content_hash(model.state_dict()), flush=True)
"""


def settings() -> list[tuple[str, dict[str, float]]]:
    """(recipe, its changed fields) of each setting, at the rate of its tuning."""
    rates = tuned(read(ROOT / "figures" / "runs.jsonl", protocol=PLAN["version"]))
    return [(recipe, PLAN["starts"][start] | {"lr": rate}) for (start, recipe), rate in rates.items()]


def weights(folder: Path, changes: str) -> list[str]:
    """The hashes that the package in a folder gives."""
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TRAIN, changes]
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, text=True, stdout=subprocess.PIPE
    ).stdout.split()


def main(commits: list[str]) -> int:
    each = settings()
    here, differ = weights(ROOT, json.dumps(each)), False
    for commit in commits:
        with tempfile.TemporaryDirectory() as folder:
            git = ["git", "-C", str(ROOT), "worktree"]
            subprocess.run([*git, "add", "--quiet", "--detach", folder, commit], check=True)
            try:
                there = weights(Path(folder), json.dumps(each))
            finally:
                subprocess.run([*git, "remove", "--force", folder], check=True)
        other = [f"{name} {fields}" for (name, fields), a, b in zip(each, here, there, strict=True) if a != b]
        print(f"{commit}: {len(each) - len(other)} of {len(each)} settings train as here", *other, sep="\n  ")
        differ |= bool(other)
    return int(differ)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
