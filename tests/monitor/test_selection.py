"""The monitors that --monitor names: TensorBoard, Weights & Biases, one of the user's own."""

import math
import re
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from support.running import ROOT

from cyclegan.config.errors import UserError
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.monitor import (
    Alarm,
    HardImage,
    HardImages,
    Health,
    Histogram,
    Histograms,
    Preview,
)
from cyclegan.monitor.selection import FailSafeMonitor, build_monitors, check_monitors

ALARM = Alarm("collapse", "G_AB", "diversity 0.02", "all images become one", "--cycle 20*l1")
SPREAD = Histogram((1, 0, 3), 0.0, 3.0)
ARTIFACTS = {
    "preview": Preview(Image.new("RGB", (12, 8), "red")),
    "health": Health(("D_B tells 78 % apart",), (ALARM,)),
    "histograms": Histograms({"weights/G_AB/0": SPREAD}),
    "hard images": HardImages(
        {"A": SPREAD}, {"A": (HardImage("a/1.png", 12.5, Image.new("RGB", (4, 4))),)}
    ),
}

OWN = """
class Mine:
    def __init__(self, run_dir, settings, first_step, say, *, lines=10):
        self.file = run_dir / "mine.txt"
        self.lines = lines
        say(f"mine: {settings} from {first_step}")
    def scalars(self, step, values):
        self.write(f"scalars {step} {sorted(values)}")
    def show(self, step, artifact):
        self.write(f"{type(artifact).__name__} {step}")
    def close(self):
        self.write(f"close {self.lines}")
    def write(self, line):
        with self.file.open("a") as file:
            file.write(line + "\\n")

class Fails(Mine):
    def scalars(self, step, values):
        raise RuntimeError("no\\nroom")

class Half:
    def scalars(self, step, values):
        pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "their_monitors.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("their_monitors", None)


def terms(monitor: str):
    return check(TrainSettings, {"monitor": monitor}).monitor


def monitors(run_dir: Path, monitor: str, *, say=print):
    offered = {"run_dir": run_dir, "settings": "all settings", "first_step": 0, "say": say}
    return build_monitors(terms(monitor), [], page_options={}, offered=offered)


def send_all(told) -> None:
    told.scalars(1, {"cycle_A": 1.5, "D_A": math.nan})
    for artifact in ARTIFACTS.values():
        told.show(1, artifact)
    told.scalars(2, {"cycle_A": 1.25})
    told.close()


@pytest.mark.slow
def test_tensorboard_gets_scalars_images_histograms_and_text(tmp_path):
    send_all(monitors(tmp_path, "tensorboard"))
    events = read(tmp_path)
    assert [(each.step, each.value) for each in events.Scalars("cycle/cycle_A")] == [
        (1, 1.5),
        (2, 1.25),
    ]
    assert events.Tags()["scalars"] == ["cycle/cycle_A"]
    (preview,) = events.Images("preview")
    assert (preview.step, preview.width, preview.height) == (1, 12, 8)
    (spread,) = events.Histograms("weights/G_AB/0")
    assert spread.histogram_value.bucket == [1.0, 0.0, 3.0]
    assert spread.histogram_value.bucket_limit == [1.0, 2.0, 3.0]
    (health,) = events.Tensors("health/text_summary")
    assert b"collapse" in health.tensor_proto.string_val[0]
    (hard,) = events.Tensors("hard_images/A/text_summary")
    assert b"a/1.png" in hard.tensor_proto.string_val[0]


@pytest.mark.slow
def test_tensorboard_drops_the_later_points_after_a_rollback(tmp_path):
    told = monitors(tmp_path, "tensorboard")
    for step in (1, 2, 3, 2, 3):
        told.scalars(step, {"cycle_A": float(step)})
    told.close()
    assert [event.step for event in read(tmp_path).Scalars("cycle/cycle_A")] == [1, 2, 3]


def read(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    return events.Reload()


@pytest.mark.slow
def test_wandb_writes_offline_without_a_login(tmp_path, monkeypatch, said):
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    send_all(monitors(tmp_path, "wandb"))
    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    # wandb's own process writes a little later.
    deadline = time.monotonic() + 30
    words = (b"cycle_A", b"preview", b"weights/G_AB/0", b"hard_images_A")
    while not all(word in file.read_bytes() for word in words):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(said) == 1
    assert "nobody is logged in" in said[0]


def test_a_monitor_of_the_users_own_receives_everything(tmp_path, own):
    lines: list[str] = []
    send_all(monitors(tmp_path, "their_monitors.Mine(lines=3),files", say=lines.append))
    assert lines == ["mine: all settings from 0"]
    assert (tmp_path / "mine.txt").read_text().splitlines() == [
        "scalars 1 ['D_A', 'cycle_A']",
        *(f"{type(artifact).__name__} 1" for artifact in ARTIFACTS.values()),
        "scalars 2 ['cycle_A']",
        "close 3",
    ]


def test_the_example_of_the_document_sends_mail_for_an_alarm(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "watching.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "their_mail.py").write_text("SENT = []\nsend = lambda *m: SENT.append(m)\n" + code)
    monkeypatch.syspath_prepend(str(tmp_path))
    send_all(monitors(tmp_path, "their_mail.Mail(to='a@example.org')"))
    sent = sys.modules.pop("their_mail").SENT
    assert sent == [("a@example.org", "step 1: collapse: diversity 0.02")]


def test_a_failing_monitor_costs_a_line_and_is_called_no_more(tmp_path, own, said):
    send_all(monitors(tmp_path, "their_monitors.Fails"))
    assert not (tmp_path / "mine.txt").exists()
    assert len(said) == 1
    assert said[0].startswith("warning: --monitor their_monitors.Fails: ")
    assert "no room" in said[0]


def test_a_failure_at_the_end_costs_a_line(said):
    class Stubborn:
        def close(self):
            raise OSError("no disk")

    FailSafeMonitor(Stubborn(), name="stubborn").close()
    assert len(said) == 1


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("nor does it say why")


@pytest.mark.parametrize("error", [SystemExit(0), Mute(), ValueError("red\x1b[31m")])
def test_any_exception_costs_a_line(error, said):
    class Leaves:
        def scalars(self, step, values):
            raise error

    monitor = FailSafeMonitor(Leaves(), name="leaves")
    monitor.scalars(1, {})
    monitor.scalars(2, {})
    assert len(said) == 1
    assert said[0].isprintable()


def test_a_monitor_that_changes_a_picture_changes_its_own_copy(said):
    class Mails:
        def show(self, step, artifact):
            artifact.image.thumbnail((4, 4))

    preview = Preview(Image.new("RGB", (12, 8), "red"))
    FailSafeMonitor(Mails(), name="mails").show(1, preview)
    assert (preview.image.size, said) == ((12, 8), [])


@pytest.mark.parametrize(
    ("monitor", "words"),
    [
        ("their_monitors.Half", "has no show and no close"),
        ("their_monitors.Nobody", "Nobody"),
        ("not_there.Mine", "no module not_there"),
    ],
)
def test_a_class_that_is_no_monitor_is_refused_before_the_run(own, monitor, words):
    with pytest.raises(UserError, match=words):
        check_monitors(terms(monitor), page_host="127.0.0.1")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("cyclegan.monitor.selection.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        check_monitors(terms("visdom,tensorboard"), page_host="127.0.0.1")


@pytest.mark.parametrize(
    ("monitor", "words"),
    [
        ("visdm", "visdm is no monitor"),
        ("", "nothing is no monitor"),
        ("none,files", "none stands alone"),
        ("files,files", "named twice"),
        ("visdom,,files", "nothing is no monitor"),
        ("mine.Mine(a=1", "is no monitor"),
    ],
)
def test_an_unknown_monitor_is_refused_in_one_line(monitor, words):
    with pytest.raises(UserError, match=words) as error:
        terms(monitor)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("monitor", ["none", "files"])
def test_the_words_none_and_files_name_no_other_monitor(tmp_path, monitor):
    assert monitors(tmp_path, monitor).monitors == []
