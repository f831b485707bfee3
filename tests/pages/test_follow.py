"""python -m cyclegan monitor: the live pages of runs from their files alone."""

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
from cyclegan.pages.follow.follow_runs import _follow, environments
from cyclegan.pages.follow.followed_run import FollowedRun
from cyclegan.pages.visdom.server_location import start_server
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


# Arguments


@pytest.mark.parametrize("run", ["thirst", "/no/such/folder", "first/previews"])
def test_the_message_for_an_unknown_run_names_the_known_ones(checkpoints, run):
    with pytest.raises(UserError, match="is neither a run.*first, second"):
        main(["monitor", "--checkpoints_dir", str(checkpoints), run])


def test_a_folder_without_runs_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="there is no run in"):
            main(["monitor", "--checkpoints_dir", str(folder)])


def test_a_public_page_needs_a_login(checkpoints):
    with pytest.raises(UserError, match=r"0\.0\.0\.0"):
        main(["monitor", "--checkpoints_dir", str(checkpoints), "--host", "0.0.0.0"])


def test_every_run_has_a_name_of_its_own_on_the_page():
    folders = [Path("a/run"), Path("b/run"), Path("a/compare"), Path("a/r+1"), Path("b/run-2")]
    assert environments(folders) == ["run", "run-2", "compare-2", "r_1", "run-2-2"]


# Messages to a page, without a server


class FakePage:
    """Replaces VisdomMonitor, and records what it receives."""

    made: list["FakePage"] = []

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.received: list[tuple[str, int]] = []
        FakePage.made.append(self)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self.received.append(("scalars", step))

    def show(self, step: int, artifact: object) -> None:
        self.received.append((type(artifact).__name__, step))


@pytest.fixture
def follow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[Path], tuple[FollowedRun, FakePage]]:
    monkeypatch.setattr(followed_run, "VisdomMonitor", FakePage)
    monkeypatch.setattr(followed_run, "HEALTH_INTERVAL", 0.0)
    server: Any = SimpleNamespace(url="http://127.0.0.1:9", port=9)

    def make(folder: Path) -> tuple[FollowedRun, FakePage]:
        return FollowedRun(folder, "run", server=server, env_dir=tmp_path), FakePage.made[-1]

    return make


def test_the_page_begins_with_the_history_health_and_hard_images(follow, checkpoints):
    folder = checkpoints / "first"
    images = (HardImage("a.png", 9.0, Image.new("RGB", (20, 20))),)
    write_hard_images(folder, 100, HardImages({"A": Histogram((1, 2), 0.0, 9.0)}, {"A": images}))
    run, page = follow(folder)
    assert [step for step, _ in page.options["history"]] == list(range(10, 210, 10))
    assert page.options["run_dir"] == folder
    assert page.options["control"] is None
    run.update()
    # With an earlier step than that of the newest point, the page would forget that point.
    assert page.received == [("Health", 200), ("HardImages", 200)]
    page.received.clear()
    run.update()
    assert page.received == []


def test_a_run_in_training_is_followed_in_the_order_of_its_steps(follow, checkpoints):
    folder = checkpoints / "first"
    run, page = follow(folder)
    run.update()
    page.received.clear()
    for step in (210, 220, 230):
        append_point(folder, step, values(1.0))
        add_preview(folder, step) if step != 210 else None
    run.update()
    assert page.received[:5] == [
        *(("scalars", 210), ("scalars", 220), ("Preview", 220)),
        *(("scalars", 230), ("Preview", 230)),
    ]
    run.update()
    assert page.received[5:] == [("Health", 230)]


def test_points_after_a_rollback_are_sent_again(follow, checkpoints):
    folder = checkpoints / "first"
    run, page = follow(folder)
    run.update()
    page.received.clear()
    write_metrics(folder, [(step, values(1.0)) for step in range(10, 160, 10)])
    run.update()
    assert page.received == []
    append_point(folder, 160, values(3.0))
    add_preview(folder, 160)
    run.update()
    assert page.received[:2] == [("scalars", 160), ("Preview", 160)]
    assert run.curves.copy()["cycle_A"].steps[-2:] == [150, 160]


def test_a_half_copied_preview_is_skipped(follow, checkpoints):
    folder = checkpoints / "first"
    run, page = follow(folder)
    preview_path(folder, 230).write_bytes(b"\x89PNG half")
    run.update()
    assert not [each for each in page.received if each[0] == "Preview"]


def test_a_run_in_training_can_be_controlled_until_it_ends(follow, checkpoints):
    folder = checkpoints / "first"
    with FileLock(folder / ".lock"):
        run, page = follow(folder)
        page.options["control"]("pause")
        assert (folder / "pause").exists()
        page.options["control"]("go_on")
        assert not (folder / "pause").exists()
    with pytest.raises(UserError, match="first has ended"):
        page.options["control"]("stop")
    assert not (folder / "stop").exists()


def test_an_empty_run_is_reported(checkpoints, tmp_path, monkeypatch, said):
    monkeypatch.setattr(followed_run, "VisdomMonitor", FakePage)
    folders = [checkpoints / "first", checkpoints / "empty"]
    folders[1].mkdir()
    server: Any = SimpleNamespace(url="http://127.0.0.1:9", port=9, shown="", alive=False)
    _follow(folders, server, env_dir=tmp_path)
    (line,) = (line for line in said if "nothing to show yet" in line)
    assert line.startswith("empty: ")


# A real server


def traces(url: str, env: str, window: str) -> dict[str, list[int]]:
    found = windows(url, env).get(window)
    return {trace["name"]: trace["x"] for trace in found["content"]["data"]} if found else {}


class Command:
    """The command in its own process."""

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

    def end(self, number: int) -> int:
        """Sends a signal and returns the exit status."""
        self.process.send_signal(number)
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
def test_a_run_and_a_read_only_copy_have_a_page_each_and_a_common_one(
    command, checkpoints, tmp_path
):
    copy = shutil.copytree(checkpoints / "second", tmp_path / "from somebody")
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    for path in (*before, copy):
        path.chmod(0o555 if path.is_dir() else 0o444)
    # A training may have taken the port for its own page.
    other = start_server(port=0, env_dir=checkpoints.parent / "other")
    try:
        running = command("--checkpoints_dir", checkpoints, "first", copy, "--port", other.port)
        url = running.url()
        assert running.said[0].startswith(f"port {other.port} is taken")
        second = wait_for(lambda: traces(url, "from_somebody", "cycle").get("cycle_A"))
        assert second == list(range(10, 410, 10))
        assert wait_for(lambda: traces(url, "first", "cycle"))["cycle_A"][-1] == 200
        wait_for(lambda: "cycle error" in json.dumps(windows(url, "first").get("health", "")))
        wait_for(lambda: windows(url, "from_somebody")["preview"]["type"] == "image_history")
        assert "controls" not in windows(url, "first")

        common = wait_for(lambda: traces(url, "compare", "cycle_A"))
        assert common == {"first": list(range(10, 210, 10)), "from_somebody": second}
        assert "lr" in windows(url, "compare")

        append_point(checkpoints / "first", 210, values(1.0))
        wait_for(lambda: traces(url, "first", "cycle").get("cycle_A", [0])[-1] == 210)
        wait_for(lambda: traces(url, "compare", "cycle_A")["first"][-1] == 210)
        assert windows(other.url, "first") == {}, "the other server gets nothing"
    finally:
        other.stop()
    assert running.end(signal.SIGINT) == 130
    assert not [line for line in running.said if "rror" in line]
    with pytest.raises(OSError, match="refused"):
        urlopen(url, timeout=5)
    assert list(running.tmp.iterdir()) == [], "it deletes its own files"
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


@pytest.mark.slow
def test_the_command_ends_with_its_server(command, checkpoints):
    running = command("--checkpoints_dir", checkpoints, "first")
    url = running.url()
    wait_for(lambda: traces(url, "first", "cycle"))
    assert windows(url, "compare") == {}
    listed = subprocess.run(
        ["ps", "--ppid", str(running.process.pid), "-o", "pid="], capture_output=True, text=True
    )
    os.kill(int(listed.stdout.split()[0]), signal.SIGKILL)
    said = running.process.communicate(timeout=60)[0]
    assert running.process.returncode == 2
    assert "error: the server of the page has ended" in said


@pytest.mark.slow
def test_a_run_trained_by_another_process_obeys_the_page(command, checkpoints, browser):
    folder = checkpoints / "second"
    with FileLock(folder / ".lock"):
        running = command("--checkpoints_dir", checkpoints, "first", "second")
        url = running.url()
        wait_for(lambda: "controls" in windows(url, "second"))
        page = browser.new_page(viewport={"width": 1300, "height": 2000})
        page.goto(f"{url}/env/second")
        page.get_by_text("pause", exact=True).first.click(timeout=60_000)
        wait_for((folder / "pause").exists)
        # An earlier click would count as a double click.
        page.wait_for_timeout(1500)
        page.get_by_text("go on", exact=True).first.click(timeout=60_000)
        wait_for(lambda: not (folder / "pause").exists())
        page.close()
    assert "controls" not in windows(url, "first")
    assert running.end(signal.SIGTERM) == 143
    assert list(running.tmp.iterdir()) == [], "it deletes its own files"
