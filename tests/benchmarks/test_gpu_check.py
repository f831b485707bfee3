"""benchmarks/gpu: what of it runs on a CPU, and whether its commands still fit the project."""

import importlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cyclegan.config.command_line import train_settings

ROOT = Path(__file__).resolve().parents[2]
GPU = ROOT / "benchmarks" / "gpu"


@pytest.fixture(scope="module")
def gpu() -> Iterator[SimpleNamespace]:
    with pytest.MonkeyPatch.context() as patch:
        # Also takes back what gpu_check.py itself puts there.
        patch.syspath_prepend(GPU)
        names = ("gpu_check", "gpu_profile", "gpu_timing", "gpu_trust", "gpu_variants")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})


def figures(out: Path, *options: str) -> dict:
    done = subprocess.run(
        [sys.executable, str(GPU / "gpu_check.py"), *options, "--device=cpu", f"--out={out}"],
        capture_output=True,
        text=True,
        cwd=out.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (line,) = out.read_text().splitlines()
    found = json.loads(line)
    assert (found["gpu"], found["torch"]) == ("none", torch.__version__)
    return found


def test_steps_are_timed_variant_by_variant(tmp_path):
    variants = ["plain", "eager", "eager_first", "plain_again"]
    words = ["--size=32", "--width=4", "--rounds=3", "--count=1", "--variants"]
    found = figures(tmp_path / "steps.json", "steps", *words, ",".join(variants))
    head = ["what", "size", "batch", "gpu", "torch", "width"]
    assert list(found) == [*head, *variants]
    assert (found["what"], found["size"], found["batch"], found["width"]) == ("steps", 32, 1, 4)
    for variant in variants:
        row = found[variant]
        assert list(row) == ["ready_s", "ms", "least", "rounds", "host_ms", "launches", "said"]
        assert len(row["rounds"]) == 3
        # A step this small takes milliseconds: neither none nor a minute.
        assert 0.5 < row["least"] == min(row["rounds"]) <= row["ms"] <= max(row["rounds"]) < 60e3
        assert 0.5 < row["host_ms"] < 60e3
        assert row["ready_s"] < 60
        assert (row["launches"], row["said"]) == (None, [])


def test_a_run_that_goes_back_is_compared_step_by_step(tmp_path):
    found = figures(tmp_path / "trust.json", "trust")
    assert (found["what"], found["size"], found["batch"]) == ("trust", 32, 2)
    # A CPU records nothing: both runs are the same to the last bit.
    assert found["relative_difference_by_step"] == [0.0] * 16
    # Six steps, four that are taken back, six more.
    assert found["adam_steps_plain"] == found["adam_steps_recorded"] == 12
    assert "after_a_failed_recording" not in found


def test_a_run_that_does_not_go_back_as_it_should_shows(gpu, monkeypatch, tmp_path):
    trust = gpu.gpu_trust
    restore, calls = trust.RunState.restore, []

    def restore_all_but_adam(self, state):
        calls.append(state)
        optimizer = self.step.generators.optimizer
        if len(calls) == 2:
            state = {**state, "optimizer_G": optimizer.state_dict()}
        restore(self, state)

    monkeypatch.setattr(trust.RunState, "restore", restore_all_but_adam)
    found = trust.trust(gpu.gpu_check.parse(["trust", "--device=cpu", f"--out={tmp_path / 'o'}"]))
    # The first step after the return, the eleventh, reports losses from before its update.
    differences = found["relative_difference_by_step"]
    assert differences[:11] == [0.0] * 11
    assert all(difference > 0 for difference in differences[11:])
    assert (found["adam_steps_plain"], found["adam_steps_recorded"]) == (12, 16)


def test_a_variant_that_fails_is_told_in_its_place(gpu, monkeypatch, tmp_path):
    build_variant = gpu.gpu_check.build_variant

    def build_or_fail(variant, options):
        if variant == "eager":
            raise torch.OutOfMemoryError("80 GB are not enough")
        return build_variant(variant, options)

    monkeypatch.setattr(gpu.gpu_check, "build_variant", build_or_fail)
    # It sets what the whole process goes by.
    monkeypatch.setattr(gpu.gpu_check, "configure_torch", lambda plan, **options: None)
    words = "steps --device cpu --size 32 --width 2 --rounds 1 --count 1 --variants eager,plain"
    options = gpu.gpu_check.parse([*words.split(), f"--out={tmp_path / 'o.json'}"])
    found = gpu.gpu_check.steps(options)
    assert found["eager"] == {"error": "OutOfMemoryError: 80 GB are not enough"}
    assert found["plain"]["ms"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("steps --variants plain,grahp", "unknown variant grahp; known: plain, eager,"),
        ("compiled --variants compiled,compiled_graph", "measures one of the --variants, not 2"),
        ("profile --variants eager --device cpu", "leave --device cpu out"),
    ],
)
def test_a_mistake_in_the_command_is_told(gpu, words, message, capsys):
    with pytest.raises(SystemExit):
        gpu.gpu_check.parse([*words.split(), "--out=o.json"])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (
            "sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc",
            "conv",
        ),
        ("void cudnn::ops::nchwToNhwcKernel<__nv_bfloat16, __nv_bfloat16, float, false>", "layout"),
        ("triton_poi_fused_convolution_native_group_norm_reflection_pad2d_relu_3", "triton"),
        ("triton_tem_fused_convolution_0", "conv"),
        ("void at::native::reflection_pad2d_out_kernel<c10::BFloat16>", "pad"),
        ("void at::native::RowwiseMomentsCUDAKernel<c10::BFloat16, float, int>", "norm"),
        ("void at::native::multi_tensor_apply_kernel<..., FusedAdamMathFunctor<float, 4>>", "adam"),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>", "reduce"),
        ("Memcpy DtoD (Device -> Device)", "copy"),
        ("void at::native::vectorized_elementwise_kernel<4, AddFunctor<float>>", "elementwise"),
        ("void splitKreduce", "reduce"),
        ("fft2d_r2c_32x32", "other"),
    ],
)
def test_a_kernel_is_told_by_its_name(gpu, name, kind):
    assert gpu.gpu_profile.kind(name) == kind


def test_the_profile_adds_up_what_kernels_take_a_step(gpu):
    sums = gpu.gpu_profile._sums([("conv", 4000.0), ("copy", 10.0), ("conv", 6000.0)])
    # Five steps, from microseconds to milliseconds.
    assert sums == {"conv": [2.0, 0.4], "copy": [0.002, 0.2]}


@pytest.fixture
def commands(tmp_path) -> list[list[str]]:
    """What gpu_check.sh calls python3 with. In place of Python stands a program that writes down
    its arguments, and leaves a file of figures where it is told to.
    """
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python3"
    python.write_text(
        "#!/usr/bin/env bash\n"
        f'printf "%q " "$@" | sed "s/$/\\n/" >> {tmp_path / "commands"}\n'
        'while [ $# -gt 1 ]; do [ "$1" != --out ] || echo "{}" > "$2"; shift; done\n'
        "echo '{}'\n"
    )
    for name in ("python3", "nvidia-smi"):
        path = tmp_path / "bin" / name
        path.touch()
        path.chmod(0o755)
    out = tmp_path / "out"
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", str(GPU / "gpu_check.sh")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "OUT": str(out)},
        timeout=60,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    found = [shlex.split(line) for line in (tmp_path / "commands").read_text().splitlines()]
    # Each measurement has left one line.
    measured = sum(words[0].startswith("benchmarks/") for words in found)
    assert len((out / "results.jsonl").read_text().splitlines()) == measured
    return found


def test_the_script_asks_for_what_the_project_has(gpu, commands):
    checks, trains = [], []
    for script, *words in commands:
        assert script in ("-c", "-m") or (ROOT / script).is_file(), script
        if script.endswith("gpu_check.py"):
            checks.append(gpu.gpu_check.parse(words))
        if script == "train.py":
            trains.append(train_settings(words))
        for path, _, test in [word.partition("::") for word in words if word.startswith("tests/")]:
            assert f"def {test}" in (ROOT / path).read_text(), f"{path}::{test}"
    counts = {what: [check.what for check in checks].count(what) for what in gpu.gpu_check.CHECKS}
    assert counts == {"steps": 5, "compiled": 6, "profile": 2, "trust": 1}
    assert all(str(check.device) == "cuda" for check in checks)
    compiled = [check for check in checks if check.what == "compiled"]
    assert {check.siblings for check in compiled} == {len(compiled)}
    assert len({check.ready for check in compiled}) == len({check.until for check in compiled}) == 1
    # Their files in that folder count them.
    assert len({(check.variants, check.size, check.batch) for check in compiled}) == len(compiled)
    # The classic recipe, and four other modes.
    assert len(trains) == len({settings.name for settings in trains}) == 5
    assert trains[0].time_limit == "80s"


def test_the_script_that_downloads_wheels_can_be_read():
    subprocess.run(["bash", "-n", str(GPU / "wheels.sh")], check=True)
