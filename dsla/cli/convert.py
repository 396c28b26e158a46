"""Turn a checkpoint of mmdetection or torchvision into a weights file with its recipe inside.

Example: dsla convert dsla_r50.pth --out r50.safetensors
"""

from argparse import ArgumentParser, Namespace

from ..files import refuse_existing
from .arguments import output_option


def options(p: ArgumentParser) -> None:
    p.add_argument("checkpoint", metavar="CHECKPOINT.pth", help="DSLA or FCOS; nothing in it is executed")
    p.add_argument("--out", required=True, help="safetensors file to write")
    p.add_argument("--recipe", help="what the model is (default: the first of COCO's recipes that its tensors fit)")
    output_option(p, "the file of --out")


def run(args: Namespace) -> None:
    refuse_existing([args.out], inputs=[args.checkpoint], overwrite=args.overwrite)
    from ..models.checkpoint import convert

    done = convert(args.checkpoint, args.out, args.recipe)
    recipe = done.model.recipe
    assert recipe is not None
    print(f"{recipe.name}, P6 from the {recipe.extra_levels}, {done.model.num_classes} classes → {done.path}")
    if done.others and args.recipe is None:
        print(f"its tensors also fit {', '.join(done.others)}: --recipe chooses")
