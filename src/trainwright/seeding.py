"""Named random streams: a stream depends only on (seed, name), never on what was drawn before it.

Whoever needs randomness names it by what it is for and by its counters (epoch, step, sample), so the draws of step s are
the same in any process, with any number of workers and after any resume. Nothing here has state.
"""

from __future__ import annotations

import hashlib
import operator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MAX_SEED = 2**63 - 1


def derive(seed: int, *name: str | int) -> int:
    """A seed in [0, 2**63) that depends only on `seed` and `name`, for generators of other libraries."""
    return int.from_bytes(_digest(seed, name)[:8], "little") & MAX_SEED


def stream(seed: int, *name: str | int) -> np.random.Generator:
    """A numpy generator (Philox, counter-based) that depends only on `seed` and `name`."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key=np.frombuffer(_digest(seed, name), dtype=np.uint64)))


def _digest(seed: int, name: tuple[str | int, ...]) -> bytes:
    """16 bytes. Each part is written with its type and length, so ("ab", "c") and ("a", "bc") differ."""
    return hashlib.blake2b("|".join(_written(part) for part in (seed, *name)).encode(), digest_size=16).digest()


def _written(part: str | int) -> str:
    """Every kind of integer the same way, so that a row number out of a numpy array names the stream that the int names."""
    text = part if isinstance(part, str) else str(int(operator.index(part)))
    return f"{'str' if isinstance(part, str) else 'int'}{len(text)}:{text}"
