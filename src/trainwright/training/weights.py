"""Where a network's weights come from: looked for before torch is imported, so that a missing file is told at once."""

from __future__ import annotations

import os
import socket
from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from trainwright.errors import UsageError, WeightsError
from trainwright.recipe import PRETRAINED, RANDOM, NetworkSpec
from trainwright.training.names import published_name

if TYPE_CHECKING:
    import torch
    from torch import nn

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")
CONNECT_SECONDS = 2.0
MAX_WEIGHT_BYTES = 20 * 2**30
MIN_MATCHED = 0.5  # part of the network's tensors that a weight file has to fill to count as weights of that network
MAX_LEFT_OVER = 0.25  # part of a file's tensors that the network may have no place for: more belong to a larger network


def check_weights(spec: NetworkSpec, *, offline: bool) -> None:
    """Raise WeightsError where the weights that `spec` asks for are not on this machine and cannot be fetched.

    Those of a network on a backbone are its backbone's. Raises UsageError for a network of ours that has none. Importing
    torch and timm takes seconds; this needs neither. Without network it also tells the hub client to be offline, which
    otherwise retries for most of a minute.
    """
    if spec.weights == RANDOM:
        return
    if spec.weights != PRETRAINED:
        _check_file(Path(spec.weights))
        return
    name = published_name(spec)
    if name is None:
        raise unpublished(spec.name)
    cached = cached_weights(name)
    reachable = not offline and _hub_answers()
    if not reachable:
        _tell_hub_client_to_be_offline()
    if not cached and not reachable:
        raise pretrained_missing(name, offline=offline)


def unpublished(name: str) -> UsageError:
    """The error for pre-trained weights of a network that nobody has published any of."""
    return UsageError(
        f"{name!r} has no published weights.",
        where="network.weights",
        cure="Use --set network.weights=random, or a network that has some: resnet18, or one on a backbone such as unet.",
    )


def pretrained_missing(name: str, *, offline: bool) -> WeightsError:
    """The error for pre-trained weights that are neither cached nor to be had: what, where, and three ways out."""
    why = "offline was asked for" if offline else f"{_hub_address()} cannot be reached"
    return WeightsError(
        f"the pre-trained weights of {name!r} (hub repository timm/{name}) are not in the hub cache "
        f"{hub_cache()}, and {why}.",
        where="network.weights",
        cure=(
            "Three ways out: (1) give a file of weights, --set network.weights=FILE.safetensors; "
            f"(2) on a machine with a network run 'hf download timm/{name}…' and copy its hub cache here "
            "(or set HF_HUB_CACHE to it); "
            "(3) start from random weights, --set network.weights=random."
        ),
    )


def hub_cache() -> Path:
    """The folder where the hub client keeps what it has downloaded."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def cached_weights(name: str) -> list[Path]:
    """Weight files of timm network `name` in the hub cache; a name without its tag finds all tags."""
    exact = "." in name
    folders = hub_cache().glob(f"models--timm--{name}" if exact else f"models--timm--{name}*")
    wanted = f"models--timm--{name}"
    return [
        file
        for folder in sorted(folders)
        if folder.name == wanted or folder.name.startswith(f"{wanted}.")
        for kind in WEIGHT_FILES
        for file in folder.glob(f"snapshots/*/{kind}")
    ]


def load_weight_file(network: nn.Module, path: Path) -> list[str]:
    """Fill the network from a .safetensors or .pth file, leaving out tensors whose shape differs (another head).

    Returns the names of the network's tensors that the file did not fill. Raises WeightsError where it cannot be read or
    fills less than half of the network. A .pth file is read with torch's restricted unpickler, which runs no code.
    """
    own = network.state_dict()
    given = {_plain(name, own): tensor for name, tensor in _read(path).items()}
    fitting = {name: given[name] for name, tensor in own.items() if name in given and given[name].shape == tensor.shape}
    if len(fitting) < MIN_MATCHED * len(own):
        raise WeightsError(
            f"fills {len(fitting)} of the network's {len(own)} tensors: these are weights of another network. "
            f"It has for example {', '.join(list(given)[:3])}; expected {', '.join(list(own)[:3])}.",
            where=str(path),
            cure="Check network.name.",
        )
    unknown = [name for name in given if name not in own]
    if any(name.endswith(".running_mean") and f"{name.removesuffix('running_mean')}weight" in own for name in unknown):
        raise WeightsError(
            "holds weights that were learned with batch norm, and the network has group norm in its place.",
            where=str(path),
            cure="Set network.norm to batch or frozen.",
        )
    if len(unknown) > MAX_LEFT_OVER * len(given):
        raise WeightsError(
            f"holds {len(unknown)} of {len(given)} tensors that the network has no place for "
            f"(for example {', '.join(unknown[:3])}): these are weights of a larger network.",
            where=str(path),
            cure="Check network.name.",
        )
    network.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def saved_normalization(path: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """(mean, std) of pixels scaled to 0–1 that a model of an earlier run carries in its file; None in any other file."""
    tensors = _read(path)
    if not {"scale", "shift"} <= tensors.keys():
        return None
    scale_C, shift_C = (tensors[name].double().flatten() for name in ("scale", "shift"))
    return tuple((-shift_C / scale_C / 255).tolist()), tuple((1 / scale_C / 255).tolist())


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        tree: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(
            f"cannot be read as weights ({type(error).__name__}: {str(error)[:200]}).",
            where=str(path),
            cure="Give a .safetensors file, or a .pth file that holds only a state dict.",
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(tree, Mapping) and isinstance(tree.get(key), Mapping):
            tree = tree[key]
    if not isinstance(tree, Mapping):
        raise WeightsError(
            f"holds a {type(tree).__name__}, expected a state dict.", where=str(path), cure="Save model.state_dict()."
        )
    return {str(name): value for name, value in tree.items() if isinstance(value, torch.Tensor)}


def _plain(name: str, own: Container[str]) -> str:
    """A tensor's name without what wrappers put before it; a name that the network has itself stays."""
    for prefix in ("module.", "_orig_mod.", "model.", "network."):
        if name in own:
            break
        name = name.removeprefix(prefix)
    return name


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise WeightsError(
            "no such file.",
            where=f"network.weights: {path}",
            cure="Give random, pretrained, or the path of a file of weights.",
        )
    if path.stat().st_size > MAX_WEIGHT_BYTES:
        raise WeightsError(f"larger than {MAX_WEIGHT_BYTES:,} bytes.", where=str(path), cure="Check the path.")


def _tell_hub_client_to_be_offline() -> None:
    """For programs that we start through the environment, for this one in the value that the client read at its import."""
    from huggingface_hub import constants

    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True


def _hub_address() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


def _hub_answers() -> bool:
    """True where a connection to the hub (or the proxy on the way to it) can be opened."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return False
    address = urlsplit(os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or _hub_address())
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        with socket.create_connection((address.hostname or "", port), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False
