"""What only a CUDA device can show. Run with: uv run pytest -m gpu"""

import json

import pytest
import torch
from PIL import Image
from running import TINY, train

from cyclegan.settings import TrainSettings, check
from cyclegan.training.model import build_model
from cyclegan.training.step import Stepper
from cyclegan.translate import Translator

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
SMALL = {
    "dataroot": "unused",
    "name": "unused",
    "generator": "resnet(blocks=2)",
    "discriminator": "patch(layers=2)",
    "ngf": 8,
    "ndf": 8,
}


# Parts that draw no random numbers on the device: there the CPU's losses are the reference.
PARTS = [
    {},
    {"adversarial": "relativistic", "penalty": "1*r1(every=2) + 1*r2(every=2)"},
    {"discriminator": "multiscale(scales=2, layers=1)", "adversarial": "hinge"},
    {"discriminator": "batch_head(layers=2)"},
    {"discriminator": "unet", "generator": "unet(layers=3)"},
    {"generator": "attention(blocks=1)", "clip_grad": 0.1, "optimizer": "rmsprop"},
    {"cycle": "1*ms_ssim + 1*fft + 1*wavelet + 1*laplacian_pyramid + 1*gradient"},
    {"generator": "edsr(blocks=1)", "scale": 2, "identity": "none", "pseudo_pair_B": "charbonnier"},
]


def losses(device: str, **options) -> list[dict[str, float]]:
    settings = check(TrainSettings, {**SMALL, "pool_size": 2, **options})
    torch.manual_seed(0)
    stepper = Stepper(build_model(settings).double().to(device), settings)
    random = torch.Generator().manual_seed(1)
    steps = []
    for _ in range(4):
        real_A, real_B = torch.rand(2, 2, 3, 32, 32, generator=random, dtype=torch.float64) * 2 - 1
        real_A = real_A[..., :: settings.scale, :: settings.scale]
        values = stepper.step(real_A.to(device), real_B.to(device))
        steps.append({name: float(value) for name, value in values.items()})
    return steps


@pytest.mark.parametrize("options", PARTS, ids=str)
def test_steps_on_the_gpu_give_the_losses_of_the_cpu(options):
    for on_gpu, on_cpu in zip(losses("cuda", **options), losses("cpu", **options), strict=True):
        assert on_gpu == pytest.approx(on_cpu, rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"nce": "patch_nce(patches=16, channels=8, dual=true)"},
        {"diffaugment": "translation + cutout + color"},
        {"penalty": "gradient_penalty(every=1)", "adversarial": "wgan"},
        {"generator": "edsr(blocks=1, noise=1)"},
    ],
    ids=str,
)
def test_random_parts_draw_on_the_gpu(options):
    first, again = losses("cuda", **options), losses("cuda", **options)
    assert [sorted(step) for step in first] == [sorted(step) for step in again]
    for step, same in zip(first, again, strict=True):
        assert step == pytest.approx(same, rel=1e-6)


def test_the_pool_stays_on_the_device():
    settings = check(TrainSettings, {**SMALL, "pool_size": 2})
    stepper = Stepper(build_model(settings).cuda(), settings)
    images = torch.zeros(1, 3, 32, 32, device="cuda")
    stepper.step(images, images)
    assert all(i.is_cuda for pool in stepper.pools.values() for i in pool.images)


def test_the_real_command_trains_and_resumes_on_the_gpu(dataroot, tmp_path):
    options = [option for option in TINY if not option.startswith("--device")]
    done = train(tmp_path, f"--dataroot={dataroot}", "--name=run", "--steps=3", *options)
    assert done.returncode == 0, done.stderr
    assert torch.cuda.get_device_name() in done.stdout
    more = train(tmp_path, "--name=run", "--continue_train", "--steps=6")
    assert more.returncode == 0, more.stderr
    lines = (tmp_path / "runs" / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 6


def test_a_translation_on_the_gpu_is_that_of_the_cpu(dataroot, tmp_path):
    done = train(tmp_path, f"--dataroot={dataroot}", "--name=run", "--steps=1", *TINY)
    assert done.returncode == 0, done.stderr
    image = Image.open(dataroot / "testA" / "000.png")
    on_cpu, on_gpu = (
        Translator.load(tmp_path / "runs" / "run", device=device)(image)
        for device in ("cpu", "cuda")
    )
    difference = [abs(a - b) for a, b in zip(on_cpu.tobytes(), on_gpu.tobytes(), strict=True)]
    # TF32 convolutions may move a value across a rounding edge.
    assert max(difference) <= 2
