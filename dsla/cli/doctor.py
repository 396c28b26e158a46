"""Check the environment, a line a requirement.

Example: dsla doctor
"""

import importlib
import sys
from argparse import Namespace

MODULES = (
    "torch", "torchvision", "numpy", "PIL", "pandas", "scipy", "matplotlib", "seaborn", "pycocotools", "safetensors",
    "tqdm", "ipywidgets", "anywidget",
)  # fmt: skip


def check(modules: tuple[str, ...] = MODULES) -> bool:
    """Prints the lines, with what to do about each FAIL; True if there is none.

    Every module is imported, since one that is installed may still not load.
    """
    failed = sys.version_info < (3, 11)
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"FAIL  Python {python}: 3.11 or newer is needed" if failed else f"OK    Python {python}")
    for name in modules:
        try:
            module = importlib.import_module(name)
            print(f"OK    {name} {getattr(module, '__version__', '')}".rstrip())
        except Exception as error:  # an import can fail in any way; each is worth a line
            failed = True
            print(f"FAIL  {name}: {error}; reinstall it with pip")
    if not failed:
        import torch

        print(f"OK    {'GPU ' + torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU only'}")
        threads = torch.get_num_threads()
        print(f"OK    {threads} thread{'s' * (threads != 1)}")
    return not failed


def run(args: Namespace) -> int:
    return int(not check())
