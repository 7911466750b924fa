"""Prediction of files: which are found, in which order they are answered, and where in the file an answer lies."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from trainwright.batch import Batch
from trainwright.data.decode import DecodeError, fit_mask
from trainwright.data.placement import place
from trainwright.deploy.predict import Fitting, as_function, find_images, predict_files
from trainwright.errors import DataError
from trainwright.records import IGNORED, Answers

CPU = torch.device("cpu")
WHOLE = Fitting(stored=(8, 8), size=(8, 8), fit="crop")
SIDES = st.integers(3, 12)  # of a file
LARGE = st.integers(25, 40)  # of what the network sees: more than twice as large
MARGINS = st.sampled_from([0, 2, 6])


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
    grey_N = batch.images_NCHW.float().mean(dim=(1, 2, 3)).numpy()
    return Answers(rows=batch.rows_N, columns={"grey": grey_N, "twice": np.stack([grey_N, grey_N], axis=1)})


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_every_file_gets_its_own_answer_in_order(photos, batch_size):
    found = list(predict_files(mean_grey, photos, fitting=WHOLE, batch_size=batch_size))

    readable = found[:2] + found[3:]
    assert [predicted.file for predicted in found] == photos
    assert [predicted.answers.columns["grey"].tolist() for predicted in readable] == [[0], [10], [30], [40]]
    assert [predicted.answers.columns["twice"].shape for predicted in readable] == [(1, 2)] * 4
    assert [predicted.error for predicted in readable] == [None] * 4


def test_a_file_that_cannot_be_read_has_an_error_and_nothing_else(photos):
    torn = list(predict_files(mean_grey, photos, fitting=WHOLE, batch_size=5))[2]

    assert isinstance(torn.error, DecodeError)
    assert (torn.image_HWC, torn.answers, torn.width, torn.height) == (None, None, 0, 0)


def test_a_batch_of_nothing_but_bad_files_never_reaches_the_network(photos):
    def never(batch):
        raise AssertionError("called")

    (predicted,) = predict_files(never, photos[2:3], fitting=WHOLE, batch_size=4)

    assert predicted.error.kind == "truncated"


def test_whoever_stops_early_waits_for_nothing_more(photos):
    found = predict_files(mean_grey, photos, fitting=WHOLE, batch_size=1)

    assert next(found).file == photos[0]
    found.close()

    assert list(found) == []


def test_no_files_are_no_answers():
    assert list(predict_files(mean_grey, [], fitting=WHOLE, batch_size=4)) == []


def test_an_image_is_kept_as_the_network_saw_it_with_the_size_of_its_file(tmp_path):
    Image.new("RGB", (30, 20), (10, 20, 30)).save(tmp_path / "wide.png")

    (predicted,) = predict_files(
        mean_grey, [tmp_path / "wide.png"], fitting=Fitting(stored=(6, 8), size=(4, 8), fit="squash"), batch_size=4
    )

    assert (predicted.width, predicted.height) == (30, 20)
    assert predicted.image_HWC.shape == (4, 8, 3)
    assert np.unique(predicted.image_HWC.reshape(-1, 3), axis=0).tolist() == [[10, 20, 30]]


def test_a_photo_taken_sideways_is_measured_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (30, 20)).save(tmp_path / "sideways.jpg", exif=exif)

    (predicted,) = predict_files(mean_grey, [tmp_path / "sideways.jpg"], fitting=WHOLE, batch_size=1)

    assert (predicted.width, predicted.height) == (20, 30)


def test_what_the_network_sees_is_the_middle_of_what_is_stored():
    stored_NHWC = np.arange(8 * 6, dtype=np.uint8).reshape(1, 8, 6, 1).repeat(3, axis=3)

    shown_NHWC = Fitting(stored=(8, 6), size=(4, 4), fit="crop").shown(stored_NHWC)

    assert np.array_equal(shown_NHWC, stored_NHWC[:, 2:6, 1:5])
    assert shown_NHWC.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("fit", "seen", "in_file"),
    [
        ("pad", [0, 2, 10, 7], [0, 0, 40, 20]),  # a quarter of its size, with borders of 2 and 3 pixels
        ("pad", [0, 0, 10, 10], [0, 0, 40, 20]),  # what reaches into the border ends where the image ends
        ("squash", [5, 5, 10, 10], [20, 10, 40, 20]),  # a quarter of its width, half of its height
        ("crop", [0, 0, 10, 10], [10, 0, 30, 20]),  # half of its size, 10 pixels of the file unseen on each side
    ],
)
def test_a_box_is_told_in_pixels_of_a_file_of_40_by_20(fit, seen, in_file):
    fitting = Fitting(stored=(10, 10), size=(10, 10), fit=fit)

    assert fitting.boxes_back(np.array([seen]), 40, 20).tolist() == [in_file]


def test_a_box_seen_within_margins_is_told_beyond_them():
    fitting = Fitting(stored=(12, 24), size=(8, 14), fit="squash")

    assert fitting.boxes_back(np.array([[0, 0, 14, 8]]), 24, 12).tolist() == [[5, 2, 19, 10]]


def test_no_boxes_are_no_boxes_of_the_file():
    assert WHOLE.boxes_back(np.zeros((0, 4)), 40, 20).shape == (0, 4)


@given(
    file=st.tuples(SIDES, SIDES),
    size=st.tuples(LARGE, LARGE),
    margin=MARGINS,
    fit=st.sampled_from(["crop", "pad", "squash"]),
    part=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_boxes_come_back_from_what_the_network_saw(file, size, margin, fit, part):
    (height, width), stored = file, (size[0] + margin, size[1] + margin)
    left, right, top, bottom = (*sorted(part[:2]), *sorted(part[2:]))
    box_14 = np.array([[left * width, top * height, right * width, bottom * height]])
    seen_14 = place(width, height, stored, fit).forth(box_14) - margin // 2

    found_14 = Fitting(stored=stored, size=size, fit=fit).boxes_back(seen_14, width, height)

    np.testing.assert_allclose(found_14, box_14, rtol=0, atol=1e-9)


def test_the_unseen_border_of_a_crop_is_255():
    seen_HW = np.full((10, 10), 3, np.uint8)

    found_HW = Fitting(stored=(10, 10), size=(10, 10), fit="crop").mask_back(seen_HW, 40, 20)

    assert found_HW.dtype == np.uint8
    assert found_HW.tolist() == [[IGNORED] * 10 + [3] * 20 + [IGNORED] * 10] * 20


def test_the_unseen_margin_is_255():
    seen_HW = np.full((2, 2), 3, np.uint8)

    found_HW = Fitting(stored=(4, 6), size=(2, 2), fit="squash").mask_back(seen_HW, 12, 8)

    assert np.argwhere(found_HW == 3).min(axis=0).tolist() == [2, 4]
    assert np.argwhere(found_HW == 3).max(axis=0).tolist() == [5, 7]
    assert (found_HW == 3).sum() == 16
    assert set(np.unique(found_HW)) == {3, IGNORED}


@given(file=st.tuples(SIDES, SIDES), size=st.tuples(LARGE, LARGE), fit=st.sampled_from(["pad", "squash"]))
def test_a_mask_that_was_enlarged_comes_back_exactly(file, size, fit):
    mask_HW = np.arange(file[0] * file[1], dtype=np.uint8).reshape(file)

    found_HW = Fitting(stored=size, size=size, fit=fit).mask_back(fit_mask(mask_HW, size, fit), file[1], file[0])

    assert np.array_equal(found_HW, mask_HW)


@given(file=st.tuples(SIDES, SIDES), size=st.tuples(LARGE, LARGE), margin=MARGINS, fit=st.sampled_from(["crop", "pad"]))
def test_a_mask_that_was_cropped_comes_back_exactly_where_it_was_seen(file, size, margin, fit):
    mask_HW = np.arange(file[0] * file[1], dtype=np.uint8).reshape(file)
    fitting = Fitting(stored=(size[0] + margin, size[1] + margin), size=size, fit=fit)
    stored_HW = fit_mask(mask_HW, fitting.stored, fit)

    found_HW = fitting.mask_back(fitting.shown(stored_HW[None, ..., None])[0, ..., 0], file[1], file[0])

    seen_HW = found_HW != IGNORED
    assert seen_HW[file[0] // 2, file[1] // 2]
    assert np.array_equal(found_HW[seen_HW], mask_HW[seen_HW])


def ones():
    """A batch of one white image, 2 × 2 pixels, row 7."""
    return Batch(images_NCHW=torch.ones(1, 3, 2, 2), target=torch.zeros(1), rows_N=np.array([7]))


def test_a_model_answers_in_eval_mode_without_gradients():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(3 * 2 * 2, 1, bias=False))
    nn.init.ones_(model[2].weight)

    def answer(outputs, rows):
        assert not outputs.requires_grad
        return Answers(rows=rows, columns={"sum": outputs.numpy()[:, 0]})

    answers = as_function(model, answer, device=CPU, dtype=None)(ones())

    assert (answers.rows.tolist(), answers.columns["sum"].tolist()) == ([7], [12.0])
    assert not model.training


def test_a_model_that_takes_targets_is_told_that_there_is_none():
    class Detector(nn.Module):
        takes_target = True

        def forward(self, images_NCHW, target):
            assert target is None
            return images_NCHW.sum(dim=(1, 2, 3))

    network = as_function(
        Detector(), lambda outputs, rows: Answers(rows=rows, columns={"sum": outputs.numpy()}), device=CPU, dtype=None
    )

    assert network(ones()).columns["sum"].tolist() == [12.0]


def test_mixed_precision_is_that_of_the_training():
    model, seen = nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), []

    def answer(outputs, rows):
        seen.append(outputs.dtype)
        return Answers(rows=rows, columns={})

    as_function(model, answer, device=CPU, dtype=torch.bfloat16)(ones())

    assert seen == [torch.bfloat16]


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


def test_a_path_that_does_not_exist_is_kept_where_it_is_to_be_told(tmp_path):
    (tmp_path / "is.png").touch()

    assert find_images([tmp_path / "is.png", tmp_path / "gone.png"], absent="told") == [
        tmp_path / "is.png",
        tmp_path / "gone.png",
    ]
