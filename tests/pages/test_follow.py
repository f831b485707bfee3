"""python -m cyclegan monitor: the live page of runs from their files alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest
from filelock import FileLock
from PIL import Image
from support.pages import browser, wait_for, windows

from cyclegan.__main__ import main
from cyclegan.config.errors import UserError
from cyclegan.data.files.images import save_image
from cyclegan.pages.follow import followed_run
from cyclegan.pages.follow.follow import _show as show
from cyclegan.pages.follow.follow import environments
from cyclegan.pages.follow.followed_run import Watched
from cyclegan.pages.visdom.server.process import start_server
from cyclegan.runs.artifacts import HardImage, HardImages, Histogram
from cyclegan.runs.hard_example_files import write_hard_images
from cyclegan.runs.metrics_log import append_point, write_metrics
from cyclegan.runs.preview_files import preview_path

__all__ = ["browser"]

ROOT = Path(__file__).resolve().parents[2]


def values(level: float) -> dict[str, float]:
    return {"cycle_A": level, "D_A": 0.25, "error_A": 10 * level, "lr": 2e-4}


def make_run(folder: Path, steps: range, level: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "settings.yaml").write_text("dataroot: data\n")
    write_metrics(folder, [(step, values(level)) for step in steps])
    for step in steps[::5]:
        add_preview(folder, step)
    return folder


def add_preview(folder: Path, step: int) -> None:
    save_image(Image.new("RGB", (60, 40), (step % 256, 0, 0)), preview_path(folder, step))


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    make_run(tmp_path / "checkpoints" / "first", range(10, 210, 10), 1.0)
    make_run(tmp_path / "checkpoints" / "second", range(10, 410, 10), 2.0)
    return tmp_path / "checkpoints"


# What is asked for


@pytest.mark.parametrize("run", ["thirst", "/no/such/folder", "first/previews"])
def test_an_unknown_run_names_those_there_are(checkpoints, run):
    with pytest.raises(UserError, match="is no run.*first, second"):
        main(["monitor", "--checkpoints_dir", str(checkpoints), run])


def test_without_any_run_there_is_nothing_to_show(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="there is no run in"):
            main(["monitor", "--checkpoints_dir", str(folder)])


def test_no_page_is_opened_to_everybody_without_a_login(checkpoints):
    with pytest.raises(UserError, match=r"0\.0\.0\.0"):
        main(["monitor", "--checkpoints_dir", str(checkpoints), "--host", "0.0.0.0"])


def test_every_run_has_a_name_of_its_own_on_the_page():
    folders = [Path("a/run"), Path("b/run"), Path("a/compare"), Path("a/r+1"), Path("b/run-2")]
    assert environments(folders) == ["run", "run-2", "compare-2", "r_1", "run-2-2"]


# What the page of a run is told, without a server


class Page:
    """Takes the place of VisdomMonitor, and writes down what it is told."""

    made: list["Page"] = []

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.told: list[tuple[str, int]] = []
        Page.made.append(self)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self.told.append(("scalars", step))

    def show(self, step: int, exhibit: object) -> None:
        self.told.append((type(exhibit).__name__, step))


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Watched, Page]]:
    monkeypatch.setattr(followed_run, "VisdomMonitor", Page)
    monkeypatch.setattr(followed_run, "JUDGE_EVERY", 0.0)
    server: Any = SimpleNamespace(url="http://127.0.0.1:9", port=9)

    def make(folder: Path) -> tuple[Watched, Page]:
        run = Watched(folder, "run", server=server, env_dir=tmp_path, say=pytest.fail)
        return run, Page.made[-1]

    return make


def test_the_page_begins_with_the_history_and_what_the_files_tell(watch, checkpoints):
    folder = checkpoints / "first"
    images = (HardImage("a.png", 9.0, Image.new("RGB", (20, 20))),)
    write_hard_images(folder, 100, HardImages({"A": Histogram((1, 2), 0.0, 9.0)}, {"A": images}))
    run, page = watch(folder)
    assert [step for step, _ in page.options["history"]] == list(range(10, 210, 10))
    assert page.options["run_dir"] == folder
    assert page.options["control"] is None
    run.look()
    # Exhibits of earlier steps than the newest point would make the page forget that.
    assert page.told == [("Health", 200), ("HardImages", 200)]
    page.told.clear()
    run.look()
    assert page.told == []


def test_a_run_that_goes_on_is_followed_in_the_order_of_its_steps(watch, checkpoints):
    folder = checkpoints / "first"
    run, page = watch(folder)
    run.look()
    page.told.clear()
    for step in (210, 220, 230):
        append_point(folder, step, values(1.0))
        add_preview(folder, step) if step != 210 else None
    run.look()
    assert page.told[:5] == [
        *(("scalars", 210), ("scalars", 220), ("Preview", 220)),
        *(("scalars", 230), ("Preview", 230)),
    ]
    run.look()
    assert page.told[5:] == [("Health", 230)]


def test_a_run_that_went_back_is_told_from_there_on(watch, checkpoints):
    folder = checkpoints / "first"
    run, page = watch(folder)
    run.look()
    page.told.clear()
    write_metrics(folder, [(step, values(1.0)) for step in range(10, 160, 10)])
    run.look()
    assert page.told == []
    append_point(folder, 160, values(3.0))
    add_preview(folder, 160)
    run.look()
    assert page.told[:2] == [("scalars", 160), ("Preview", 160)]
    assert run.curves.copy()["cycle_A"].steps[-2:] == [150, 160]


def test_a_preview_that_is_half_copied_is_passed_over(watch, checkpoints):
    folder = checkpoints / "first"
    run, page = watch(folder)
    preview_path(folder, 230).write_bytes(b"\x89PNG half")
    run.look()
    assert not [told for told in page.told if told[0] == "Preview"]


def test_a_run_that_is_trained_now_can_be_controlled_until_it_ends(watch, checkpoints):
    folder = checkpoints / "first"
    with FileLock(folder / ".lock"):
        run, page = watch(folder)
        page.options["control"]("pause")
        assert (folder / "pause").exists()
        page.options["control"]("go_on")
        assert not (folder / "pause").exists()
    with pytest.raises(UserError, match="first has ended"):
        page.options["control"]("stop")
    assert not (folder / "stop").exists()


def test_a_run_without_anything_says_so(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(followed_run, "VisdomMonitor", Page)
    folders = [checkpoints / "first", checkpoints / "empty"]
    folders[1].mkdir()
    server: Any = SimpleNamespace(url="http://127.0.0.1:9", port=9, shown="", alive=False)
    said: list[str] = []
    show(folders, server, env_dir=tmp_path, say=said.append)
    told = [line for line in said if "nothing to show yet" in line]
    assert len(told) == 1
    assert told[0].startswith("empty: ")


# A real server


def traces(url: str, env: str, window: str) -> dict[str, list[int]]:
    found = windows(url, env).get(window)
    return {trace["name"]: trace["x"] for trace in found["content"]["data"]} if found else {}


class Command:
    """The command as a process of its own, which is stopped by Ctrl-C after the test."""

    def __init__(self, *words: str | Path, tmp: Path) -> None:
        self.tmp = tmp
        tmp.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cyclegan", "monitor", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp), "OMP_NUM_THREADS": "1"},
        )
        self.said: list[str] = []

    def url(self) -> str:
        """The address of the server, from the first page that is announced."""
        while not self.said or "/env/" not in self.said[-1]:
            line = self.process.stdout.readline()
            assert line, self.said
            self.said.append(line)
        return self.said[-1].split()[-1].split("/env/")[0]

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        self.said += self.process.communicate(timeout=30)[0].splitlines()
        return self.process.returncode


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    started: list[Command] = []

    def start(*words: str | Path) -> Command:
        started.append(Command(*words, tmp=tmp_path / f"tmp{len(started)}"))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate()


@pytest.mark.slow
def test_two_runs_have_a_page_each_and_one_together_until_ctrl_c(command, checkpoints):
    # A taken port, as by a training that has a page of its own.
    other = start_server(port=0, env_dir=checkpoints.parent / "other")
    try:
        running = command("--checkpoints_dir", checkpoints, "--port", other.port)
        url = running.url()
        assert running.said[0].startswith(f"port {other.port} is taken")
        second = wait_for(lambda: traces(url, "second", "cycle").get("cycle_A"))
        assert second == list(range(10, 410, 10))
        assert wait_for(lambda: traces(url, "first", "cycle"))["cycle_A"][-1] == 200
        wait_for(lambda: "cycle error" in json.dumps(windows(url, "first").get("health", "")))
        wait_for(lambda: windows(url, "second")["preview"]["type"] == "image_history")
        assert "controls" not in windows(url, "first")

        together = wait_for(lambda: traces(url, "compare", "cycle_A"))
        assert together == {"first": list(range(10, 210, 10)), "second": list(range(10, 410, 10))}
        assert "lr" in windows(url, "compare")

        # The run goes on.
        append_point(checkpoints / "first", 210, values(1.0))
        wait_for(lambda: traces(url, "first", "cycle").get("cycle_A", [0])[-1] == 210)
        wait_for(lambda: traces(url, "compare", "cycle_A")["first"][-1] == 210)
        assert windows(other.url, "first") == {}, "the other page is left alone"
    finally:
        other.stop()
    assert running.interrupt() == 130
    assert not [line for line in running.said if "rror" in line]
    with pytest.raises(OSError, match="refused"):
        urlopen(url, timeout=5)
    assert list(running.tmp.iterdir()) == [], "its own files are gone with it"


@pytest.mark.slow
def test_a_copied_run_is_shown_by_its_folder_and_left_as_it_is(command, checkpoints, tmp_path):
    copy = tmp_path / "from somebody"
    shutil.copytree(checkpoints / "second", copy)
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    for path in (*before, copy):
        path.chmod(0o555 if path.is_dir() else 0o444)
    running = command(copy, "--port", "8097")
    url = running.url()
    points = wait_for(lambda: traces(url, "from_somebody", "cycle").get("cycle_A"))
    assert points == list(range(10, 410, 10))
    wait_for(lambda: windows(url, "from_somebody")["preview"]["type"] == "image_history")
    assert windows(url, "compare") == {}
    running.process.send_signal(signal.SIGTERM)
    running.process.wait(30)
    assert running.process.returncode == 143
    assert list(running.tmp.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


@pytest.mark.slow
def test_where_its_server_ends_the_command_does_too(command, checkpoints):
    running = command("--checkpoints_dir", checkpoints, "first")
    running.url()
    listed = subprocess.run(
        ["ps", "--ppid", str(running.process.pid), "-o", "pid="], capture_output=True, text=True
    )
    os.kill(int(listed.stdout.split()[0]), signal.SIGKILL)
    said = running.process.communicate(timeout=60)[0]
    assert running.process.returncode == 2
    assert "error: the server of the page has ended" in said


@pytest.mark.slow
def test_a_run_that_is_trained_elsewhere_on_this_machine_obeys_the_page(
    command, checkpoints, browser
):
    folder = checkpoints / "second"
    with FileLock(folder / ".lock"):
        url = command("--checkpoints_dir", checkpoints, "first", "second").url()
        wait_for(lambda: "controls" in windows(url, "second"))
        page = browser.new_page(viewport={"width": 1300, "height": 2000})
        page.goto(f"{url}/env/second")
        page.get_by_text("pause", exact=True).first.click(timeout=60_000)
        wait_for((folder / "pause").exists)
        # Sooner than a person would, it counts as the second click of a double one.
        page.wait_for_timeout(1500)
        page.get_by_text("go on", exact=True).first.click(timeout=60_000)
        wait_for(lambda: not (folder / "pause").exists())
        page.close()
    assert "controls" not in windows(url, "first")
