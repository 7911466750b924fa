"""The learning rate that each optimizer was published with: where a training starts when nothing better is known of it."""

from __future__ import annotations

from trainwright.recipe import OptimizerSpec

SGD_LR, SGD_BATCH = 0.1, 256  # He et al., arXiv:1512.03385 §3.4
PUBLISHED_LR = {  # optimizer: (lr, source)
    "adam": (1e-3, "Kingma and Ba, arXiv:1412.6980, Algorithm 1"),
    "adamw": (1e-3, "Loshchilov and Hutter, arXiv:1711.05101, Algorithm 2"),
    "adamax": (2e-3, "Kingma and Ba, arXiv:1412.6980, Algorithm 2"),
    "nadam": (2e-3, "the default of torch.optim.NAdam"),
    "nadamw": (1e-3, "the default of timm.optim.NAdamW"),
    "radam": (1e-3, "the default of torch.optim.RAdam"),
    "adopt": (1e-3, "the default of timm.optim.Adopt"),
    "lamb": (1e-3, "the default of timm.optim.Lamb"),
    "rmsprop": (1e-3, "Hinton's, as of Ruder, arXiv:1609.04747 §4.5"),
    "rprop": (1e-2, "the default of torch.optim.Rprop; only its first step"),
    "adagrad": (1e-2, "Ruder, arXiv:1609.04747 §4.3"),
    "lion": (1e-4, "a tenth of AdamW's: Chen et al., arXiv:2302.06675 §5, 3 to 10 times smaller"),
    "muon": (1e-3, "AdamW's, to the size of whose steps it is scaled: Liu et al., arXiv:2502.16982"),
    "schedule-free-adamw": (2.5e-3, "the default of Defazio et al.'s own code, arXiv:2405.15682"),
}
OTHERS = (1e-3, "Adam's: none is known of this one")


def published_lr(spec: OptimizerSpec, *, batch_size: int) -> tuple[float, str]:
    """(peak lr, where it is from) for training with that optimizer. batch_size: images a step, which SGD's goes by.

    An optimizer of one's own starts from Adam's.
    """
    if spec.name == "sgd":
        source = "He et al., arXiv:1512.03385 §3.4, in proportion to the batch: Goyal et al., arXiv:1706.02677 §2.1"
        return SGD_LR * batch_size / SGD_BATCH, source
    return PUBLISHED_LR.get(spec.name, OTHERS)
