"""Turn a checkpoint of mmdetection or torchvision into a weights file with its recipe inside.

Example: dsla convert dsla_r50.pth --out r50.safetensors
"""

from argparse import Namespace

from ..files import refuse_existing


def run(args: Namespace) -> None:
    refuse_existing([args.out], inputs=[args.checkpoint], overwrite=args.overwrite)
    from ..models.checkpoint import convert

    done = convert(args.checkpoint, args.out, args.recipe, overwrite=args.overwrite)
    recipe = done.model.recipe
    assert recipe is not None
    print(f"{recipe.name}, P6 from the {recipe.extra_levels}, {done.model.num_classes} classes → {done.path}")
    if done.others and args.recipe is None:
        print(f"its tensors also fit {', '.join(done.others)}: --recipe chooses")
