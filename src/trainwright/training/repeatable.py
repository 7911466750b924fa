"""Settings of torch under which a training can be repeated bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def repeatable(device: torch.device, threads: int | None) -> Iterator[None]:
    """Settings under which the same training gives the same bits, put back afterwards.

    threads: of torch on the CPU, since another number of them adds up in another order; None leaves them.
    """
    before = torch.get_num_threads()
    cudnn, algorithms = torch.backends.cudnn.deterministic, torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if threads is not None:
        torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if (
            device.type == "cuda"
        ):  # the call imports half of torch, which fails where Ctrl-C came in the middle of an import
            torch.backends.cudnn.deterministic = cudnn
            torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
