"""The execution plan: --precision, --compile, --accumulate and --checkpoint_activations."""

import copy
import json

import pytest
import torch
from support.running import TINY, train
from support.steps import build_model, build_step

from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.hardware import devices
from cyclegan.hardware.distributed import SINGLE_PROCESS
from cyclegan.networks.execution import EAGER_FP32, ExecutionPlan, Executor
from cyclegan.training.build.build_plan import PlanBuilder
from cyclegan.training.resources.execution_plan import (
    compile_first_step,
    configure_torch,
    describe,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
LONG = 10**6
LOSSES = ("adversarial", "cycle", "identity", "D")
SMALL = {
    "dataroot": "unused",
    "name": "unused",
    "generator": "resnet(blocks=2)",
    "discriminator": "patch(layers=2)",
    "ngf": 4,
    "ndf": 4,
}


def settings(**options):
    return check(TrainSettings, {**SMALL, **options})


def plan(settings, device, *, total_steps):
    return PlanBuilder(settings).plan(device, total_steps=total_steps, group=SINGLE_PROCESS)


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU of the given generation, as far as a plan can tell."""

    def pretend(*, capability=(9, 0), bf16=True):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)

    return pretend


@pytest.fixture
def cpu(monkeypatch):
    def pretend(*, bf16, compiler=True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bf16})
        found = "/usr/bin/g++" if compiler else None
        monkeypatch.setattr(devices.shutil, "which", lambda _: found)

    return pretend


def test_a_gpu_with_bf16_uses_it_compiled_and_in_cuda_graphs(gpu):
    gpu()
    assert plan(settings(), CUDA, total_steps=LONG) == ExecutionPlan(
        precision="bf16",
        channels_last=True,
        compile="default",
        fused_optimizer=True,
        cuda_graphs=True,
    )


def test_a_gpu_of_an_older_generation_computes_in_float32(gpu):
    gpu(capability=(7, 0), bf16=False)
    found = plan(settings(), CUDA, total_steps=LONG)
    assert (found.precision, found.channels_last) == ("fp32", False)
    with pytest.raises(UserError, match="--precision tf32: .*use --precision fp32"):
        plan(settings(precision="tf32"), CUDA, total_steps=LONG)


def test_a_short_run_is_not_compiled(gpu):
    gpu()
    assert plan(settings(), CUDA, total_steps=100).compile == "off"
    assert plan(settings(compile="default"), CUDA, total_steps=100).compile == "default"


def test_images_of_many_sizes_are_neither_compiled_nor_captured(gpu):
    gpu()
    found = plan(settings(preprocess="none"), CUDA, total_steps=LONG)
    assert (found.compile, found.cuda_graphs) == ("off", False)


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "fp16"},
        {"identity": "5*l1(decay_to=0)"},
        {"discriminator": "batch_head(layers=2)"},
        {"optimizer": "sgd"},
        {"optimizer_D": "adagrad"},
        {"cycle": "10*torch.nn.SmoothL1Loss"},
    ],
    ids=str,
)
def test_a_step_that_is_not_static_is_not_captured(gpu, options):
    gpu()
    assert not plan(settings(**options), CUDA, total_steps=LONG).cuda_graphs


def test_a_cpu_with_bf16_computes_in_it_and_one_without_does_not(cpu):
    cpu(bf16=True)
    assert plan(settings(), CPU, total_steps=LONG) == ExecutionPlan(
        precision="bf16", channels_last=True, compile="default", fused_optimizer=True
    )
    cpu(bf16=False)
    assert plan(settings(), CPU, total_steps=LONG) == ExecutionPlan(fused_optimizer=True)


def test_without_a_compiler_nothing_is_compiled_and_asking_for_it_names_what_is_missing(cpu):
    cpu(bf16=True, compiler=False)
    assert plan(settings(), CPU, total_steps=LONG).compile == "off"
    with pytest.raises(UserError, match=r"--compile max needs a C\+\+ compiler.*--compile off"):
        plan(settings(compile="max"), CPU, total_steps=LONG)


def test_the_plan_is_described_in_a_few_words():
    assert describe(ExecutionPlan(precision="bf16", compile="default", cuda_graphs=True)) == (
        "bf16, compiled, recorded as CUDA graphs"
    )
    assert describe(ExecutionPlan(activation_checkpointing=True)) == "fp32, blocks recomputed"


def test_tf32_is_for_those_who_did_not_ask_for_float32(monkeypatch):
    asked = []
    monkeypatch.setattr(devices, "allow_tf32", asked.append)
    for precision in ("fp32", "tf32", "bf16"):
        chosen = ExecutionPlan(precision=precision)
        configure_torch(chosen, deterministic=False, fixed_size=True)
    assert asked == [False, True, True]


def steps(count=3, *, batch=4, speed=EAGER_FP32, double=True, **options):
    """The losses of some steps, and the weights after them."""
    chosen = settings(pool_size=3, **options)
    torch.manual_seed(0)
    model = build_model(chosen)
    stepper = build_step(model.double() if double else model, chosen, plan=speed)
    random = torch.Generator().manual_seed(1)
    dtype = torch.float64 if double else torch.float32
    losses = []
    for _ in range(count):
        real_A, real_B = (
            torch.rand(batch, 3, 32, 32, generator=random, dtype=dtype) * 2 - 1 for _ in "AB"
        )
        losses.append({k: float(v) for k, v in stepper(real_A, real_B).items()})
    return losses, {k: v.clone() for k, v in stepper.model.state_dict().items()}


@pytest.mark.parametrize(
    "options",
    [{}, {"clip_grad": 0.1}, {"penalty": "1*r1(every=2)"}, {"generator": "attention(blocks=1)"}],
    ids=str,
)
def test_small_batches_one_after_another_are_one_large_batch(options):
    large = steps(batch_size=4, **options)
    # The last share is smaller than the others.
    small = steps(batch_size=3, accumulate=2, **options)
    for mine, its in zip(small[0], large[0], strict=True):
        assert mine == pytest.approx(its, rel=1e-9)
    for name, weight in large[1].items():
        # Biases before a norm have no gradient but rounding, of which Adam makes steps.
        if weight.ndim > 1:
            torch.testing.assert_close(small[1][name], weight, rtol=0, atol=1e-9)


def test_a_step_with_every_optimization_equals_the_plain_step():
    plain = steps(speed=ExecutionPlan(batch_passes=False), batch_size=4)
    fast = steps(
        speed=ExecutionPlan(
            fused_optimizer=True, channels_last=True, activation_checkpointing=True
        ),
        batch_size=4,
    )
    for mine, its in zip(fast[0], plain[0], strict=True):
        assert mine == pytest.approx(its, rel=1e-9)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_float32_weights_by_about_the_same_losses(precision):
    half = steps(1, speed=ExecutionPlan(precision=precision), double=False, batch_size=4)
    full = steps(1, double=False, batch_size=4)
    if precision == "fp16":
        # The first scale of the gradients is too large for some CPUs and not for others.
        for losses in (half[0][0], full[0][0]):
            for name in [name for name in losses if name.startswith("gradient_")]:
                del losses[name]
    assert half[0][0] == pytest.approx(full[0][0], rel=0.05)
    assert {weight.dtype for weight in half[1].values()} == {torch.float32}


def test_a_gradient_too_large_for_fp16_leaves_the_weights_alone_and_lowers_the_scale():
    chosen = settings(precision="fp16")
    torch.manual_seed(0)
    stepper = build_step(build_model(chosen), chosen, plan=ExecutionPlan(precision="fp16"))
    scale = stepper.generators.scaler.get_scale()
    before = copy.deepcopy(stepper.model.generators.state_dict())
    images = torch.full((1, 3, 32, 32), torch.inf)
    stepper(images, images)
    assert stepper.generators.scaler.get_scale() < scale
    for name, weight in stepper.model.generators.state_dict().items():
        torch.testing.assert_close(weight, before[name])


def test_a_penalty_runs_on_the_eager_discriminator_in_float32():
    seen = []
    chosen = settings(penalty="1*r1(every=1)")
    stepper = build_step(build_model(chosen), chosen, plan=ExecutionPlan(precision="bf16"))
    for network in stepper.model.discriminators.values():
        network.model[0].register_forward_hook(
            lambda module, args, output: seen.append(output.dtype)
        )
    stepper(*torch.rand(2, 1, 3, 32, 32))
    # A pass for the generators, one for both kinds of images, one for the penalty; for each D.
    assert seen.count(torch.bfloat16) == 4
    assert seen.count(torch.float32) == 2


def test_generators_without_blocks_cannot_compute_them_again():
    chosen = settings(generator="unet(layers=3)")
    with pytest.raises(UserError, match="--checkpoint_activations: .*no residual blocks"):
        build_step(build_model(chosen), chosen, plan=ExecutionPlan(activation_checkpointing=True))


def test_a_first_step_that_cannot_be_compiled_is_undone_and_repeated(said):
    done = []
    network = Executor(torch.nn.Identity())
    network.forward = lambda image: 1 / 0

    def step():
        done.append("step")
        return {"loss": network(torch.ones(()))}

    losses = compile_first_step(step, undo=lambda: done.append("undo"), executors=[network])
    assert losses["loss"] == 1
    assert done == ["step", "undo", "step"]
    assert "cannot be compiled" in said[-1]


def test_a_users_mistake_in_the_first_step_is_not_a_failed_compilation():
    def step():
        raise UserError("--cycle: own fails")

    with pytest.raises(UserError, match="own fails"):
        compile_first_step(step, undo=lambda: None, executors=[])


@pytest.mark.slow
@pytest.mark.skipif(not devices.has_compiler(CPU), reason="no C++ compiler here")
def test_a_compiled_run_gives_the_losses_of_an_uncompiled_one(dataroot, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    options = [*TINY, f"--dataroot={dataroot}", "--steps=2", "--precision=fp32"]
    # One generator and one discriminator: a network takes half a minute to compile.
    options += ["--generator_BA=bicubic", "--adversarial_A=none", "--identity=none"]
    found = {}
    for compile in ("off", "default"):
        # Dropout draws other numbers where it is compiled.
        ways = ["--generator=resnet(blocks=1)", f"--compile={compile}", f"--name={compile}"]
        done = train(tmp_path, *options, *ways)
        assert done.returncode == 0, done.stderr
        assert "cannot be compiled" not in done.stdout
        assert ("the first step took" in done.stdout) == (compile == "default")
        lines = (tmp_path / "runs" / compile / "metrics.jsonl").read_text().splitlines()
        values = json.loads(lines[-1])
        found[compile] = {k: v for k, v in values.items() if k.split("_")[0] in LOSSES}
    assert found["default"] == pytest.approx(found["off"], rel=1e-3)
    assert sorted(found["off"]) == ["D_B", "adversarial_B", "cycle_A", "cycle_B"]
