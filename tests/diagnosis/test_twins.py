"""Near twins: copies are found however they were saved, and images that are merely alike are not."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from trainwright.diagnosis.twins import mirrored, near_twins, signatures


@pytest.fixture(scope="module")
def digits():
    grey_NHW = np.rint(load_digits().images * (255 / 16)).astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    return np.repeat(grey_NHW[..., None], 3, axis=3)


def as_jpeg(image_HWC):
    file = io.BytesIO()
    Image.fromarray(image_HWC).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file).convert("RGB"))


def test_different_digits_of_the_same_writers_are_no_twins(digits):
    train, val = signatures(digits[:1400]), signatures(digits[1400:])

    found, _ = near_twins(train, val, flipped_ND=mirrored(val))

    assert found.sum() == 0


@pytest.mark.parametrize(
    "copied",
    [
        pytest.param(lambda images: images, id="the same pixels"),
        pytest.param(lambda images: np.stack([as_jpeg(image) for image in images]), id="saved as JPEG"),
        pytest.param(lambda images: (images * 0.7 + 20).astype(np.uint8), id="another contrast"),
        pytest.param(lambda images: images[:, :, ::-1], id="mirrored"),
        pytest.param(lambda images: np.minimum(images, 255 - 3) + 3, id="brighter"),
    ],
)
def test_a_copy_is_found_with_its_original(digits, copied):
    train, copies = signatures(digits[:1400]), signatures(copied(digits[100:150]))

    found, nearest = near_twins(train, copies, flipped_ND=mirrored(copies))

    assert found.all()
    assert nearest.tolist() == list(range(100, 150))


def test_an_image_that_is_in_train_several_times_is_found_all_the_same(digits):
    train = np.concatenate([signatures(digits[:1400]), signatures(digits[[7, 7]])])

    found, _ = near_twins(train, signatures(digits[[7]]))

    assert found.tolist() == [True]


def test_flat_images_have_no_twins(digits):
    flat = np.full((3, 32, 32, 3), 200, np.uint8)
    train = signatures(np.concatenate([digits[:500], flat]))

    found, _ = near_twins(train, signatures(flat))

    assert not found.any()


def test_too_few_train_images_have_no_usual_distance(digits):
    found, _ = near_twins(signatures(digits[:20]), signatures(digits[:20]))

    assert not found.any()


def test_a_signature_has_no_brightness_and_no_contrast(digits):
    darker = (digits[:5] // 2 + 10).astype(np.uint8)

    assert np.abs(signatures(digits[:5]) - signatures(darker)).max() < 0.01
    assert np.linalg.norm(signatures(digits[:5]), axis=1) == pytest.approx(np.ones(5), abs=1e-4)


def test_a_mirrored_signature_is_that_of_the_mirrored_image(digits):
    assert mirrored(signatures(digits[:5])) == pytest.approx(signatures(digits[:5, :, ::-1]), abs=1e-5)
