"""Faults outside the program: images, drives, loader processes, the live page and the clock."""

import os
import shutil
import signal
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

from fault_run import SAVE_EVERY, STEPS, Bench, Fault, LeftOut, Outcome, Run, expect
from fault_stops import expect_equal

# Without a cache an image is read each time it is drawn.
_UNCACHED = "--cache=off"
# Slow enough for the page to appear.
_SLOWLY = "--cycle_A=10*fault_inside.Sleeps(seconds=0.15, first=1, count=0)"
_SERVER = "cyclegan.pages.visdom.server.process"


def image_breaks(bench: Bench, damage: Callable[[Path], object]) -> Outcome:
    with bench.run(_UNCACHED) as run:
        run.start()
        run.until_step(SAVE_EVERY)
        damage(run.data / "trainA" / "003.png")
        run.expect_exit(0)
        expect(run.output.count("003.png") == 1, "the image is not named once")
        return _complete(run)


def shard_cut_short(bench: Bench) -> Outcome:
    with bench.run(_UNCACHED) as run:
        shard = _packed(run.data / "trainA")
        run.start()
        run.until_step(SAVE_EVERY)
        os.truncate(shard, shard.stat().st_size // 2)
        run.expect_exit(0)
        expect("warning: skipped" in run.output, "the lost images are not reported")
        return _complete(run)


def _packed(folder: Path) -> Path:
    shard = folder.with_suffix(".tar")
    with tarfile.open(shard, "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    shutil.rmtree(folder)
    return shard


def _complete(run: Run) -> Outcome:
    expect(run.newest_valid_step() == STEPS, "the last step is not saved")
    expect(run.is_finite(), "the final weights are not finite")
    return Outcome()


def data_vanishes(bench: Bench) -> Outcome:
    with bench.run(_UNCACHED) as run:
        run.start()
        run.until_step(SAVE_EVERY + 1)
        away = run.data.with_name("away")
        run.data.rename(away)
        run.expect_exit(2)
        expect("check the disk" in run.errors, f"said: {run.errors}")
        expect(run.newest_valid_step() == run.reached, "the last step is not saved")
        away.rename(run.data)
        return expect_equal(bench, run, run.continue_to_end())


def loader_dies(bench: Bench, count: int) -> Outcome:
    with bench.run(_UNCACHED, "--num_threads=2") as run:
        run.start()
        run.until_step(SAVE_EVERY + 1)
        workers = run.children()
        if not workers:
            raise LeftOut("this system does not tell a process's children")
        for pid in workers[:count]:
            os.kill(pid, signal.SIGKILL)
        run.expect_exit(0)
        expect("a process that loads images died" in run.output, "it was not reported")
        return expect_equal(bench, run, Outcome())


def page_dies(bench: Bench, number: int) -> Outcome:
    with bench.run(_SLOWLY) as run:
        run.start("--monitor=visdom", f"--display_port={_free_port()}", armed=True)
        run.until_output("Visdom shows the run")
        servers = [pid for pid in run.children() if _SERVER in _command(pid)]
        if not servers:
            raise LeftOut("this system does not tell a process's children")
        for pid in servers:
            os.kill(pid, number)
        try:
            run.expect_exit(0)
        finally:
            for pid in (pid for pid in servers if _SERVER in _command(pid)):
                os.kill(pid, signal.SIGKILL)
        return expect_equal(bench, run, Outcome())


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clock_jumps(bench: Bench) -> Outcome:
    with bench.run("--cycle_A=10*fault_inside.ClockJumps(first=12, count=2)") as run:
        run.start("--time_limit=1h", armed=True)
        run.expect_exit(0)
        return expect_equal(bench, run, Outcome())


def drive_hiccups(bench: Bench, *options: str, packed: bool = False) -> Outcome:
    with bench.run("--cycle_A=10*fault_inside.DriveHiccups", *options) as run:
        if packed:
            _packed(run.data / "trainA")
        run.start(armed=True)
        run.expect_exit(0)
        expect("skipped" not in run.output, "images were skipped")
        return expect_equal(bench, run, Outcome())


FAULTS = (
    Fault(
        "image removed",
        "an image is deleted in mid-run (--cache off)",
        "reported once, replaced by its neighbour, the run continues",
        lambda bench: image_breaks(bench, Path.unlink),
    ),
    Fault(
        "image garbled",
        "an image holds garbage from mid-run on (--cache off)",
        "reported once, replaced by its neighbour, the run continues",
        lambda bench: image_breaks(bench, lambda path: path.write_bytes(b"\x89PNG gone")),
    ),
    Fault(
        "shard cut short",
        "a tar file of images is cut in half in mid-run",
        "lost images are reported, the run continues",
        shard_cut_short,
    ),
    Fault(
        "data vanish",
        "the whole data folder is moved away in mid-run (--cache off)",
        "status 2, one line, this step saved; with the data restored, final weights equal",
        data_vanishes,
    ),
    Fault(
        "loader dies",
        "SIGKILL for one of two loader processes",
        "reported, restarted, the run continues; final weights equal",
        lambda bench: loader_dies(bench, 1),
    ),
    Fault(
        "all loaders die",
        "SIGKILL for both loader processes",
        "reported, restarted, the run continues; final weights equal",
        lambda bench: loader_dies(bench, 2),
    ),
    Fault(
        "live page dies",
        "SIGKILL for the Visdom server",
        "the run continues; final weights equal",
        lambda bench: page_dies(bench, signal.SIGKILL),
    ),
    Fault(
        "live page hangs",
        "SIGSTOP for the Visdom server",
        "the run continues and ends; final weights equal",
        lambda bench: page_dies(bench, signal.SIGSTOP),
    ),
    Fault(
        "clock jumps",
        "the clock goes a day ahead, then two days back, under --time_limit 1h",
        "the run continues; final weights equal",
        clock_jumps,
    ),
    Fault(
        "drive hiccups",
        "2 of 7 opens of images fail (EIO), and 1 of 7 reads (ESTALE) (--cache off)",
        "no image is skipped; final weights equal",
        lambda bench: drive_hiccups(bench, _UNCACHED),
    ),
    Fault(
        "drive hiccups for loaders",
        "the same in two loader processes",
        "no image is skipped; final weights equal",
        lambda bench: drive_hiccups(bench, _UNCACHED, "--num_threads=2"),
    ),
    Fault(
        "drive hiccups at the start",
        "the same while all images are decoded",
        "no image is skipped; final weights equal",
        lambda bench: drive_hiccups(bench, "--cache=ram"),
    ),
)
