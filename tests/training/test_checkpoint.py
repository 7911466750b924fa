"""A checkpoint is whole or it does not count, and it holds nothing that could run."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from trainwright import plugins
from trainwright.errors import CheckpointError, OutOfResourcesError
from trainwright.training.checkpoint import (
    Checkpoint,
    load_model,
    load_newest,
    load_tensors,
    restore_training,
    save_checkpoint,
    save_tensors,
    training_tensors,
)
from trainwright.training.ema import WeightAverage


def checkpoint_of(step):
    return Checkpoint(tensors={"weight": torch.full((3, 5), float(step))}, state={"position": {"step": step}})


@pytest.fixture
def folder(tmp_path):
    """A folder with the checkpoints of steps 10 and 20."""
    save_checkpoint(tmp_path, 10, checkpoint_of(10))
    save_checkpoint(tmp_path, 20, checkpoint_of(20))
    return tmp_path


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def flip_last_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def flip_a_digit(file: Path) -> None:
    """A flipped bit that leaves valid JSON and whole tensors of another training."""
    data = bytearray(file.read_bytes())
    data[data.rindex(b"20}")] ^= 1
    file.write_bytes(data)


def replace_with_a_number(file: Path) -> None:
    file.write_bytes(b"20")


def test_the_newest_comes_back_as_it_was_saved(folder):
    found = load_newest(folder)

    assert found.state == {"position": {"step": 20}}
    assert list(found.tensors) == ["weight"]
    assert torch.equal(found.tensors["weight"], torch.full((3, 5), 20.0))


def test_no_folder_and_an_empty_one_have_no_checkpoint(tmp_path):
    assert load_newest(tmp_path / "none") is None
    assert load_newest(tmp_path) is None


def test_the_newest_two_are_kept(folder):
    save_checkpoint(folder, 30, checkpoint_of(30))

    assert sorted(file.name for file in folder.iterdir()) == [
        "step-000000020.json",
        "step-000000020.safetensors",
        "step-000000030.json",
        "step-000000030.safetensors",
    ]


@pytest.mark.parametrize("damage", [truncate, empty, flip_last_byte, Path.unlink], ids=lambda d: d.__name__)
def test_damaged_tensors_make_the_one_before_count(folder, damage):
    damage(folder / "step-000000020.safetensors")

    assert load_newest(folder).state == {"position": {"step": 10}}


@pytest.mark.parametrize(
    "damage",
    [truncate, empty, flip_last_byte, flip_a_digit, replace_with_a_number, Path.unlink],
    ids=lambda d: d.__name__,
)
def test_a_damaged_description_makes_the_one_before_count(folder, damage):
    damage(folder / "step-000000020.json")

    assert load_newest(folder).state == {"position": {"step": 10}}


def test_tensors_whose_description_was_not_reached_are_no_checkpoint(tmp_path):
    """Killed between the two files of the very first checkpoint: start from the beginning."""
    save_checkpoint(tmp_path, 10, checkpoint_of(10))
    (tmp_path / "step-000000010.json").unlink()

    assert load_newest(tmp_path) is None


def test_where_all_are_damaged_each_is_named_with_the_cure(folder):
    for file in folder.glob("*.safetensors"):
        flip_last_byte(file)

    with pytest.raises(CheckpointError) as caught:
        load_newest(folder)

    differs = "its content is not what was written (SHA-256 differs). Restore it from a copy."
    assert str(caught.value) == (
        f"{folder}: no whole checkpoint is left "
        f"(step-000000020.json: {folder / 'step-000000020.safetensors'}: {differs}; "
        f"step-000000010.json: {folder / 'step-000000010.safetensors'}: {differs}). "
        "Start the training again with 'trainwright train'."
    )


def test_a_training_that_went_back_before_a_damaged_checkpoint_leaves_it_behind(folder):
    """Otherwise it would stay the newest, and hold a place of the two that are kept, for good."""
    flip_last_byte(folder / "step-000000020.safetensors")

    save_checkpoint(folder, 15, checkpoint_of(15))

    assert sorted(file.stem for file in folder.glob("*.json")) == ["step-000000010", "step-000000015"]
    assert sorted(file.stem for file in folder.glob("*.safetensors")) == ["step-000000010", "step-000000015"]


def test_what_a_killed_write_left_is_swept_up_by_the_next(folder):
    leftover = folder / ".step-000000030.safetensors.4711-cafe.part"
    leftover.write_bytes(b"half a checkpoint")

    save_checkpoint(folder, 30, checkpoint_of(30))

    assert not leftover.exists()


@pytest.mark.parametrize("written_before", [0, 1], ids=["tensors", "description"])
def test_a_full_disk_leaves_the_checkpoints_before(folder, monkeypatch, written_before):
    real_fsync, syncs = os.fsync, []

    def fill_up(handle):
        syncs.append(handle)
        if len(syncs) > 2 * written_before:  # each file syncs itself, then its folder
            raise OSError(errno.ENOSPC, "No space left on device")
        real_fsync(handle)

    monkeypatch.setattr(os, "fsync", fill_up)

    with pytest.raises(OutOfResourcesError, match="no space left on the disk while writing step-000000030"):
        save_checkpoint(folder, 30, checkpoint_of(30))

    assert load_newest(folder).state == {"position": {"step": 20}}
    assert list(folder.glob(".*")) == []


def test_equal_tensors_give_an_equal_file_whatever_their_order_and_layout(tmp_path):
    one, other = torch.arange(12.0).view(3, 4), torch.arange(6, dtype=torch.int64)

    first = save_tensors(tmp_path / "first", {"one": one, "other": other})
    second = save_tensors(tmp_path / "second", {"other": other.clone(), "one": one.t().contiguous().t()})

    assert first == second
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_another_bit_gives_another_hash(tmp_path):
    weight = torch.ones(1000)

    first = save_tensors(tmp_path / "first", {"weight": weight})
    weight[500] = torch.nextafter(weight[500], torch.tensor(2.0))
    second = save_tensors(tmp_path / "second", {"weight": weight})

    assert first != second


def test_the_hash_is_the_files(tmp_path):
    import hashlib

    digest = save_tensors(tmp_path / "file", {"weight": torch.ones(3)})

    assert digest == hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()


@pytest.mark.parametrize("content", [b"", b"\x80\x04N.", b"PK\x03\x04 a zip file", b"{}"])
def test_a_file_that_is_not_safetensors_is_refused(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)

    with pytest.raises(CheckpointError) as caught:
        load_tensors(path, None)

    assert str(caught.value).startswith(f"{path}: is not a whole safetensors file (")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        load_tensors(tmp_path / "gone.safetensors", None)

    assert str(caught.value) == (
        f"{tmp_path / 'gone.safetensors'}: cannot be read (No such file or directory). Check the run folder."
    )


def test_nothing_in_a_checkpoint_is_pickled(tmp_path, make_model, make_batches, make_optimizer, task):
    """A safetensors file is the length of a JSON header, that header, and numbers."""
    from trainwright.training.loop import fit

    model = make_model()
    optimizer, average = make_optimizer(model, "adam"), WeightAverage(model, 0.9)
    list(fit(model, task, make_batches(1), optimizer, lambda p: 1.0, steps=1, device=torch.device("cpu")))
    tensors, state = training_tensors(model, optimizer, average)

    save_checkpoint(tmp_path, 1, Checkpoint(tensors=tensors, state=state))

    data = (tmp_path / "step-000000001.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    described = {name: entry for name, entry in header.items() if name != "__metadata__"}
    assert described.keys() == tensors.keys()
    assert max(entry["data_offsets"][1] for entry in described.values()) == len(data) - 8 - length
    assert json.loads((tmp_path / "step-000000001.json").read_bytes())["step"] == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_the_weights_of_another_network_are_refused(make_model):
    with pytest.raises(CheckpointError) as caught:
        load_model(make_model(channels=8), make_model(channels=16).state_dict())

    assert str(caught.value).startswith("checkpoint: these weights belong to another network (Error(s) in loading")
    assert str(caught.value).endswith("Give the network that the run was trained with.")


def test_a_checkpoint_without_averaged_weights_does_not_restore_a_training_with_them(make_model, make_optimizer):
    model = make_model()
    optimizer = make_optimizer(model)
    tensors, state = training_tensors(model, optimizer, None)

    with pytest.raises(CheckpointError, match="these weights belong to another network"):
        restore_training(Checkpoint(tensors=tensors, state=state), model, optimizer, WeightAverage(model, 0.9))


@pytest.mark.parametrize("name", plugins.optimizers.names())
def test_a_training_in_channels_last_memory_goes_on_in_the_same_bits(
    tmp_path, make_model, make_batches, make_optimizer, task, assert_same, name
):
    """The optimizer's tensors have to come back in the layout of their weights: fused kernels walk both by address."""
    from trainwright.training.loop import fit

    batches, device = make_batches(4), torch.device("cpu")
    whole, resumed = (make_model().to(memory_format=torch.channels_last) for _ in range(2))
    of_whole, of_resumed = make_optimizer(whole, name), make_optimizer(resumed, name)
    list(fit(whole, task, batches[:2], of_whole, lambda p: 1.0 - p, steps=4, device=device))
    tensors, state = training_tensors(whole, of_whole, None)
    save_checkpoint(tmp_path, 2, Checkpoint(tensors=tensors, state=state))

    restore_training(load_newest(tmp_path), resumed, of_resumed, None)
    layouts = [
        (value.stride(), parameter.stride())
        for parameter, values in of_resumed.state.items()
        for value in values.values()
        if isinstance(value, torch.Tensor) and value.shape == parameter.shape
    ]
    for model, optimizer in [(whole, of_whole), (resumed, of_resumed)]:
        list(fit(model, task, batches[2:], optimizer, lambda p: 1.0 - p, steps=4, device=device, first_step=2))

    assert len(layouts) >= 10  # one or more for each of ten parameters
    assert all(given == expected for given, expected in layouts)
    assert_same(training_tensors(resumed, of_resumed, None)[0], training_tensors(whole, of_whole, None)[0])


def test_what_an_optimizer_counts_for_a_whole_group_comes_back(
    tmp_path, make_model, make_batches, make_optimizer, task
):
    """LAMB counts its steps there, as a tensor, and constants in pairs are pairs again."""
    from trainwright.training.loop import fit

    model, other = make_model(), make_model()
    optimizer, restored = make_optimizer(model, "lamb"), make_optimizer(other, "lamb")
    list(fit(model, task, make_batches(3), optimizer, lambda p: 1.0, steps=3, device=torch.device("cpu")))
    tensors, state = training_tensors(model, optimizer, None)
    save_checkpoint(tmp_path, 3, Checkpoint(tensors=tensors, state=state))

    restore_training(load_newest(tmp_path), other, restored, None)

    assert [(float(group["step"]), group["betas"]) for group in restored.param_groups] == [(3.0, (0.9, 0.999))] * 2
