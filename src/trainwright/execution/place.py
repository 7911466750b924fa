"""A process's place among those that train one run together, as torchrun tells it through the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Place:
    """rank: of this process among `count`; the first, 0, leads. local_rank, local_count: the same on its own machine."""

    rank: int
    count: int
    local_rank: int
    local_count: int

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def environment(self, address: str, port: int) -> dict[str, str]:
        """What a process has to be started with to find this place, by the names that torchrun uses."""
        told = {"RANK": self.rank, "WORLD_SIZE": self.count, "LOCAL_RANK": self.local_rank}
        told |= {"LOCAL_WORLD_SIZE": self.local_count, "MASTER_PORT": port}
        return {"MASTER_ADDR": address, **{name: str(value) for name, value in told.items()}}


def place_told() -> Place | None:
    """This process's place; None where it trains alone."""
    told = os.environ
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= told.keys() or int(told["WORLD_SIZE"]) < 2:
        return None
    rank, count = int(told["RANK"]), int(told["WORLD_SIZE"])
    return Place(
        rank=rank,
        count=count,
        local_rank=int(told.get("LOCAL_RANK", rank)),
        local_count=int(told.get("LOCAL_WORLD_SIZE", count)),
    )
