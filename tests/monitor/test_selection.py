"""Monitors besides the page and the files: TensorBoard, Weights & Biases, one of one's own."""

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
from cyclegan.monitor.console import Console
from cyclegan.monitor.selection import Careful, build_monitors, check_monitors
from cyclegan.runs.artifacts import (
    Alarm,
    HardImage,
    HardImages,
    Health,
    Histogram,
    Histograms,
    Preview,
)

ALARM = Alarm("collapse", "G_AB", "diversity 0.02", "all images become one", "--cycle 20*l1")
SPREAD = Histogram((1, 0, 3), 0.0, 3.0)
EXHIBITS = {
    "preview": Preview(Image.new("RGB", (12, 8), "red")),
    "health": Health(("D_B tells 78 % apart",), (ALARM,)),
    "histograms": Histograms({"weights/G_AB/0": SPREAD}),
    "hard images": HardImages(
        {"A": SPREAD}, {"A": (HardImage("a/1.png", 12.5, Image.new("RGB", (4, 4))),)}
    ),
}

OWN = """
class Mine:
    def __init__(self, run_dir, *, lines=10):
        self.file = run_dir / "mine.txt"
        self.lines = lines
    def scalars(self, step, values):
        self.tell(f"scalars {step} {sorted(values)}")
    def show(self, step, exhibit):
        self.tell(f"{type(exhibit).__name__} {step}")
    def close(self):
        self.tell(f"close {self.lines}")
    def tell(self, line):
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


def settings(tmp_path: Path, monitor: str) -> TrainSettings:
    return check(TrainSettings, {"monitor": monitor, "checkpoints_dir": tmp_path, "name": "run"})


def monitors(tmp_path: Path, monitor: str):
    (tmp_path / "run" / "previews").mkdir(parents=True, exist_ok=True)
    console = Console(total_steps=10, steps_per_epoch=5, first_step=0)
    return build_monitors(settings(tmp_path, monitor), console)


def tell_all(told) -> None:
    told.scalars(1, {"cycle_A": 1.5, "D_A": math.nan})
    for exhibit in EXHIBITS.values():
        told.show(1, exhibit)
    told.scalars(2, {"cycle_A": 1.25})
    told.close()


@pytest.mark.slow
def test_tensorboard_gets_scalars_images_histograms_and_text(tmp_path):
    tell_all(monitors(tmp_path, "tensorboard"))
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
def test_tensorboard_forgets_what_a_run_that_went_back_tells_again(tmp_path):
    told = monitors(tmp_path, "tensorboard")
    for step in (1, 2, 3, 2, 3):
        told.scalars(step, {"cycle_A": float(step)})
    told.close()
    assert [event.step for event in read(tmp_path).Scalars("cycle/cycle_A")] == [1, 2, 3]


def read(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    return events.Reload()


@pytest.mark.slow
def test_wandb_writes_offline_where_nobody_is_logged_in(tmp_path, monkeypatch, capsys):
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    tell_all(monitors(tmp_path, "wandb"))
    (kept,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    (file,) = kept.glob("run-*.wandb")
    # Its own process writes a little later.
    deadline = time.monotonic() + 30
    words = (b"cycle_A", b"preview", b"weights/G_AB/0", b"hard_images_A")
    while not all(word in file.read_bytes() for word in words):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    said = capsys.readouterr().out
    assert "nobody is logged in" in said
    assert "told no more" not in said


def test_one_of_ones_own_is_told_everything(tmp_path, own):
    tell_all(monitors(tmp_path, "their_monitors.Mine(lines=3),files"))
    assert (tmp_path / "run" / "mine.txt").read_text().splitlines() == [
        "scalars 1 ['D_A', 'cycle_A']",
        *(f"{type(exhibit).__name__} 1" for exhibit in EXHIBITS.values()),
        "scalars 2 ['cycle_A']",
        "close 3",
    ]


def test_the_example_of_the_document_sends_mail_for_an_alarm(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "watching.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "their_mail.py").write_text("SENT = []\nsend = lambda *m: SENT.append(m)\n" + code)
    monkeypatch.syspath_prepend(str(tmp_path))
    tell_all(monitors(tmp_path, "their_mail.Mail(to='a@example.org')"))
    sent = sys.modules.pop("their_mail").SENT
    assert sent == [("a@example.org", "step 1: collapse: diversity 0.02")]


def test_one_that_fails_costs_a_line_and_is_told_no_more(tmp_path, own, capsys):
    tell_all(monitors(tmp_path, "their_monitors.Fails"))
    assert not (tmp_path / "run" / "mine.txt").exists()
    said = capsys.readouterr().out
    assert said.count("warning: --monitor their_monitors.Fails: ") == 1
    assert "no room" in said


def test_one_that_fails_at_the_end_costs_a_line():
    said: list[str] = []

    class Stubborn:
        def close(self):
            raise OSError("no disk")

    Careful(Stubborn(), name="stubborn", say=said.append).close()
    assert len(said) == 1


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("nor does it say why")


@pytest.mark.parametrize("error", [SystemExit(0), Mute(), ValueError("red\x1b[31m")])
def test_whatever_it_raises_costs_a_line(error):
    class Leaves:
        def scalars(self, step, values):
            raise error

    said: list[str] = []
    careful = Careful(Leaves(), name="leaves", say=said.append)
    careful.scalars(1, {})
    careful.scalars(2, {})
    assert len(said) == 1
    assert said[0].isprintable()


def test_what_it_does_to_a_picture_is_seen_by_nobody_else():
    class Mails:
        def show(self, step, exhibit):
            exhibit.image.thumbnail((4, 4))

    said: list[str] = []
    preview = Preview(Image.new("RGB", (12, 8), "red"))
    Careful(Mails(), name="mails", say=said.append).show(1, preview)
    assert (preview.image.size, said) == ((12, 8), [])


@pytest.mark.parametrize(
    ("monitor", "words"),
    [
        ("their_monitors.Half", "has no show and no close"),
        ("their_monitors.Nobody", "Nobody"),
        ("not_there.Mine", "no module not_there"),
    ],
)
def test_what_cannot_be_told_is_refused_before_the_run(tmp_path, own, monitor, words):
    with pytest.raises(UserError, match=words):
        check_monitors(settings(tmp_path, monitor))


def test_a_package_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("cyclegan.monitor.selection.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        check_monitors(settings(tmp_path, "visdom,tensorboard"))


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
def test_a_name_that_nobody_knows_is_one_line(monitor, words, tmp_path):
    with pytest.raises(UserError, match=words) as error:
        settings(tmp_path, monitor)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("monitor", ["none", "files"])
def test_without_others_there_are_the_console_and_the_files(tmp_path, monitor):
    assert len(monitors(tmp_path, monitor).monitors) == 2
