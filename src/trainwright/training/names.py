"""Names of networks, known without importing the libraries that have them (which takes seconds)."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from trainwright.errors import UnknownNameError, did_you_mean
from trainwright.plugins import networks
from trainwright.recipe import NetworkSpec

CUSTOM = "custom"  # the user's own nn.Module
SMALL_RESNET = "small-resnet"
WHOLE = "small-"  # how the names of those begin that are ours from end to end; our others stand on a backbone of timm
REGISTERED = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)


def check_network(spec: NetworkSpec) -> None:
    """Raise UnknownNameError, with the nearest known name, for a network, or a backbone of one, that does not exist."""
    check_network_name(spec.name)
    if has_backbone(spec.name) and not _is_timms(spec.backbone):
        known = timm_names()
        raise UnknownNameError(
            f"no such backbone {spec.backbone!r}.",
            where="network.backbone",
            cure=f"{did_you_mean(spec.backbone, sorted(known))}Known: {len(known):,} networks of timm.",
        )


def check_network_name(name: str) -> None:
    """Raise UnknownNameError, with the nearest known name, where `name` is neither ours nor timm's.

    A timm name may carry the tag of its weights after a dot: `resnet18.a1_in1k`. With packages of others installed, only
    `plugins.networks.get` can tell.
    """
    if name == CUSTOM or _is_timms(name) or _is_ours(name):
        return
    ours, known = sorted(networks.written_names()), timm_names()
    raise UnknownNameError(
        f"no such network {name!r}.",
        where="network.name",
        cure=f"{did_you_mean(name, [*sorted(known), *ours])}Known: {', '.join(ours)}, and {len(known):,} networks of timm.",
    )


def has_backbone(name: str) -> bool:
    """Whether the network of that name is one of ours that stands on `network.backbone`."""
    return not name.startswith(WHOLE) and name in networks.written_names()


def published_name(spec: NetworkSpec) -> str | None:
    """The timm network whose published weights `pretrained` means: the network itself or its backbone; None: there are none."""
    if has_backbone(spec.name):
        return spec.backbone
    return None if spec.name in networks.written_names() else spec.name


@cache
def timm_names() -> frozenset[str]:
    """The networks that the installed timm registers, read from its source files; deprecated aliases are not among them."""
    package = find_spec("timm")
    folders = [Path(folder) / "models" for folder in (package and package.submodule_search_locations) or []]
    sources = [file.read_text(encoding="utf-8") for folder in folders for file in sorted(folder.glob("*.py"))]
    return frozenset(name for source in sources for name in REGISTERED.findall(source))


def _is_timms(name: str) -> bool:
    return name.partition(".")[0] in timm_names()


def _is_ours(name: str) -> bool:
    """Also of a network that a package or a program of others has registered."""
    try:
        networks.check(name)
    except UnknownNameError:
        return False
    return True
