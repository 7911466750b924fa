"""timm's networks: names, stages, heads, freezing, and weights from the hub cache. Importing timm takes seconds: once, here."""

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from trainwright.errors import RecipeError, UnknownNameError, WeightsError
from trainwright.optim.optimizers import build_optimizer
from trainwright.recipe import NetworkSpec, OptimizerSpec
from trainwright.training.loop import fit
from trainwright.training.model import ImageNetwork, build_network, parameter_stages, published_input
from trainwright.training.names import check_network_name, timm_names

CPU = torch.device("cpu")
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
ALL_STAGES = {"stem", "layer1", "layer2", "layer3", "layer4", "fc"}


@pytest.fixture(scope="module")
def build():
    """(name, …) → that timm network behind its normalization, with three outputs, for images of 32 pixels."""

    def make(name="resnet18", *, outputs=3, seed=0, **spec):
        network = build_network(
            NetworkSpec(name=name, **spec), form="vector", outputs=outputs, size=(32, 32), seed=seed
        )
        return ImageNetwork(network, mean=MEAN, std=STD)

    return make


def learning(model):
    """The parts of a resnet that learn; conv1 and bn1 are its stem."""
    names = {name.split(".")[1] for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {{"conv1": "stem", "bn1": "stem"}.get(name, name) for name in names}


def test_the_names_that_are_read_from_timms_files_are_those_that_it_knows():
    import timm

    assert timm_names() == set(timm.list_models())


def test_a_name_with_the_tag_of_its_weights_is_known():
    check_network_name("resnet18.a1_in1k")


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        build_network(NetworkSpec(name="resnet81"), form="vector", outputs=3, size=(32, 32), seed=0)

    assert str(caught.value).startswith("network.name: no such network 'resnet81'. Did you mean 'resnet")


def test_the_head_is_replaced(build):
    model = build(outputs=7)

    assert model.network.fc.out_features == 7
    assert model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 7)


def test_dropout_is_inserted_before_the_head(build):
    model = build(dropout=0.9).train()
    model.network.eval()
    images_NCHW = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    calm = model(images_NCHW)
    model.network.training = True  # where timm asks whether dropout is on

    assert model.network.drop_rate == 0.9
    assert not torch.equal(model(images_NCHW), calm)


def test_random_weights_depend_on_the_seed_alone(build, tensors_of, assert_same):
    first, second, other = build("test_resnet", seed=1), build("test_resnet", seed=1), build("test_resnet", seed=2)

    assert_same(tensors_of(first), tensors_of(second))
    assert not torch.equal(first.network.fc.weight, other.network.fc.weight)


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [
        ("all", ALL_STAGES),
        ("head", {"fc"}),
        ("last-1", {"layer4", "fc"}),
        ("last-2", {"layer3", "layer4", "fc"}),
        ("last-5", ALL_STAGES),
    ],
)
def test_resnet18_learns_in_the_stages_that_are_asked_for(build, trainable, expected):
    model = build()

    model.freeze(trainable)

    assert learning(model) == expected


def test_the_lr_of_resnet18_falls_with_every_stage_from_the_head_down(build):
    model = build()
    names = {parameter: name.split(".")[1] for name, parameter in model.named_parameters()}

    factors = {names[parameter]: factor for parameter, factor in model.learning_rates(0.5)}

    assert factors == {
        "conv1": 1 / 32,
        "bn1": 1 / 32,
        "layer1": 1 / 16,
        "layer2": 1 / 8,
        "layer3": 1 / 4,
        "layer4": 1 / 2,
        "fc": 1.0,
    }


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("test_vit", {"head.weight", "head.bias"}),
        ("test_efficientnet", {"classifier.weight", "classifier.bias"}),
        ("deit_tiny_distilled_patch16_224", {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}),
    ],
)
def test_the_head_of_any_family_is_its_last_stage(build, name, head):
    stages = parameter_stages(build(name).network)

    assert {key for key, stage in stages.items() if stage == max(stages.values())} == head
    assert set(stages.values()) == set(range(max(stages.values()) + 1))


def test_a_head_only_training_keeps_the_body_and_its_statistics(build, make_batches, task, tensors_of):
    model = build("test_resnet")
    model.freeze("head")
    before = tensors_of(model)

    optimizer = build_optimizer(model.learning_rates(1.0), OptimizerSpec(name="adamw", lr=0.1, weight_decay=0.1), CPU)
    list(fit(model, task, make_batches(2, side=32), optimizer, lambda p: 1.0, steps=2, device=CPU))

    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"network.fc.weight", "network.fc.bias"}


@pytest.mark.slow
def test_resnet18_learns_eight_images_by_heart(build, make_batches, task):
    model, (batch,) = build(), make_batches(1, side=32)
    optimizer = build_optimizer(model.learning_rates(1.0), OptimizerSpec(name="sgd", lr=0.02), CPU)

    records = list(fit(model, task, [batch] * 15, optimizer, lambda p: 1.0, steps=15, device=CPU))

    assert float(records[-1].loss) < 0.1 * float(records[0].loss)
    assert float(records[-1].tally_sum[0]) == 8


def test_what_a_network_was_made_for_is_told_by_timm():
    assert published_input(NetworkSpec(name="vit_tiny_patch16_224")) == {
        "size": 224,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "fixed": True,
    }
    assert published_input(NetworkSpec(name="resnet18"))["fixed"] is False


def test_a_network_on_a_backbone_was_made_for_what_its_backbone_was():
    """It takes other sizes all the same: it is built for them."""
    told = published_input(NetworkSpec(name="unet", backbone="vit_tiny_patch16_224"))

    assert told == {"size": 224, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "fixed": False}


def test_a_network_of_a_fixed_size_takes_square_images_only():
    spec = NetworkSpec(name="vit_tiny_patch16_224")

    with pytest.raises(RecipeError) as caught:
        build_network(spec, form="vector", outputs=3, size=(224, 192), seed=0)

    assert str(caught.value) == (
        "data.image_size: 'vit_tiny_patch16_224' takes square images, got [224, 192]. "
        "Set it to 224, or take a network that is made of convolutions."
    )


def test_a_network_of_convolutions_takes_oblong_images():
    network = build_network(NetworkSpec(name="test_resnet"), form="vector", outputs=3, size=(32, 48), seed=0)

    assert network(torch.zeros(2, 3, 32, 48)).shape == (2, 3)


def test_a_network_of_a_fixed_size_is_built_for_the_images_size(build):
    model = build("test_vit")

    assert model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, 3)


# Weights from the hub cache


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub cache of a client that is offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_pretrained_weights_come_from_the_hub_cache_without_their_head(hub, build):
    import timm

    published = timm.create_model("test_resnet")  # 1,000 classes
    repository = hub / "models--timm--test_resnet.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    save_file(published.state_dict(), repository / "snapshots" / "abc" / "model.safetensors")

    model = build("test_resnet", weights="pretrained")

    assert torch.equal(model.network.conv1[0].weight, published.conv1[0].weight)
    assert model.network.fc.out_features == 3


def test_pretrained_weights_that_are_not_cached_are_answered_with_three_ways_out(hub, build, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    with pytest.raises(WeightsError) as caught:
        build("test_resnet", weights="pretrained")

    assert str(caught.value).startswith(
        "network.weights: the pre-trained weights of 'test_resnet' (hub repository timm/test_resnet) are not in the hub "
        f"cache {hub}, and offline was asked for. Three ways out: (1) give a file of weights, "
    )
