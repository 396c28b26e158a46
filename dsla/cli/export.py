"""Write the raw head of a model as ONNX; decoding and NMS stay outside.

Example: dsla export r50.safetensors --out r50.onnx
"""

from argparse import ArgumentParser, Namespace

from ..files import refuse_existing
from .arguments import count, output_option


def options(p: ArgumentParser) -> None:
    p.add_argument("weights", help="a safetensors file, or the name of shipped weights")
    p.add_argument("--out", required=True, metavar="FILE.onnx")
    p.add_argument("--size", type=count, nargs=2, metavar=("H", "W"), help="take this size only (default: any)")
    output_option(p, "the file of --out")


def run(args: Namespace) -> None:
    refuse_existing([args.out], inputs=[args.weights], overwrite=args.overwrite)
    from ..models import load
    from ..models.export import to_onnx

    print(to_onnx(load(args.weights), args.out, tuple(args.size) if args.size else None))
