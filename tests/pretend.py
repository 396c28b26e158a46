"""A pretended GPU: code for "cuda" runs where there is none, and what would halt the host is counted.

Tensors on device "cuda" inside `pretend_gpu()` say that they live there, hold their data in main memory and are
computed there. Found as it happens:

- tensors of both devices in one operation (0-dimensional ones of main memory are allowed, as on a GPU): RuntimeError;
- what makes the host wait (`.item()`, `bool()`, `.cpu()`, `nonzero`, boolean masks, `unique`, copies from main memory
  that is not pinned or not `non_blocking`, tensors of Python numbers, NMS): counted in `waits`, with the line.

    with pretend_gpu() as gpu:
        model.to("cuda")(images, targets)
    for line, count in gpu.waits.most_common(): print(count, line)

Speed, memory, streams, autocast and kernels are not simulated: only where tensors lie, waits, and values.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
import torchvision  # noqa: F401  registers its operations
from torch import Tensor
from torch.nn.utils import clip_grad
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

GPU = torch.device("cuda", 0)
aten = torch.ops.aten
_READS = {
    aten._local_scalar_dense.default: "a value is read",
    aten.is_nonzero.default: "a value is read",
    aten.equal.default: "torch.equal reads a value",
    aten.nonzero.default: "nonzero counts on the device",
    aten.masked_select.default: "masked_select counts on the device",
    aten._unique2.default: "unique counts on the device",
    aten.unique_dim.default: "unique counts on the device",
    aten.unique_consecutive.default: "unique counts on the device",
    aten.bincount.default: "bincount reads the largest value",
    torch.ops.torchvision.nms.default: "NMS counts on the device",
}
_COPIES = (aten._to_copy.default, aten.to.dtype_layout, aten.to.device)
_READ_INDEX = (aten.index.Tensor,)
_WRITE_INDEX = (aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default)


class OnGpu(Tensor):
    """A tensor that says device cuda:0 and holds its values in main memory.

    It says so to Python alone. For C++ it lies in main memory, so that autograd's engine asks no driver for streams.
    """

    held: Tensor
    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGpu:
        with torch.inference_mode(held.is_inference()):  # views of what was made outside share its version counter
            out = Tensor._make_wrapper_subclass(
                cls,
                held.size(),
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                layout=held.layout,
                device=held.device,
                requires_grad=held.requires_grad,
            )
        out.held = held
        return out

    def __repr__(self) -> str:
        return f"OnGpu({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError("a pretended GPU tensor left its `with pretend_gpu()`")


class Gpu(TorchDispatchMode):
    """waits: lines at which the host would wait, with the reason.  pinned: storages of pinned main memory."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.pinned: set[int] = set()

    def wait(self, why: str) -> None:
        frames = [f for f in traceback.extract_stack() if "/torch/" not in f.filename and f.filename != __file__]
        line = frames[-1]
        self.waits[f"{'/'.join(line.filename.split('/')[-3:])}:{line.lineno} {line.line}  [{why}]"] += 1

    def _arrives(self, source: Tensor, non_blocking: bool) -> None:
        """A copy from main memory to the device."""
        if not (non_blocking and source.untyped_storage().data_ptr() in self.pinned) and source.numel():
            self.wait("a copy to the device, not both pinned and non_blocking")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        flat, _ = tree_flatten((args, kwargs))
        here = [x for x in flat if isinstance(x, OnGpu)]
        outside = [x for x in flat if isinstance(x, Tensor) and not isinstance(x, OnGpu)]
        device = kwargs.get("device")
        wanted = device is not None and torch.device(device).type == "cuda"

        if func in _COPIES:
            goes = wanted or (device is None and bool(here))
            if goes and not here:
                self._arrives(outside[0], bool(kwargs.get("non_blocking")))
            elif here and not goes:
                self.wait("a copy to main memory")
        elif func is aten.copy_.default:
            target, source = args[:2]
            if isinstance(target, OnGpu) and not isinstance(source, OnGpu) and source.dim():
                self._arrives(source, bool(args[2] if len(args) > 2 else kwargs.get("non_blocking")))
            elif isinstance(source, OnGpu) and not isinstance(target, OnGpu):
                self.wait("a copy to main memory")
            func(*_plain(args), **_plain(kwargs))
            return target
        elif here:
            self._operation(func, args, kwargs, outside)
        if device is not None:
            kwargs["device"] = torch.device("cpu")
        if here or wanted:
            kwargs.pop("pin_memory", None)
        out = func(*_plain(args), **_plain(kwargs))
        if (func in _COPIES and not goes) or not (here or wanted):
            return out
        for x in here:
            if x.held is out:
                return x  # an operation in place
        return tree_map_only(Tensor, lambda t: t if isinstance(t, OnGpu) else OnGpu(t), out)

    def _operation(self, func: Any, args: Any, kwargs: dict[str, Any], outside: list[Tensor]) -> None:
        """Refuses operations across devices, and counts what waits in those on the device."""
        if func in (*_READ_INDEX, *_WRITE_INDEX):
            indices = [i for i in args[1] if i is not None]
            if any(i.dtype in (torch.bool, torch.uint8) for i in indices):
                self.wait("a boolean mask counts on the device")
            elif not all(isinstance(i, OnGpu) for i in indices):
                self.wait("an index in main memory is copied")
        elif func is not aten.set_.source_Tensor and any(x.dim() for x in outside):
            raise RuntimeError(f"{func}: tensors of cuda:0 and of main memory in one operation")
        if func in _READS:
            self.wait(_READS[func])
        if func is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None:
            self.wait("repeat_interleave without output_size counts on the device")


def _plain(values: Any) -> Any:
    return tree_map_only(OnGpu, lambda t: t.held, values)


class _Functions(TorchFunctionMode):
    """What does not come through as an operation: tensors of Python numbers, and pinned memory."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.pin_memory:
            pinned = args[0].clone()
            self.gpu.pinned.add(pinned.untyped_storage().data_ptr())
            return pinned
        if func is Tensor.tolist and isinstance(args[0], OnGpu):
            self.gpu.wait("a list of values is read")
            return args[0].held.tolist()
        if func is Tensor.numpy and isinstance(args[0], OnGpu):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func in (Tensor.cpu, Tensor.cuda, Tensor.to):
            target = _target(func, args[1:], kwargs)
            if target is not None and target.type != args[0].device.type:  # C++ takes both to be main memory
                kinds = [v for v in (*args[1:], *kwargs.values()) if isinstance(v, torch.dtype)]
                return aten._to_copy(
                    args[0], device=target, dtype=kinds[0] if kinds else None, non_blocking=_unawaited(args, kwargs)
                )
            if target is not None and target.type == "cuda":
                kinds = [v for v in (*args[1:], *kwargs.values()) if isinstance(v, torch.dtype)]
                return args[0].type(kinds[0]) if kinds else args[0]
        if func is Tensor.new_tensor and isinstance(args[0], OnGpu):
            self.gpu.wait("new_tensor copies from main memory")
            made = torch.tensor(args[1], dtype=kwargs.get("dtype") or args[0].dtype)
            return _quietly(self.gpu, made)
        made = func in (torch.tensor, torch.as_tensor, torch.asarray) and not isinstance(args[0], Tensor)
        if made and kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cuda":
            self.gpu.wait(f"torch.{func.__name__}(…, device=cuda) copies from main memory")
            del kwargs["device"]
            return _quietly(self.gpu, func(*args, **kwargs))
        return func(*args, **kwargs)


def _target(func: Any, args: Any, kwargs: dict[str, Any]) -> torch.device | None:
    """The device that `.to`, `.cpu` or `.cuda` names; None where it names a type alone."""
    if func is not Tensor.to:
        return GPU if func is Tensor.cuda else torch.device("cpu")
    for value in (*args[:1], kwargs.get("device"), kwargs.get("other")):
        if isinstance(value, str | torch.device | Tensor):
            device = torch.device(value.device if isinstance(value, Tensor) else value)
            return GPU if device.type == "cuda" else device
    return None


def _unawaited(args: Any, kwargs: dict[str, Any]) -> bool:
    """`non_blocking`, by name or as the first of the flags by place."""
    return bool(kwargs.get("non_blocking", next((v for v in args[1:] if isinstance(v, bool)), False)))


def _quietly(gpu: Gpu, value: Tensor) -> Tensor:
    gpu.pinned.add(value.untyped_storage().data_ptr())
    return value.to(GPU, non_blocking=True)


@contextlib.contextmanager
def pretend_gpu() -> Iterator[Gpu]:
    """See the module."""
    gpu = Gpu()
    swap = torch.__future__.get_swap_module_params_on_conversion()
    grouped = clip_grad._group_tensors_by_device_and_dtype
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with (
            mock.patch.object(torch.cuda, "_lazy_init", return_value=None),
            mock.patch.object(clip_grad, "_group_tensors_by_device_and_dtype", lambda lists: _groups(grouped(lists))),
            torch.autograd.set_multithreading_enabled(False),
            gpu,
            _Functions(gpu),
        ):
            yield gpu
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swap)


def _groups(groups: dict[Any, Any]) -> dict[Any, Any]:
    """Tensors by device and type, as C++ sees them → by the device that they say."""
    return {(value[0][0][0].device, kind): value for (_, kind), value in groups.items()}
