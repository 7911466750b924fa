"""Names of networks, known without importing the libraries that have them (which takes seconds)."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from trainwright.errors import UnknownNameError, did_you_mean

CUSTOM = "custom"  # the user's own nn.Module
SMALL_RESNET = "small-resnet"  # ours
REGISTERED = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)


def check_network_name(name: str) -> None:
    """Raise UnknownNameError, with the nearest known name, where `name` is neither ours nor timm's.

    A timm name may carry the tag of its weights after a dot: `resnet18.a1_in1k`.
    """
    if name in (CUSTOM, SMALL_RESNET):
        return
    known = timm_names()
    if name.partition(".")[0] not in known:
        raise UnknownNameError(
            f"no such network {name!r}.",
            where="network.name",
            cure=f"{did_you_mean(name, [*known, SMALL_RESNET])}Known: {SMALL_RESNET}, and {len(known):,} networks of timm.",
        )


@cache
def timm_names() -> frozenset[str]:
    """The networks that the installed timm registers, read from its source files; deprecated aliases are not among them."""
    package = find_spec("timm")
    folders = [Path(folder) / "models" for folder in (package and package.submodule_search_locations) or []]
    sources = [file.read_text(encoding="utf-8") for folder in folders for file in sorted(folder.glob("*.py"))]
    return frozenset(name for source in sources for name in REGISTERED.findall(source))
