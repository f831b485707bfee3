"""Faults of a run's files: damaged, lost and left-over ones, and full disks."""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fault_run import SAVE_EVERY, STEPS, Bench, Fault, LeftOut, Outcome, Run, expect
from fault_stops import expect_equal


def damaged(bench: Bench, damage: Callable[[Run], object]) -> Outcome:
    """Damages files between the end of a run and its continuation."""
    with bench.killed_run() as run:
        damage(run)
        return expect_equal(bench, run, run.continue_to_end())


def _newest(change: Callable[[Path], object]) -> Callable[[Run], object]:
    return lambda run: change(run.states()[0])


def _both_newest(run: Run) -> None:
    for path in run.states()[:2]:
        _halve(path)


def _halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def _remains(run: Run) -> None:
    for name in ("state_00000020.pt.partial", "latest_net_G_A.pth.partial"):
        (run.folder / name).write_bytes(b"half a file")


def _metrics_garbled(run: Run) -> None:
    path = run.folder / "metrics.jsonl"
    path.write_bytes(b"\xff\xfe\0" + path.read_bytes()[:-20] + b'\n[1, 2]\n{"step": "x"}\n')


def _lock(run: Run) -> None:
    (run.folder / ".lock").write_text("4194304")


def _weights_lost(run: Run) -> None:
    for path in run.folder.glob("*_net_*"):
        path.unlink()


def no_state_left(bench: Bench) -> Outcome:
    """If no valid state is left, the damage is reported and no file is overwritten."""
    with bench.killed_run() as run:
        whole = {path: path.read_bytes() for path in run.states()}
        for path in whole:
            _halve(path)
        run.resume()
        run.expect_exit(2)
        expect("damaged" in run.errors, f"said: {run.errors}")
        expect(set(run.states()) == set(whole), "the damaged states are gone")
        for path, content in whole.items():
            path.write_bytes(content)
        return expect_equal(bench, run, run.continue_to_end())


def settings_damaged(bench: Bench, content: bytes) -> Outcome:
    """A run cannot continue without its settings."""
    with bench.killed_run() as run:
        path = run.folder / "settings.yaml"
        before, states = path.read_bytes(), run.states()
        path.write_bytes(content)
        run.resume()
        run.expect_exit(2)
        expect(path.read_bytes() == content, "the damaged settings were overwritten")
        expect(run.states() == states, "states were lost")
        path.write_bytes(before)
        return expect_equal(bench, run, run.continue_to_end())


@contextmanager
def _on_a_small_disk(bench: Bench, *options: str) -> Iterator[tuple[Run, Path]]:
    """A run on its own small disk, and the path of a file to fill it."""
    with bench.run(*options) as run:
        disk = run.place / "runs"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
        try:
            refused = subprocess.run(mount, capture_output=True).returncode
        except OSError:
            refused = 1
        if refused:
            raise LeftOut("mounting a small disk is not allowed here")
        try:
            yield run, disk / "filler"
        finally:
            run.end()
            subprocess.run(["umount", "-l", str(disk)], check=True)


def _fill(path: Path) -> None:
    """Fills the disk to the last byte."""
    with path.open("wb", buffering=0) as file:
        for size in (2**16, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue


def disk_full_for_a_while(bench: Bench) -> Outcome:
    with _on_a_small_disk(bench, "--keep=1") as (run, filler):
        run.start()
        run.until_step(SAVE_EVERY + 1)
        _fill(filler)
        run.until_output("could not be saved")
        filler.unlink()
        run.expect_exit(0)
        return expect_equal(bench, run, Outcome())


def disk_full_at_the_end(bench: Bench) -> Outcome:
    with _on_a_small_disk(bench, "--keep=1") as (run, filler):
        run.start()
        run.until_step(STEPS - SAVE_EVERY + 2)
        _fill(filler)
        run.expect_exit(2)
        expect("free space" in run.errors, f"said: {run.errors}")
        filler.unlink()
        return expect_equal(bench, run, run.continue_to_end())


def room_in_old_states(bench: Bench) -> Outcome:
    with _on_a_small_disk(bench) as (run, filler):
        run.start()
        run.until_step(STEPS - SAVE_EVERY + 2)
        _fill(filler)
        run.wait()
        expect(run.newest_valid_step() == STEPS, "the last step is not saved")
        filler.unlink()
        return expect_equal(bench, run, run.continue_to_end())


def quota_for_a_while(bench: Bench) -> Outcome:
    """Limits the size of files, which needs no disk to fill."""
    with bench.run() as run:
        run.start()
        run.until_step(SAVE_EVERY + 1)
        limits = resource.prlimit(run.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (2**16, limits[1]))
        run.until_output("could not be saved")
        resource.prlimit(run.pid, resource.RLIMIT_FSIZE, limits)
        run.expect_exit(0)
        return expect_equal(bench, run, Outcome())


_BEFORE = "continues from the state before and reports the damage; final weights equal"
_ANYWAY = "continues from the newest state; final weights equal"
_NAMED = "refused in one line, nothing overwritten; with the file restored, final weights equal"

FAULTS = (
    Fault(
        "state cut short",
        "the newest state is cut in half before the run continues",
        _BEFORE,
        lambda bench: damaged(bench, _newest(_halve)),
        short=True,
    ),
    Fault(
        "state's bit flipped",
        "one bit of the newest state is flipped",
        _BEFORE,
        lambda bench: damaged(bench, _newest(_flip_bit)),
    ),
    Fault(
        "state emptied",
        "the newest state is empty",
        _BEFORE,
        lambda bench: damaged(bench, _newest(_empty)),
    ),
    Fault(
        "state deleted",
        "the newest state is removed",
        _BEFORE,
        lambda bench: damaged(bench, _newest(Path.unlink)),
    ),
    Fault(
        "two states damaged",
        "the two newest states are cut in half",
        _BEFORE,
        lambda bench: damaged(bench, _both_newest),
    ),
    Fault("all states damaged", "every state is cut in half", _NAMED, no_state_left),
    Fault(
        "weights lost",
        "every *_net_* file is removed",
        _ANYWAY,
        lambda bench: damaged(bench, _weights_lost),
    ),
    Fault(
        "left-overs",
        "half-written *.partial files are in the folder",
        _ANYWAY,
        lambda bench: damaged(bench, _remains),
    ),
    Fault(
        "settings garbled",
        "settings.yaml holds bytes that are not text",
        _NAMED,
        lambda bench: settings_damaged(bench, b"\xff\0lr: [\n"),
    ),
    Fault(
        "settings emptied",
        "settings.yaml is empty",
        _NAMED,
        lambda bench: settings_damaged(bench, b""),
    ),
    Fault(
        "metrics garbled",
        "metrics.jsonl holds garbage",
        _ANYWAY,
        lambda bench: damaged(bench, _metrics_garbled),
    ),
    Fault(
        "metrics lost",
        "metrics.jsonl is removed",
        _ANYWAY,
        lambda bench: damaged(bench, lambda run: (run.folder / "metrics.jsonl").unlink()),
    ),
    Fault(
        "lock left behind",
        "the lock of a process that has ended",
        _ANYWAY,
        lambda bench: damaged(bench, _lock),
    ),
    Fault(
        "disk full for a while",
        "a disk without a free byte at one save, and with space at the next",
        "reported, and the run continues; final weights equal",
        disk_full_for_a_while,
    ),
    Fault(
        "disk full at the end",
        "a disk without a free byte from the last steps on",
        "status 2 and one line; with space again, final weights equal",
        disk_full_at_the_end,
    ),
    Fault(
        "room in old states",
        "the same, with older states that may be deleted",
        "the last step is saved in their place; final weights equal",
        room_in_old_states,
    ),
    Fault(
        "files limited",
        "no file may exceed 64 KiB at one save (RLIMIT_FSIZE)",
        "reported, and the run continues; final weights equal",
        quota_for_a_while,
    ),
)
