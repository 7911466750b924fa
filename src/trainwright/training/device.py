"""Which device trains and in which precision: chosen once, by rules that give the same answer every time, with the reason."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainwright.errors import UsageError

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Precision:
    """name: fp32, bf16 or fp16. autocast: the type that autocast uses, None for none. reason: why it was chosen."""

    name: str
    autocast: torch.dtype | None
    reason: str


def choose_device(asked: str = "auto") -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:1`. Raises UsageError where it does not exist."""
    if asked == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return found if found is not None and found.type == "cuda" else torch.device("cpu")
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise UsageError(f"no such device {asked!r}.", where="device", cure="Known: auto, cpu, cuda, cuda:N.") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"{asked!r} is not supported.", where="device", cure="Known: auto, cpu, cuda, cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"{asked!r} was asked for, this machine has {torch.cuda.device_count()} CUDA devices.",
            where="device",
            cure="Use --device cpu, or check the driver with nvidia-smi.",
        )
    return device


def choose_precision(asked: str, network: nn.Module, device: torch.device) -> Precision:
    """The precision that `asked` names; for `auto` the fastest one that is safe for this network on this device.

    A rule, not a race: a race's winner can change from one start to the next, and with it every weight. Measured on a
    processor with AMX: bf16 is 1.7–2.4 times as fast for dense convolutions, and slower for depthwise ones (docs/log.md).
    """
    if asked != "auto":
        return Precision(name=asked, autocast=PRECISIONS[asked], reason="asked for")
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return Precision(name="bf16", autocast=torch.bfloat16, reason="this GPU computes bf16 natively")
        return Precision(name="fp16", autocast=torch.float16, reason="this GPU has no native bf16")
    if not _cpu_computes_bf16():
        return Precision(name="fp32", autocast=None, reason="this processor has no bf16 instructions")
    if _is_depthwise(network):
        return Precision(name="fp32", autocast=None, reason="depthwise convolutions are slower in bf16 on a processor")
    return Precision(name="bf16", autocast=torch.bfloat16, reason="this processor computes bf16 natively")


def computes(precision: str, device: torch.device) -> bool:
    """Whether a device has instructions for fp32, bf16 or fp16; without them it does the same work more slowly, rounding
    elsewhere."""
    if precision == "fp32":
        return True
    if device.type == "cuda":
        return precision == "fp16" or torch.cuda.get_device_capability(device) >= (8, 0)
    return precision == "bf16" and _cpu_computes_bf16()


def prefers_channels_last(network: nn.Module) -> bool:
    """True for networks with 2-D convolutions: the cache stores pixels channels-last, and kernels are fastest on it."""
    return any(isinstance(module, nn.Conv2d) for module in network.modules())


def autocast(dtype: torch.dtype | None, device: torch.device) -> Any:
    """Mixed precision of that type on that device, or nothing."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device, or the machine that is one, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def memory_bytes(device: torch.device) -> int:
    """Peak memory: of the device for a GPU, of the process for a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import psutil

    return int(psutil.Process(os.getpid()).memory_info().rss)


def _is_depthwise(network: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in network.modules())


def _cpu_computes_bf16() -> bool:
    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(bool(check()) for check in checks if check is not None)
