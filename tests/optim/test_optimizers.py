"""Each optimizer against its paper on a step or two by hand, and what an optimizer refuses."""

import math

import pytest
import torch
from torch import nn

from trainwright import plugins
from trainwright.errors import RecipeError
from trainwright.optim.optimizers import (
    PUBLISHED,
    build_optimizer,
    names_momentum,
    published_constants,
    refuse_average,
    refuse_batch,
    refuse_nothing_hidden,
)
from trainwright.recipe import OptimizerSpec

CPU = torch.device("cpu")


def moved(name, gradients, *, start=0.0, lrs=None, shape=(1,), **constants):
    """Where a weight of `start` is after each of the steps with these gradients, all of its entries alike, as floats.

    lrs: of each step, where the schedule moves it.
    """
    weight = nn.Parameter(torch.full(shape, start))
    optimizer = build_optimizer([(weight, 1.0)], OptimizerSpec(name=name, **constants), CPU)
    places = []
    for step, gradient in enumerate(gradients):
        if lrs is not None:
            optimizer.param_groups[0]["lr"] = lrs[step]
        weight.grad = torch.full(shape, float(gradient))
        optimizer.step()
        places.append(weight.flatten()[0].item())
    return places


def test_sgd_takes_its_momentum():
    """Two steps of gradient 1 at lr 1: velocity 1, then 0.5 + 1, or with Nesterov's look-ahead 1 + 0.5 and 0.5·1.5 + 1."""
    ends = {}
    for nesterov in (False, True):
        weight = nn.Parameter(torch.zeros(1))
        spec = OptimizerSpec(name="sgd", lr=1.0, momentum=0.5, nesterov=nesterov)
        optimizer = build_optimizer([(weight, 1.0)], spec, CPU)
        for _ in range(2):
            weight.grad = torch.ones(1)
            optimizer.step()
        ends[nesterov] = weight.item()

    assert ends == {False: -2.5, True: -3.25}


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_moves_its_first_step_by_lr_whatever_the_gradient(name):
    """The first step is lr · g / (|g| + eps): Kingma and Ba, arXiv:1412.6980, Algorithm 1."""
    weight = nn.Parameter(torch.zeros(3))
    optimizer = build_optimizer([(weight, 1.0)], OptimizerSpec(name=name, lr=0.25, eps=1e-12), CPU)
    weight.grad = torch.tensor([1e-3, -1.0, 1e3])

    optimizer.step()

    torch.testing.assert_close(weight.detach(), torch.tensor([-0.25, 0.25, -0.25]))


def test_adamw_decays_by_lr_times_weight_decay_and_adam_does_not():
    """From 1 with gradient 0: AdamW shrinks to 1 − 0.1 · 0.5; Adam's decay is a gradient, whose first step is lr."""
    ends = {}
    for name in ("adam", "adamw"):
        weight = nn.Parameter(torch.ones(1, 1))
        optimizer = build_optimizer([(weight, 1.0)], OptimizerSpec(name=name, lr=0.1, weight_decay=0.5), CPU)
        weight.grad = torch.zeros(1, 1)
        optimizer.step()
        ends[name] = weight.item()

    assert ends == {"adam": pytest.approx(0.9), "adamw": pytest.approx(0.95)}


def test_betas_and_eps_reach_adam():
    optimizer = build_optimizer(
        [(nn.Parameter(torch.ones(1)), 1.0)], OptimizerSpec(name="adam", betas=(0.5, 0.75), eps=0.125), CPU
    )

    assert optimizer.defaults["betas"] == (0.5, 0.75)
    assert optimizer.defaults["eps"] == 0.125


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(RecipeError) as caught:
        build_optimizer([(nn.Parameter(torch.ones(1)), 1.0)], OptimizerSpec(name="sgd", nesterov=True, momentum=0), CPU)

    assert str(caught.value) == (
        "optimizer.nesterov: Nesterov's momentum needs a momentum above 0. "
        "Set optimizer.momentum=0.9, or optimizer.nesterov=false."
    )


def test_lion_moves_by_the_sign_of_a_momentum_of_its_own_and_decays_by_lr():
    """Chen et al., arXiv:2302.06675, Algorithm 2, with betas 0.5, 0.75 and from 1, lr 0.1, decay 0.5.

    Gradients 1, −0.2, −0.4. c: 0.5 · 0 + 0.5 · 1 > 0; momentum 0.25. c: 0.5 · 0.25 − 0.5 · 0.2 > 0, though the gradient is
    negative; momentum 0.1375. c: 0.5 · 0.1375 − 0.5 · 0.4 < 0. Each step adds −0.1 · (±1 + 0.5 · weight).
    """
    places = moved("lion", [1, -0.2, -0.4], start=1.0, lr=0.1, weight_decay=0.5, betas=(0.5, 0.75), shape=(1, 1))

    first = 1 - 0.1 * (1 + 0.5)
    second = first - 0.1 * (1 + 0.5 * first)
    assert places == pytest.approx([first, second, second - 0.1 * (-1 + 0.5 * second)])


def test_adagrad_divides_by_the_root_of_all_squares_so_far():
    """Gradients 3 and 4 at lr 1: steps of 3 / 3 and 4 / 5 (Duchi et al., JMLR 2011)."""
    assert moved("adagrad", [3, 4], lr=1.0) == pytest.approx([-1.0, -1.8])


def test_rmsprop_divides_by_the_root_of_a_mean_of_squares():
    """Gradients 2 and 2 at lr 1, alpha 0.75: mean squares 1 and 1.75 (Tieleman and Hinton 2012, lecture 6e)."""
    places = moved("rmsprop", [2, 2], lr=1.0, alpha=0.75)

    assert places == pytest.approx([-2.0, -2.0 - 2 / math.sqrt(1.75)])


def test_adamax_divides_by_the_largest_gradient():
    """betas 0.5: momenta 2, then 1.5, each over 1 − 0.5^t, by the largest of 4 and 0.5 · 4, 1 (arXiv:1412.6980, Algorithm 2)."""
    places = moved("adamax", [4, 1], lr=1.0, betas=(0.5, 0.5))

    assert places == pytest.approx([-1.0, -1.0 - (1.5 / 0.75) / 2])


def test_radam_begins_as_plain_momentum():
    """As long as the mean of squares is not known well, five steps at beta2 0.999, the step is lr · m / (1 − beta1^t):
    gradients of 4 make steps of 4 (Liu et al., arXiv:1908.03265)."""
    assert moved("radam", [4, 4], lr=0.5) == pytest.approx([-2.0, -4.0])


def test_nadamw_decays_apart_from_the_gradient_and_nadam_through_it():
    """From 1 with gradient 0, lr 0.1, decay 0.5: 1 − 0.05; through the adaptive step it would be a step of about lr."""
    decoupled = moved("nadamw", [0], start=1.0, lr=0.1, weight_decay=0.5, shape=(1, 1))
    coupled = moved("nadam", [0], start=1.0, lr=0.1, weight_decay=0.5, shape=(1, 1))

    assert decoupled == pytest.approx([0.95])
    assert coupled[0] < 0.93


def test_adopt_measures_first_and_divides_by_what_was_before():
    """Taniguchi et al., arXiv:2411.02853: no step, then g₂ / |g₁| clipped at 1, the fourth root of 1; at betas 0.5 half of it.

    After gradients 2, 1: 0.5 · 1 / 2. After 2, 8: 4 is clipped to 1.
    """
    assert moved("adopt", [2, 1], lr=1.0, betas=(0.5, 0.5)) == pytest.approx([0.0, -0.25])
    assert moved("adopt", [2, 8], lr=1.0, betas=(0.5, 0.5)) == pytest.approx([0.0, -0.5])


def test_lamb_takes_steps_as_long_as_lr_times_the_weights_of_a_layer_and_adams_for_biases():
    """First steps of Adam have length 1 an entry; a layer of four entries of 3 has length 6, its step lr · 6
    (You et al., arXiv:1904.00962)."""
    assert moved("lamb", [7], start=3.0, lr=0.1, shape=(2, 2)) == pytest.approx([3.0 - 0.1 * 3.0], rel=1e-5)
    assert moved("lamb", [7], start=3.0, lr=0.1, shape=(2,)) == pytest.approx([3.0 - 0.1], rel=1e-5)


def test_lamb_does_not_clip_gradients_behind_the_recipes_back():
    """Two entries with gradients 300 and then 1, far beyond a norm of 1: as Adam's for gradients a thousandth of theirs."""
    large = moved("lamb", [300, 1], lr=0.1, betas=(0.5, 0.5))
    small = moved("lamb", [0.3, 0.001], lr=0.1, betas=(0.5, 0.5), eps=1e-12)

    assert large == pytest.approx(small, rel=1e-4)


# Rprop


def test_rprop_grows_its_steps_while_the_sign_stays_and_halves_them_when_it_turns():
    """Steps 0.1, 0.12, none at the turn, then 0.06 (Riedmiller and Braun 1993, with eta 0.5 and 1.2, without back-tracking)."""
    places = moved("rprop", [5, 1, -1, -1], lr=0.1)

    assert places == pytest.approx([-0.1, -0.22, -0.22, -0.16])


def test_the_schedule_scales_rprops_steps_and_leaves_their_sizes_alone():
    """At factors 0, ½, 1 of the peak: steps of 0, half of 0.12, and 0.144."""
    assert moved("rprop", [1, 1, 1], lr=0.1, lrs=[0.0, 0.05, 0.1]) == pytest.approx([0.0, -0.06, -0.204])


def test_weight_decay_counts_for_the_sign_that_rprop_goes_by():
    """From 1: gradient −0.4 with decay 0.5 is 0.1, and the step goes down."""
    assert moved("rprop", [-0.4], start=1.0, lr=0.1, weight_decay=0.5, shape=(1, 1)) == pytest.approx([0.9])


def test_rprop_refuses_batches_of_a_part_of_the_images():
    with pytest.raises(RecipeError) as caught:
        refuse_batch(OptimizerSpec(name="rprop"), batch_size=64, train_images=5550)

    assert str(caught.value) == (
        "optimizer.name: rprop's steps are valid only where each is taken on all 5,550 train images, and a batch has 64. "
        "Set batch_size=5550 (accumulate works through it in parts, where memory is short), or take another optimizer."
    )


@pytest.mark.parametrize(("name", "batch_size"), [("rprop", 100), ("rprop", 200), ("lion", 1)])
def test_whole_batches_and_other_optimizers_are_not_refused(name, batch_size):
    refuse_batch(OptimizerSpec(name=name), batch_size=batch_size, train_images=100)


# Muon


def test_muons_step_is_nearly_orthogonal_and_of_the_size_of_adamws():
    """Every singular value of the direction is near 1, within what the published iteration promises (0.5 to 1.5), and the step
    is it times lr · 0.2 √(longer side): Liu et al., arXiv:2502.16982. A convolution counts as its matrix of rows."""
    weight = nn.Parameter(torch.zeros(6, 2, 3, 3))
    optimizer = build_optimizer([(weight, 1.0)], OptimizerSpec(name="muon", lr=0.1), CPU)
    weight.grad = torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(0))

    optimizer.step()

    direction = -weight.detach().view(6, 18) / (0.1 * 0.2 * math.sqrt(18))
    values = torch.linalg.svdvals(direction)
    assert values.min() > 0.5
    assert values.max() < 1.5
    assert (direction * weight.grad.view(6, 18)).sum() > 0


def test_muon_moves_hidden_matrices_and_adamw_all_the_rest():
    model = nn.ModuleDict(
        {
            "first": nn.Conv2d(3, 8, 3),
            "depthwise": nn.Conv2d(8, 8, 3, groups=8),
            "hidden": nn.Conv2d(8, 8, 1),
            "norm": nn.BatchNorm2d(8),
            "square": nn.Linear(8, 8),
            "head": nn.Linear(8, 2),
        }
    )
    model.register_parameter("position", nn.Parameter(torch.ones(1, 4, 8)))
    names = {parameter: name for name, parameter in model.named_parameters()}
    ends = [*model["first"].parameters(), *model["head"].parameters()]

    optimizer = build_optimizer([(p, 1.0) for p in model.parameters()], OptimizerSpec(name="muon"), CPU, ends=ends)

    by_muon = {names[p] for group in optimizer.param_groups if group["use_muon"] for p in group["params"]}
    by_adamw = {names[p] for group in optimizer.param_groups if not group["use_muon"] for p in group["params"]}
    assert by_muon == {"hidden.weight", "square.weight"}
    assert by_adamw == set(names.values()) - by_muon


def test_beside_muon_the_rest_takes_adamws_first_step():
    """lr · g / |g| and decoupled decay, not NAdamW's, which Nesterov's momentum would make of it."""
    head = nn.Parameter(torch.ones(2, 2))
    spec = OptimizerSpec(name="muon", lr=0.1, weight_decay=0.5)
    optimizer = build_optimizer([(head, 1.0)], spec, CPU, ends=[head])
    head.grad = torch.full((2, 2), 3.0)

    optimizer.step()

    torch.testing.assert_close(head.detach(), torch.full((2, 2), 1 - 0.1 * 0.5 - 0.1))


def test_muon_is_refused_where_no_matrix_but_those_of_the_ends_learns():
    first, frozen, head = (nn.Parameter(torch.ones(2, 2)) for _ in range(3))
    bias, depthwise = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, 1, 3, 3))
    frozen.requires_grad_(False)
    spec, network = OptimizerSpec(name="muon"), [first, frozen, bias, depthwise, head]

    with pytest.raises(RecipeError) as caught:
        refuse_nothing_hidden(spec, network, ends=[first, head])

    assert str(caught.value) == (
        "optimizer.name: muon is for hidden layers, and none learns here: all that does is moved by the AdamW beside it. "
        "Set optimizer.name=adamw, or let more of the network learn (network.trainable)."
    )
    refuse_nothing_hidden(spec, network, ends=[head])
    refuse_nothing_hidden(OptimizerSpec(name="adamw"), network, ends=[first, head])


# Schedule-free AdamW


def test_schedule_free_adamw_keeps_to_its_recursions():
    """Algorithm 1 of Defazio et al., arXiv:2405.15682, in plain numbers: three steps of a warm-up, with weight decay."""
    lr, decay, beta1, beta2, eps = 0.5, 0.1, 0.9, 0.99, 1e-8
    factors, gradients = [0.25, 0.5, 1.0], [2.0, -1.0, 3.0]
    weight = nn.Parameter(torch.full((1, 1), 4.0))
    spec = OptimizerSpec(name="schedule-free-adamw", lr=lr, weight_decay=decay, betas=(beta1, beta2), eps=eps)
    optimizer = build_optimizer([(weight, 1.0)], spec, CPU)

    x = z = y = 4.0
    v = squares = 0.0
    for t, (factor, gradient) in enumerate(zip(factors, gradients, strict=True), start=1):
        v = beta2 * v + (1 - beta2) * gradient**2
        rate = lr * factor * math.sqrt(1 - beta2**t)
        z = z - rate * gradient / (math.sqrt(v) + eps) - rate * decay * y
        squares += rate**2
        x = (1 - rate**2 / squares) * x + rate**2 / squares * z
        y = (1 - beta1) * z + beta1 * x
        optimizer.param_groups[0]["lr"] = lr * factor
        weight.grad = torch.full((1, 1), gradient)
        optimizer.step()

    assert weight.item() == pytest.approx(y, rel=1e-5)
    assert optimizer.average_of(weight).item() == pytest.approx(x, rel=1e-5)
    assert optimizer.steps == 3


def test_schedule_free_adamw_stands_still_at_lr_0():
    assert moved("schedule-free-adamw", [1, 1], start=2.0, lr=0.1, lrs=[0.0, 0.0]) == [2.0, 2.0]


def test_another_average_over_schedule_free_adamws_own_is_refused():
    with pytest.raises(RecipeError) as caught:
        refuse_average(OptimizerSpec(name="schedule-free-adamw"), ema_decay=0.99)

    assert str(caught.value) == (
        "ema_decay: schedule-free-adamw evaluates an average of its own, which another one would only blur. "
        "Set it to null, or take another optimizer."
    )
    refuse_average(OptimizerSpec(name="schedule-free-adamw"), ema_decay=None)
    refuse_average(OptimizerSpec(name="adamw"), ema_decay=0.99)


# Where it works, and what it leaves alone


@pytest.mark.parametrize("name", plugins.optimizers.names())
def test_what_a_fused_kernel_counts_with_is_where_the_weights_are(name):
    """`meta` stands for a GPU: a device that is not the CPU."""
    weight = nn.Parameter(torch.empty(2, 2, device="meta"))

    optimizer = build_optimizer([(weight, 1.0)], OptimizerSpec(name=name), torch.device("cuda"))

    state = optimizer.state_dict()["state"].get(0, {})
    assert {key: entry.device.type for key, entry in state.items()} == dict.fromkeys(state, "meta")
    assert bool(state) == (name == "adagrad")  # whose state is there from the beginning


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_what_lamb_never_decays_takes_adams_step_whatever_its_size(decay):
    """Adam's first step is lr; a matrix of ones, whose direction has its own length, moves by lr times that length."""
    table, matrix = nn.Parameter(torch.full((2, 2), 7.0)), nn.Parameter(torch.full((2, 2), 7.0))
    spec = OptimizerSpec(name="lamb", lr=0.5, weight_decay=decay)
    optimizer = build_optimizer([(table, 1.0), (matrix, 1.0)], spec, CPU, undecayed=[table])
    table.grad, matrix.grad = torch.ones(2, 2), torch.ones(2, 2)

    optimizer.step()

    torch.testing.assert_close(table.detach(), torch.full((2, 2), 6.5))
    torch.testing.assert_close(matrix.detach(), torch.full((2, 2), 3.5))


# Published constants


@pytest.mark.parametrize(
    ("constants", "named"),
    [
        ({"name": "sgd"}, False),
        ({"name": "sgd", "momentum": 0.5}, True),
        ({"name": "sgd", "betas": (0.9, 0.99)}, False),  # sgd has none
        ({"name": "adamw", "betas": (0.9, 0.99)}, True),
        ({"name": "adamw", "momentum": 0.5}, False),
        ({"name": "muon", "momentum": 0.5}, True),
        ({"name": "of my own", "momentum": 0.5}, True),
    ],
    ids=str,
)
def test_a_momentum_counts_as_named_where_the_optimizer_has_it(constants, named):
    assert names_momentum(OptimizerSpec(**constants)) == named


def test_every_optimizer_has_its_published_constants():
    assert set(PUBLISHED) == set(plugins.optimizers.names())


def test_what_the_recipe_leaves_open_is_filled_in_and_what_it_says_stays():
    assert published_constants(OptimizerSpec(name="lion")) == {"betas": (0.9, 0.99)}
    assert published_constants(OptimizerSpec(name="lion", betas=(0.95, 0.98))) == {}
    assert published_constants(OptimizerSpec(name="muon", momentum=0.9)) == {
        "nesterov": True,
        "betas": (0.9, 0.95),
        "eps": 1e-10,
    }
    assert published_constants(OptimizerSpec(name="of my own")) == {}


@pytest.mark.parametrize("name", plugins.optimizers.names())
def test_published_constants_are_those_that_are_used(name):
    open_spec = OptimizerSpec(name=name, lr=0.1)
    filled = OptimizerSpec(name=name, lr=0.1, **published_constants(open_spec))

    states = [
        build_optimizer([(nn.Parameter(torch.ones(2, 2)), 1.0)], spec, CPU).state_dict()["param_groups"]
        for spec in (open_spec, filled)
    ]

    assert states[0] == states[1]
