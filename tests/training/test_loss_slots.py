"""The images that a step makes, what each slot trains, and what is refused before training."""

import pytest
import torch
from support.steps import stepper
from torch import Tensor

from cyclegan.config.errors import UserError
from cyclegan.losses.weighted import Clock
from cyclegan.training.algorithm.loss_slots import SLOT_NAMES
from cyclegan.training.algorithm.model import PASSES
from cyclegan.training.algorithm.objective import same_size

NOTHING = {"adversarial": "none", "cycle": "none", "identity": "none"}
RESTORATION = {**NOTHING, "generator_BA": "bicubic", "pseudo_pair_B": "1*l2"}


def batch(seed: int = 0, side: int = 32) -> Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def refusal(**options) -> str:
    with pytest.raises(UserError) as caught:
        stepper(**options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_published_algorithm_makes_six_images():
    passes = stepper().objective.passes(Clock())
    assert passes == {"fake_A", "fake_B", "rec_A", "rec_B", "idt_A", "idt_B"}


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({"identity": "none"}, {"fake_A", "fake_B", "rec_A", "rec_B"}),
        ({"identity_A": "none"}, {"fake_A", "fake_B", "rec_A", "rec_B", "idt_B"}),
        ({"identity": "none", "cycle_B": "none"}, {"fake_A", "fake_B", "rec_A"}),
        (RESTORATION, {"pse_B"}),
        ({**NOTHING, "content": "l1"}, {"fake_A", "fake_B"}),
    ],
)
def test_an_image_that_no_loss_needs_is_not_made(options, passes):
    assert stepper(**options).objective.passes(Clock()) == passes


def test_a_decayed_identity_saves_its_passes():
    made = stepper(identity="5*l1(decay_to=0, over=0.3)")
    assert {"idt_A", "idt_B"} <= made.objective.passes(Clock(0, 0.2))
    assert not {"idt_A", "idt_B"} & made.objective.passes(Clock(9, 0.3))
    assert "identity_A" not in made(batch(1), batch(2), Clock(9, 0.3))


def test_every_pair_compares_an_image_that_is_made():
    pairs = {slot.images(d) for slot, d in SLOT_NAMES.values() if slot.compares}
    assert {made for made, _ in pairs} <= set(PASSES)
    assert ("fake_A", "real_B") in pairs


def test_a_pseudo_pair_trains_only_its_last_generator():
    made = stepper(**{**RESTORATION, "generator_BA": "edsr(blocks=1)", "cycle_A": "1*l1"})
    images = made.model({"real_A": batch(1), "real_B": batch(2)}, {"pse_B"})
    slot = made.objective.losses["pseudo_pair_B"]
    loss = slot.evaluate("p", images["pse_B"], images["real_B"])["p"]
    loss.backward()
    touched = {
        name
        for name, network in made.model.generators.items()
        if any(p.grad is not None for p in network.parameters())
    }
    assert touched == {"G_AB"}


def test_without_an_adversarial_loss_there_is_no_discriminator():
    made = stepper(**RESTORATION)
    assert list(made.model.discriminators) == []
    losses = made(batch(1), batch(2))
    assert set(losses) == {"pseudo_pair_B", "gradient_G_AB"}


def test_an_adversarial_loss_in_one_domain_has_one_discriminator():
    made = stepper(adversarial_A="none", identity="none", cycle="10*l1")
    assert list(made.model.discriminators) == ["D_B"]
    names = {"adversarial_B", "cycle_A", "cycle_B", "D_B"}
    names |= {"gradient_G_AB", "gradient_G_BA", "gradient_D_B"}
    assert set(made(batch(1), batch(2))) == names


def test_the_adversarial_weight_may_differ_by_domain():
    losses = stepper(adversarial_A="1*lsgan", adversarial_B="3*lsgan")
    same = stepper(adversarial="1*lsgan")
    ours, theirs = (made(batch(1), batch(2)) for made in (losses, same))
    assert ours["adversarial_A"] == theirs["adversarial_A"]
    assert ours["adversarial_B"].item() == pytest.approx(3 * theirs["adversarial_B"].item())
    assert ours["D_B"] == theirs["D_B"]


def test_a_lazy_penalty_is_due_at_its_steps_and_weighs_as_much():
    made = stepper(penalty="2*r1(every=4)", lr=1e-12)
    every_step = stepper(penalty="2*r1(every=1)", lr=1e-12)
    names = [set(made(batch(1), batch(2), Clock(step))) for step in range(5)]
    assert ["penalty_A" in seen for seen in names] == [True, False, False, False, True]
    lazy, eager = (m(batch(1), batch(2), Clock(0))["penalty_B"] for m in (made, every_step))
    assert lazy.item() == pytest.approx(4 * eager.item(), rel=1e-4)


def test_large_gradients_are_clipped():
    made = stepper(clip_grad=0.01, cycle="1000*l1")
    made(batch(1), batch(2))
    gradients = [p.grad for p in made.model.generators.parameters() if p.grad is not None]
    length = torch.stack([gradient.norm() for gradient in gradients]).norm()
    assert length.item() == pytest.approx(0.01, rel=1e-3)


def test_with_a_scale_translations_change_size_and_reconstructions_do_not():
    made = stepper(scale=2, identity="none", content="1*l1")
    real = {"real_A": batch(1, 16), "real_B": batch(2, 32)}
    images = made.model(real, made.objective.passes(Clock()))
    sides = {name: images[name].shape[-1] for name in ("fake_A", "fake_B", "rec_A", "rec_B")}
    assert sides == {"fake_A": 16, "fake_B": 32, "rec_A": 16, "rec_B": 32}
    assert {"content_A", "content_B"} <= set(made(batch(1, 16), batch(2, 32)))


def test_images_of_two_sizes_are_compared_at_the_smaller():
    large, small = same_size(batch(1, 32), batch(2, 16))
    assert large.shape == small.shape == (1, 3, 16, 16)
    assert torch.equal(small, batch(2, 16))


@pytest.mark.parametrize("name", ["translation", "cutout", "color"])
def test_what_discriminators_see_can_be_augmented(name):
    plain, augmented = (stepper(diffaugment=text)(batch(1), batch(2)) for text in ("none", name))
    assert plain["D_B"] != augmented["D_B"]
    assert plain["cycle_A"] == augmented["cycle_A"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"adversarial": "wgan"}, "diverges without a penalty"),
        ({**RESTORATION, "penalty": "r1"}, "no discriminator to regularize"),
        ({**RESTORATION, "diffaugment": "cutout"}, "--diffaugment"),
        ({"diffaugment": "2*cutout"}, "takes no weight"),
        ({"diffaugment": "cutuot"}, "did you mean cutout"),
        ({"generator_BA": "bicubic"}, "G_BA is fixed: give --adversarial_A none"),
        ({**RESTORATION, "pseudo_pair": "l1"}, "give --pseudo_pair_A none"),
        ({**RESTORATION, "generator_BA": "edsr"}, "nothing trains G_BA"),
        (NOTHING, "nothing trains G_AB"),
        ({"adversarial": "l1"}, "unknown l1"),
        ({"adversarial": "torch.nn.L1Loss"}, "no adversarial loss"),
        ({"scale": 2}, "--identity compares images of one size"),
        ({"scale": 2, "identity": "none", "nce": "patch_nce"}, "--nce compares"),
        ({"scale": 2, "identity": "none", "generator": "resnet"}, "does not enlarge"),
        (
            {"scale": 2, "identity": "none", "generator_BA": "resnet"},
            "--generator_BA: resnet does not reduce",
        ),
        ({"generator": "edsr(scale=2)"}, "changes the size"),
        ({"penalty": "gradient_penality"}, "did you mean gradient_penalty"),
    ],
)
def test_settings_that_train_nothing_are_refused_in_one_line(options, sentence):
    assert sentence in refusal(**options)
