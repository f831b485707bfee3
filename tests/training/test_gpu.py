"""What only a CUDA device can show. Run with: uv run pytest -m gpu"""

import json

import pytest
import torch
from PIL import Image
from support.running import TINY, newest_state, train, wait_for
from support.steps import build_model, build_step

from cyclegan.config.errors import UserError
from cyclegan.config.logs import log_to
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.files.domains import check_domains
from cyclegan.data.files.sources import DataSources
from cyclegan.hardware.distributed import SINGLE_PROCESS
from cyclegan.losses.weighted import Clock
from cyclegan.networks.execution import EAGER_FP32, ExecutionPlan
from cyclegan.training.algorithm.optimizers import scale_learning_rate
from cyclegan.training.build.build_plan import PlanBuilder
from cyclegan.training.statistics.async_metrics import AsyncMetrics
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
    "batch_size": 2,
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


def losses(device: str, *, plan=EAGER_FP32, count=4, **options) -> list[dict[str, float]]:
    settings = check(TrainSettings, {**SMALL, "pool_size": 2, **options})
    torch.manual_seed(0)
    dtype = torch.float64 if plan.precision == "fp32" else torch.float32
    said: list[str] = []
    log_to(said.append)
    model = build_model(settings).to(device, dtype)
    training_step = build_step(model, settings, plan=plan)
    random = torch.Generator().manual_seed(1)
    steps = []
    for step in range(count):
        # Drawn in float64, as other types draw other numbers.
        drawn = torch.rand(2, 2, 3, 32, 32, generator=random, dtype=torch.float64) * 2 - 1
        # The last step's batch is short.
        real_A, real_B = drawn.to(dtype)[:, : 1 if step == count - 1 else 2]
        real_A = real_A[..., :: settings.scale, :: settings.scale]
        for optimizer in (
            training_step.generators.optimizer,
            training_step.discriminators.optimizer,
        ):
            scale_learning_rate(optimizer, 1 - step / count)
        values = training_step(real_A.to(device), real_B.to(device), Clock(step, step / count))
        # The cycle errors of the images are among what a CUDA graph writes.
        means = {name: each.mean() for name, each in training_step.cycle_errors.items()}
        assert all(len(each) == len(real_A) for each in training_step.cycle_errors.values())
        steps.append({name: float(value) for name, value in (values | means).items()})
    assert not said
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


@pytest.fixture(autouse=True)
def _compiled_anew():
    torch._dynamo.reset()


def test_what_is_drawn_is_drawn_anew_at_every_replay():
    options = {"diffaugment": "translation + cutout", "nce": "patch_nce(patches=16, channels=8)"}
    plan = ExecutionPlan(cuda_graphs=True, fused_optimizer=True)
    first = losses("cuda", plan=plan, count=10, **options)
    assert losses("cuda", plan=plan, count=10, **options) == first
    # A discriminator that always saw the same cutout would soon know it.
    assert len({step["D_A"] for step in first}) == len(first)


@pytest.mark.parametrize(
    "options",
    [{}, {"penalty": "1*r1(every=3)", "clip_grad": 0.5}, {"batch_size": 1, "accumulate": 2}],
    ids=str,
)
@pytest.mark.parametrize("compile", ["off", "default"])
def test_recorded_steps_give_the_losses_of_those_that_run_as_they_are(compile, options):
    plan = ExecutionPlan(cuda_graphs=True, fused_optimizer=True, compile=compile)
    recorded = losses("cuda", plan=plan, count=12, **options)
    for mine, its in zip(recorded, losses("cuda", count=12, **options), strict=True):
        assert mine == pytest.approx(its, rel=1e-6)


def test_a_step_with_all_that_saves_time_stays_near_the_plain_one():
    plan = ExecutionPlan(
        "bf16", channels_last=True, compile="default", fused_optimizer=True, cuda_graphs=True
    )
    fast, plain = losses("cuda", plan=plan, count=8), losses("cuda", count=8)
    for mine, its in zip(fast, plain, strict=True):
        assert mine == pytest.approx(its, rel=0.1, abs=0.02)


@pytest.mark.parametrize(("side", "most"), [(256, 3e9), (512, 10e9)])
def test_a_classic_step_in_bf16_fits_a_small_gpu(side, most):
    values = {"dataroot": "x", "name": "x", "load_size": side, "crop_size": side}
    settings = check(TrainSettings, values)
    torch.manual_seed(0)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    plan = ExecutionPlan("bf16", channels_last=True, fused_optimizer=True)
    training_step = build_step(build_model(settings).cuda(), settings, plan=plan)
    for _ in range(3):
        training_step(*(torch.rand(2, 1, 3, side, side, device="cuda") * 2 - 1))
    assert torch.cuda.max_memory_allocated() - before < most


DEVICE = torch.device("cuda", 0)


def domains_of(settings: TrainSettings):
    return check_domains(DataSources(**settings.data_options))


def test_the_batch_size_that_fits_grows_as_blocks_are_computed_again(dataroot):
    values = {
        "dataroot": dataroot,
        "name": "x",
        "batch_size": "auto",
        "generator": "resnet(blocks=9)",
    }
    found = {}
    for again in (False, True):
        settings = check(TrainSettings, {**values, "checkpoint_activations": again})
        planner = PlanBuilder(settings)
        fitting = planner.with_batch_size(domains_of(settings), DEVICE, SINGLE_PROCESS)
        found[again] = fitting.batch_size
    assert 1 <= found[False] <= found[True]


def test_the_pool_stays_on_the_device():
    settings = check(TrainSettings, {**SMALL, "pool_size": 2})
    training_step = build_step(build_model(settings).cuda(), settings)
    images = torch.zeros(1, 3, 32, 32, device="cuda")
    training_step(images, images)
    assert all(i.is_cuda for pool in training_step.pools.values() for i in pool.images)


def test_the_real_command_trains_and_resumes_on_the_gpu(dataroot, tmp_path):
    options = [option for option in TINY if not option.startswith("--device")]
    done = train(tmp_path, f"--dataroot={dataroot}", "--name=run", "--steps=3", *options)
    assert done.returncode == 0, done.stderr
    assert torch.cuda.get_device_name() in done.stdout
    more = train(tmp_path, "--name=run", "--continue_train", "--steps=6")
    assert more.returncode == 0, more.stderr
    lines = (tmp_path / "runs" / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 6


def test_a_deterministic_run_that_is_killed_and_resumed_is_the_uninterrupted_one(
    dataroot, tmp_path
):
    options = [option for option in TINY if not option.startswith("--device")]
    options += [f"--dataroot={dataroot}", "--deterministic", "--steps=12", "--batch_size=2"]
    assert train(tmp_path, *options, "--name=whole").returncode == 0
    killed = train(tmp_path, *options, "--name=run", "--save_every=3", popen=True)
    wait_for(tmp_path / "runs" / "run" / "state_00000003.pt", killed)
    killed.kill()
    killed.communicate()
    assert train(tmp_path, "--name=run", "--continue_train").returncode == 0
    whole, run = (newest_state(tmp_path / "runs" / name)["model"] for name in ("whole", "run"))
    assert all(torch.equal(run[key], value) for key, value in whole.items())


@pytest.mark.parametrize("graph", [False, True])
def test_a_step_that_is_not_finite_changes_no_weight(graph):
    settings = check(TrainSettings, {**SMALL, "pool_size": 2})
    training_step = build_step(
        build_model(settings).cuda(),
        settings,
        plan=ExecutionPlan(cuda_graphs=graph, fused_optimizer=True),
    )
    good = torch.rand(2, 2, 3, 32, 32, device="cuda") * 2 - 1
    for step in range(6):
        training_step(*good, Clock(step, 0))
    before = {key: value.clone() for key, value in training_step.model.state_dict().items()}
    values = training_step(*(good * float("nan")), Clock(6, 0))
    assert not values["gradient_G_AB"].isfinite()
    for key, value in training_step.model.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(v.isfinite() for v in training_step(*good, Clock(7, 0)).values())


def test_a_step_that_does_not_fit_is_told_with_what_would(dataroot):
    values = {"dataroot": dataroot, "name": "x", "batch_size": 4096, "crop_size": 256}
    settings = check(TrainSettings, values)
    with pytest.raises(UserError, match=r"a step does not fit.*this would: --batch_size \d+"):
        PlanBuilder(settings).check_memory(domains_of(settings), DEVICE, SINGLE_PROCESS)


def test_readings_come_in_order_and_behind_the_step():
    readings = AsyncMetrics(torch.device("cuda", 0))
    seen = []
    for step in range(5):
        seen += readings.put(step, {"a": torch.full((), float(step), device="cuda")})
    assert [reading.step for reading in seen] == [0, 1, 2]
    seen += readings.flush()
    assert [(reading.step, reading.values) for reading in seen] == [
        (step, {"a": float(step)}) for step in range(5)
    ]


def test_looking_at_a_run_leaves_it_as_it_was(dataroot, tmp_path):
    options = [f"--dataroot={dataroot}", "--steps=6", *TINY, "--device=cuda", "--deterministic"]
    for name, monitor in (("seen", "files"), ("unseen", "none")):
        watched = ["--preview_every=2", "--histograms_every=1", f"--monitor={monitor}"]
        done = train(tmp_path, *options, *watched, f"--name={name}")
        assert done.returncode == 0, done.stderr
    seen, unseen = (newest_state(tmp_path / "runs" / name)["model"] for name in ("seen", "unseen"))
    assert all(torch.equal(seen[key], value) for key, value in unseen.items())


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
