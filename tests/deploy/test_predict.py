"""Prediction of files: which are found, in which order they are answered, and that a bad one costs only itself."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from trainwright.data.decode import DecodeError
from trainwright.deploy.predict import as_function, find_images, predict_files
from trainwright.errors import DataError

CPU = torch.device("cpu")


@pytest.fixture
def photos(tmp_path):
    """Five 8-pixel PNG images, number k of the grey value 10·k, the third of them cut off."""
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for number, file in enumerate(files):
        Image.new("L", (8, 8), 10 * number).save(file)
    files[2].write_bytes(files[2].read_bytes()[:40])
    return files


def mean_grey(batch):
    """A network that answers with the mean grey value."""
    return batch.images_NCHW.float().mean(dim=(1, 2, 3)).numpy()


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_every_file_gets_its_own_answer_in_order(photos, batch_size):
    answers = predict_files(
        mean_grey, photos, stored_size=8, fit="crop", crop=lambda images: images, batch_size=batch_size
    )

    answers = list(answers)
    assert [file for file, _ in answers] == photos
    assert [answer for _, answer in answers[:2] + answers[3:]] == [0, 10, 30, 40]
    assert isinstance(answers[2][1], DecodeError)


def test_a_batch_of_nothing_but_bad_files_never_reaches_the_network(photos):
    def never(batch):
        raise AssertionError("called")

    ((_, answer),) = predict_files(
        never, photos[2:3], stored_size=8, fit="crop", crop=lambda images: images, batch_size=4
    )

    assert answer.kind == "truncated"


def test_what_the_network_sees_is_cropped(photos):
    sizes = []

    def remember(batch):
        sizes.append(tuple(batch.images_NCHW.shape))
        return mean_grey(batch)

    list(predict_files(remember, photos[:1], stored_size=8, fit="crop", crop=lambda i: i[:, 2:6, 2:6], batch_size=4))

    assert sizes == [(1, 3, 4, 4)]


def test_a_model_answers_in_eval_mode_without_gradients():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(3 * 2 * 2, 1, bias=False))
    nn.init.ones_(model[2].weight)
    network = as_function(model, lambda outputs: outputs.numpy()[:, 0], device=CPU, dtype=None)

    answer = network(_Ones())

    assert answer.tolist() == [12.0]
    assert not model.training


class _Ones:
    """A batch of one white image, 2 × 2 pixels."""

    images_NCHW = torch.ones(1, 3, 2, 2)

    def to(self, device):
        return self


def test_folders_are_searched_below_and_sorted_and_other_files_left_out(tmp_path):
    for name in ("b.png", "a.JPG", "below/c.webp", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    assert [file.name for file in find_images([tmp_path])] == ["a.JPG", "b.png", "c.webp"]


def test_a_file_that_is_named_is_taken_whatever_its_ending(tmp_path):
    (tmp_path / "upload.tmp").touch()

    assert find_images([tmp_path / "upload.tmp"]) == [tmp_path / "upload.tmp"]


def test_the_order_of_what_is_named_is_kept(tmp_path):
    for name in ("z.png", "a.png"):
        (tmp_path / name).touch()

    assert find_images([tmp_path / "z.png", tmp_path / "a.png"]) == [tmp_path / "z.png", tmp_path / "a.png"]


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        find_images([tmp_path / "absent"])


def test_a_folder_without_images_is_refused_with_the_known_endings(tmp_path):
    with pytest.raises(DataError, match=r"no image files\. Known endings: .*\.png"):
        find_images([tmp_path])


def test_answers_may_be_rows(photos):
    def rows(batch):
        return np.ones((len(batch.images_NCHW), 3))

    answers = predict_files(rows, photos[:2], stored_size=8, fit="crop", crop=lambda images: images, batch_size=2)

    assert [answer.shape for _, answer in answers] == [(3,), (3,)]
