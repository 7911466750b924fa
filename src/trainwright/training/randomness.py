"""torch's own random stream, set by name: dropout and the like draw from it and take no generator of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainwright.seeding import derive


@contextmanager
def randomness_of(seed: int, *name: str | int, device: torch.device) -> Iterator[None]:
    """torch's own random stream (dropout and the like draw from it) set to that of (seed, name), then put back.

    Sets the generators of the CPU and of `device` alone: torch.manual_seed costs 20 times as much.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    before = [generator.get_state() for generator in generators]
    own = derive(seed, *name)
    for generator in generators:
        generator.manual_seed(own)
    try:
        yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)
