"""Write the raw head of a model as ONNX; decoding and NMS stay outside.

Example: dsla export r50.safetensors --out r50.onnx
"""

from argparse import Namespace

from ..files import refuse_existing


def run(args: Namespace) -> None:
    refuse_existing([args.out], inputs=[args.weights], overwrite=args.overwrite)
    from ..models import load
    from ..models.export import to_onnx

    size = tuple(args.size) if args.size else None
    print(to_onnx(load(args.weights), args.out, size, overwrite=args.overwrite))
