"""PatchNCE: its value by hand, its heads, and what a generator learns from it."""

import math

import pytest
import torch
from support.steps import build_model, build_step
from torch import Tensor, nn
from torch.nn import functional as F

from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.losses.contrastive import PatchNCE
from cyclegan.losses.weighted import Clock
from cyclegan.training.step import TrainingStep

SMALL = {
    "generator": "resnet(blocks=1)",
    "discriminator": "patch(layers=1)",
    "ngf": 4,
    "ndf": 4,
    "cycle": "none",
    "identity": "none",
}


def training_step(**options) -> TrainingStep:
    torch.manual_seed(0)
    settings = check(TrainSettings, {**SMALL, **options})
    return build_step(build_model(settings), settings)


def batch(seed: int = 0) -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Pixels(nn.Module):
    """A generator whose encoder is the image itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def encode(self, image: Tensor, layers: object) -> list[Tensor]:
        return [image * self.weight]


def identity_heads(loss: PatchNCE) -> None:
    """Heads that pass 3 channels on: the value can then be computed from pixels."""
    for head in loss.heads.values():
        for layer in (head[0][0], head[0][2]):
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)


def test_the_value_is_the_cross_entropy_of_similarities():
    """CUT's equation 3 written out for all 4 pixels of a 2 x 2 image."""
    loss = PatchNCE(patches=99, channels=3, temperature=0.5)
    generators = nn.ModuleDict({"G_AB": Pixels(), "G_BA": Pixels()})
    loss.prepare(generators, "B")
    identity_heads(loss)
    generator = torch.Generator().manual_seed(3)
    source, made = (torch.rand(1, 3, 2, 2, generator=generator) for _ in range(2))
    q, k = (F.normalize(x.flatten(2)[0].T, dim=1) for x in (made, source))
    expected = 0.0
    for i in range(4):
        similar = [math.exp(float(q[i] @ k[j]) / 0.5) for j in range(4)]
        expected -= math.log(similar[i] / sum(similar)) / 4
    assert loss(generators, "B", source, made).item() == pytest.approx(expected, rel=1e-5)


def test_features_that_tell_nothing_apart_give_the_logarithm_of_the_patches():
    loss = PatchNCE(patches=16, channels=3, temperature=1e6)
    generators = nn.ModuleDict({"G_AB": Pixels(), "G_BA": Pixels()})
    loss.prepare(generators, "A")
    value = loss(generators, "A", batch(1), batch(2))
    assert value.item() == pytest.approx(math.log(16), rel=1e-4)


def test_the_heads_learn_from_the_first_step_and_are_saved():
    made = training_step(nce="1*patch_nce(patches=16, channels=8)")
    heads = {key: value.clone() for key, value in made.loss_modules.state_dict().items()}
    assert heads
    made(batch(1), batch(2))
    assert all((heads[k] - v).abs().max() > 0 for k, v in made.loss_modules.state_dict().items())


@pytest.mark.parametrize(("dual", "heads"), [(False, {"G_AB"}), (True, {"G_AB", "G_BA"})])
def test_with_dual_each_domain_has_an_encoder_of_its_own(dual, heads):
    made = training_step(
        nce_B=f"patch_nce(patches=8, channels=4, dual={dual})", adversarial_A="lsgan"
    )
    loss = made.objective.losses["nce_B"].losses[0].loss
    assert set(loss.heads) == heads


def test_both_directions_share_the_heads_of_an_encoder():
    made = training_step(nce="patch_nce(patches=8, channels=4, dual=true)")
    assert made.objective.losses["nce_A"] is made.objective.losses["nce_B"]
    assert len(made.loss_modules) == 1
    parameters = [p for group in made.generators.optimizer.param_groups for p in group["params"]]
    assert len(parameters) == len({id(parameter) for parameter in parameters})


def test_training_makes_patches_of_a_translation_easier_to_match_with_its_source():
    torch.manual_seed(0)
    made = training_step(
        nce="1*patch_nce(patches=64, channels=16)", adversarial="0.001*lsgan", lr=2e-3
    )
    first = made(batch(1), batch(2), Clock())["nce_B"]
    for step in range(30):
        last = made(batch(1), batch(2), Clock(step))["nce_B"]
    assert last < 0.8 * first


def test_chosen_layers_are_used():
    loss = training_step(nce_B="patch_nce(layers=[0, 4])").objective.losses["nce_B"].losses[0].loss
    assert [head[0].in_features for head in loss.heads["G_AB"]] == [3, 8]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"nce": "patch_nce(layers=[99])"}, "--nce"),
        ({"nce": "patch_nce(layers=a)"}, "layers"),
        ({"nce": "patch_nce(patches=1)"}, "patches"),
        ({"nce": "patch_nce(temperature=0)"}, "temperature"),
        ({"nce": "patch_nce", "generator": "srcnn(spec='8x3x3_1x3x3')"}, "no encoder"),
        ({"nce": "patch_nec"}, "did you mean patch_nce"),
    ],
)
def test_a_bad_option_or_generator_is_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        training_step(**options)
