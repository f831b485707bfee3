"""The run's page on a Visdom server: what is sent, and when."""

import io
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import urlopen

import pytest
from PIL import Image
from support.pages import (
    LOSSES,
    OTHERS,
    captions,
    monitor,
    picture,
    points,
    post,
    running,
    titles,
    wait_for,
    windows,
)

from cyclegan.monitor import Monitor
from cyclegan.monitor.health.curves import GROUPS
from cyclegan.pages.visdom import monitor as live
from cyclegan.pages.visdom.monitor import VisdomMonitor
from cyclegan.pages.visdom.server_location import OwnServer
from cyclegan.runs.artifacts import Health, Preview

__all__ = ["monitor", "running"]


def test_it_is_a_monitor(monitor: Callable[..., VisdomMonitor]) -> None:
    each: Monitor = monitor()
    each.close()


def test_it_attaches_to_the_server_that_is_there(
    monitor: Callable[..., VisdomMonitor], said: list[str], running: OwnServer, tmp_path: Path
) -> None:
    each = monitor(env="attached/twice+", port=running.port)
    each.scalars(1, LOSSES)
    page = f"{running.url}/env/attached_twice_"
    wait_for(lambda: points(running.url, "cycle", "cycle_A", "attached_twice_") == [(1, 1.0)])
    assert wait_for(lambda: said) == [f"Visdom shows the run: {page}"]
    each.close()
    assert running.alive, "a server that is not ours stays"
    assert not (tmp_path / "visdom").exists()


def test_every_curve_has_its_window_and_nan_is_skipped(
    monitor: Callable[..., VisdomMonitor], running: OwnServer
) -> None:
    each = monitor(env="windows", port=running.port, history=[(1, LOSSES), (2, LOSSES)])
    each.scalars(3, LOSSES | OTHERS | {"D_A": float("nan"), "cycle_A": float("inf")})
    each.show(3, Preview(picture(3000, 2000)))
    each.close()
    drawn = windows(running.url, "windows")
    names = {
        title: [
            trace["name"] for trace in window["content"]["data"] if trace["name"][-4:] != "each"
        ]
        for title, window in drawn.items()
        if window["type"] == "plot"
    }
    assert names == {
        "generators against discriminators": ["adversarial_A", "adversarial_B"],
        "discriminators": ["D_A", "D_B"],
        "cycle": ["cycle_A", "cycle_A.ms_ssim"],
        "content, contrast and others": ["content_B"],
        "identity": ["identity_A"],
        "learning rate": ["lr"],
        "images per second": ["images_per_second"],
    }
    for title, name, steps in (
        ("discriminators", "D_A", [1, 2]),
        ("discriminators", "D_B", [1, 2, 3]),
        ("cycle", "cycle_A", [1, 2]),
    ):
        assert [step for step, _ in points(running.url, title, name, "windows")] == steps
    assert drawn["preview"]["type"] == "image_history"
    assert drawn["preview"]["i"] == 0, "the preview comes first on the page"
    assert captions(running.url, "windows") == ["step 3"]


def test_the_windows_of_a_run_that_begins_keep_their_places(
    monitor: Callable[..., VisdomMonitor], running: OwnServer, tmp_path: Path
) -> None:
    each = monitor(
        env="order",
        port=running.port,
        run_dir=tmp_path,
        control=lambda name: None,
        expected=["psnr"],
    )
    each.scalars(0, {"pairs_A": 0.5})
    each.show(0, Preview(picture()))
    first = ["preview", "health", "generators against discriminators", "discriminators"]
    wait_for(lambda: titles(running.url, "order") == [*first, "controls"])
    each.scalars(1, LOSSES | OTHERS)
    wait_for(lambda: len(titles(running.url, "order")) > 10)
    each.scalars(2, {"swd": 9.0, "psnr": 20.0})
    each.show(2, Health(("fine",), ()))
    wait_for(lambda: "sliced Wasserstein distance to real B" in titles(running.url, "order"))
    each.close()
    drawn = titles(running.url, "order")
    assert drawn[:5] == [*first, "controls"]
    known = [title for title in GROUPS if title in drawn]
    unforeseen = "sliced Wasserstein distance to real B"
    in_order = [title for title in drawn if title in GROUPS]
    assert in_order == [title for title in known if title != unforeseen] + [unforeseen]
    assert "PSNR to real B, dB" in known, "it was expected"


def test_a_run_that_begins_anew_leaves_nothing_of_its_predecessor(
    monitor: Callable[..., VisdomMonitor], running: OwnServer
) -> None:
    first = monitor(env="again", port=running.port)
    first.scalars(1, LOSSES)
    wait_for(lambda: "identity" in windows(running.url, "again"))
    first.close()
    second = monitor(env="again", port=running.port)
    second.scalars(1, {"D_A": 0.5})
    wait_for(lambda: titles(running.url, "again") == ["preview", "health", "discriminators"])


def test_a_run_that_goes_on_takes_its_windows_over(
    monitor: Callable[..., VisdomMonitor], running: OwnServer, tmp_path: Path
) -> None:
    (tmp_path / "previews").mkdir()
    for step in (0, 400):
        picture().save(tmp_path / "previews" / f"step_{step:08d}.png")
    first = monitor(env="on", port=running.port, run_dir=tmp_path)
    first.scalars(401, LOSSES)
    wait_for(lambda: captions(running.url, "on") == ["step 0", "step 400"])
    first.close()
    before = titles(running.url, "on")
    (tmp_path / "previews" / "step_00000800.png").write_bytes(b"no picture")
    second = monitor(env="on", port=running.port, run_dir=tmp_path, history=[(401, LOSSES)])
    second.scalars(410, LOSSES)
    second.show(500, Preview(picture()))
    wait_for(lambda: captions(running.url, "on") == ["step 0", "step 400", "step 500"])
    assert titles(running.url, "on") == before
    assert [step for step, _ in points(running.url, "cycle", "cycle_A", "on")] == [401, 410]


def test_a_run_that_goes_back_takes_everything_later_off_the_page(
    monitor: Callable[..., VisdomMonitor], running: OwnServer
) -> None:
    each = monitor(env="back", port=running.port)
    for step in (0, 100, 200, 300):
        each.scalars(step, LOSSES | {"swd": 1.0})
        each.show(step, Preview(picture()))
        wait_for(lambda: captions(running.url, "back")[-1:] == [f"step {step}"])
    each.scalars(150, LOSSES)
    each.show(150, Preview(picture()))
    wait_for(lambda: captions(running.url, "back") == ["step 0", "step 100", "step 150"])
    title = "sliced Wasserstein distance to real B"
    assert [step for step, _ in points(running.url, "cycle", "cycle_A", "back")] == [0, 100, 150]
    assert [step for step, _ in points(running.url, title, "swd", "back")] == [0, 100]


def test_our_server_keeps_the_pictures_of_the_slider_and_no_others(
    monitor: Callable[..., VisdomMonitor], running: OwnServer
) -> None:
    each = monitor(env="übung", port=running.port)
    for step in (0, 100):
        each.show(step, Preview(picture(40 + step)))
        wait_for(lambda step=step: captions(running.url, "übung")[-1:] == [f"step {step}"])
    window = windows(running.url, "übung")["preview"]
    sources = [urljoin(f"{running.url}/env/x", frame["src"]) for frame in window["content"]]
    sizes = [
        Image.open(io.BytesIO(urlopen(source).read())).size for source in dict.fromkeys(sources)
    ]
    assert sizes == [(40, 200), (140, 200)]
    each.show(0, Preview(picture(50)))
    wait_for(lambda: captions(running.url, "übung") == ["step 0"])
    for source in (sources[-1], f"{running.url}/frame/nobody/0123.jpg"):
        with pytest.raises(HTTPError, match="404"):
            urlopen(source)


@pytest.mark.parametrize("data", [b"<script>", b"\xff\xd8" + bytes(500_000)])
def test_our_server_keeps_nothing_but_small_pictures(running: OwnServer, data: bytes) -> None:
    message = {"eid": "run", "data": b64encode(data).decode()}
    with pytest.raises(HTTPError, match="413"):
        post(running.url, "frame", message)


def test_our_server_keeps_a_bounded_number_of_pictures(running: OwnServer) -> None:
    def keep(index: int) -> None:
        data = b"\xff\xd8" + index.to_bytes(2, "big")
        message = {"eid": "many", "data": b64encode(data).decode()}
        post(running.url, "frame", message)

    for index in range(300):
        keep(index)
    with pytest.raises(HTTPError, match="413"):
        keep(300)


def test_a_server_of_visdom_s_own_shows_the_newest_picture(
    monitor: Callable[..., VisdomMonitor], tmp_path: Path
) -> None:
    program = (
        "import sys; sys.modules |= {'torch': None, 'openTSNE': None}\n"
        "from visdom.server import app\n"
        "from tornado.ioloop import IOLoop\n"
        "served = app.Application(env_path=sys.argv[1]).listen(0, '127.0.0.1')\n"
        "print(next(iter(served._sockets.values())).getsockname()[1], flush=True)\n"
        "IOLoop.current().start()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        each = monitor(port=port, run_dir=tmp_path, control=lambda name: None)
        for step in (0, 100, 50):
            each.show(step, Preview(picture()))
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda step=step: captions(url) == [f"step {step}"])
        assert windows(url)["preview"]["content"][0]["src"].startswith("data:image/jpeg;base64,")
        assert len(windows(url)["preview"]["content"]) == 1
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


def test_a_report_and_a_preview_of_one_step_are_told_together(
    monitor: Callable[..., VisdomMonitor], running: OwnServer
) -> None:
    each = monitor(env="both", port=running.port)
    each.scalars(400, LOSSES)
    each.show(400, Preview(picture()))
    each.scalars(400, {"pairs_A": 0.5})
    wait_for(lambda: points(running.url, "share of pairs that D tells apart", "pairs_A", "both"))
    each.close()
    assert points(running.url, "cycle", "cycle_A", "both") == [(400, 1.0)]
    assert points(running.url, "share of pairs that D tells apart", "pairs_A", "both") == [
        (400, 0.5)
    ]
    assert captions(running.url, "both") == ["step 400"]


def test_only_what_has_changed_is_sent(
    monitor: Callable[..., VisdomMonitor], running: OwnServer
) -> None:
    each = monitor(env="little", port=running.port)
    each.scalars(1, LOSSES | {"pairs_A": 0.5})
    each.show(1, Preview(picture()))
    pairs = "share of pairs that D tells apart"
    wait_for(lambda: captions(running.url, "little") and pairs in windows(running.url, "little"))
    # The height of the health beside a preview follows in the next update.
    each.scalars(2, {"pairs_A": 0.5})
    wait_for(lambda: len(points(running.url, pairs, "pairs_A", "little")) == 2)
    before = windows(running.url, "little")
    each.scalars(3, {"D_A": 0.5})
    wait_for(lambda: len(points(running.url, "discriminators", "D_A", "little")) == 2)
    after = windows(running.url, "little")
    changed = [name for name in after if after[name]["contentID"] != before[name]["contentID"]]
    assert changed == ["discriminators"]


def test_updates_compute_for_a_small_share_of_the_time(
    monitor: Callable[..., VisdomMonitor], running: OwnServer
) -> None:
    history = [(step, LOSSES | OTHERS) for step in range(1000)]
    each = monitor(env="cheap", port=running.port, history=history)
    wait_for(lambda: points(running.url, "cycle", "cycle_A", "cheap"))
    wait_for(lambda: each._pause > live.INTERVAL)
    began, computed = time.monotonic(), time.process_time()
    step = 1000
    while time.monotonic() - began < 2.5:
        each.scalars(step, LOSSES | OTHERS)
        step += 1
        time.sleep(0.05)
    assert time.process_time() - computed < 0.05 * (time.monotonic() - began)


def test_closing_sends_the_last_point(
    monitor: Callable[..., VisdomMonitor], running: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "INTERVAL", 60.0)
    each = monitor(env="last", port=running.port)
    each.scalars(1, LOSSES)
    wait_for(lambda: points(running.url, "cycle", "cycle_A", "last"))
    each.scalars(2, LOSSES)
    began = time.monotonic()
    each.close()
    assert time.monotonic() - began < 3.5
    assert [step for step, _ in points(running.url, "cycle", "cycle_A", "last")] == [1, 2]


def test_a_message_computes_for_milliseconds(running: OwnServer) -> None:
    post(running.url, "env_state", {})
    computed = time.process_time()
    for _ in range(50):
        post(running.url, "env_state", {})
    assert time.process_time() - computed < 0.4
