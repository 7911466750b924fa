"""Device and precision follow from rules that give the same answer every time, with the reason."""

import mmap

import pytest
import torch
from torch import nn

from trainwright.errors import UsageError
from trainwright.training import device as devices
from trainwright.training.device import (
    Precision,
    autocast,
    choose_device,
    choose_precision,
    memory_bytes,
    prefers_channels_last,
)

CPU = torch.device("cpu")
DENSE = nn.Sequential(nn.Conv2d(3, 8, 3))
DEPTHWISE = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8))


@pytest.fixture
def machine(monkeypatch):
    """(GPUs, capability, bf16 on the processor) → this machine seems to have them."""

    def set_up(gpus=0, capability=(8, 0), bf16=False):
        found = torch.device("cuda") if gpus else None
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: found)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: bf16)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)

    return set_up


@pytest.mark.parametrize(
    ("asked", "gpus", "expected"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda"),
        ("cpu", 2, "cpu"),
        ("cuda", 1, "cuda"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_the_device_is_the_one_asked_for_or_a_gpu_where_there_is_one(machine, asked, gpus, expected):
    machine(gpus=gpus)

    assert choose_device(asked) == torch.device(expected)


def test_an_accelerator_that_is_not_supported_is_left_alone(machine, monkeypatch):
    machine()
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("mps"))

    assert choose_device("auto") == CPU


@pytest.mark.parametrize("asked", ["gpu", "", "cuda:x", "CUDA", "0"])
def test_an_unknown_device_is_answered_with_the_known_ones(asked):
    with pytest.raises(UsageError) as caught:
        choose_device(asked)

    assert str(caught.value) == f"device: no such device {asked!r}. Known: auto, cpu, cuda, cuda:N."


@pytest.mark.parametrize("asked", ["meta", "mps", "xpu:0"])
def test_a_device_of_another_kind_is_not_supported(asked):
    with pytest.raises(UsageError) as caught:
        choose_device(asked)

    assert str(caught.value) == f"device: {asked!r} is not supported. Known: auto, cpu, cuda, cuda:N."


@pytest.mark.parametrize(("asked", "gpus"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_answered_with_how_many_are(machine, asked, gpus):
    machine(gpus=gpus)

    with pytest.raises(UsageError) as caught:
        choose_device(asked)

    assert str(caught.value) == (
        f"device: '{asked}' was asked for, this machine has {gpus} CUDA devices. "
        "Use --device cpu, or check the driver with nvidia-smi."
    )


@pytest.mark.parametrize(("name", "dtype"), [("fp32", None), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_precision_that_was_asked_for_is_taken(machine, name, dtype):
    machine(bf16=True)

    assert choose_precision(name, DENSE, CPU) == Precision(name=name, autocast=dtype, reason="asked for")


@pytest.mark.parametrize(
    ("device", "capability", "bf16", "network", "name", "reason"),
    [
        ("cuda", (9, 0), False, DEPTHWISE, "bf16", "this GPU computes bf16 natively"),
        ("cuda", (8, 0), False, DENSE, "bf16", "this GPU computes bf16 natively"),
        ("cuda", (7, 5), True, DENSE, "fp16", "this GPU has no native bf16"),
        ("cpu", (9, 0), False, DENSE, "fp32", "this processor has no bf16 instructions"),
        ("cpu", (7, 5), True, DENSE, "bf16", "this processor computes bf16 natively"),
        ("cpu", (7, 5), True, DEPTHWISE, "fp32", "depthwise convolutions are slower in bf16 on a processor"),
    ],
)
def test_automatic_precision_follows_device_and_network(machine, device, capability, bf16, network, name, reason):
    machine(gpus=1, capability=capability, bf16=bf16)

    chosen = choose_precision("auto", network, torch.device(device))

    assert (chosen.name, chosen.reason) == (name, reason)
    assert chosen.autocast == devices.PRECISIONS[name]


def test_the_same_question_gets_the_same_answer():
    assert choose_precision("auto", DENSE, CPU) == choose_precision("auto", DENSE, CPU)


@pytest.mark.parametrize(
    ("network", "expected"), [(DENSE, True), (nn.Linear(2, 2), False)], ids=["convolutions", "none"]
)
def test_networks_with_convolutions_prefer_channels_last(network, expected):
    assert prefers_channels_last(network) is expected


@pytest.mark.parametrize(
    ("dtype", "expected"), [(None, torch.float32), (torch.bfloat16, torch.bfloat16)], ids=["fp32", "bf16"]
)
def test_autocast_computes_in_its_type(dtype, expected):
    with autocast(dtype, CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)

    assert product.dtype == expected


def test_memory_on_a_processor_is_that_of_the_process():
    before = memory_bytes(CPU)
    with mmap.mmap(
        -1, 64 * 2**20
    ) as held:  # from the system itself: what a tensor takes may have been freed by another test
        held.write(b"1" * len(held))
        after = memory_bytes(CPU)

    assert after - before > 0.9 * 64 * 2**20
