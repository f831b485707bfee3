"""Runs that are killed, stopped, suspended or out of time."""

import os
import random
import re
import signal
import time

from fault_run import SAVE_EVERY, STEPS, Bench, Fault, Outcome, Run, expect, same

# The steps of a run for each time that it is killed.
_STEPS_PER_KILL = 2 * SAVE_EVERY + 3

_SLEEPS = "--cycle_A=10*fault_inside.Sleeps"


def expect_equal(bench: Bench, run: Run, cost: Outcome, *options: str) -> Outcome:
    """Returns the outcome; raises Lost if the final state differs from the uninterrupted run's."""
    cost.equal = same(run.state(), bench.uninterrupted(*options))
    expect(cost.equal, "the final state is not that of the uninterrupted run")
    expect(cost.beyond_a_save == 0, f"{cost.beyond_a_save} saved steps were lost")
    return cost


def killed_again_and_again(bench: Bench) -> Outcome:
    draw = bench.random("kills")
    steps = _STEPS_PER_KILL * bench.kills
    # For a few kills the usual length is enough; other faults share its uninterrupted run.
    options = (f"--steps={steps}",) if steps > STEPS else ()
    cost = Outcome(injected=0)
    with bench.run(*options) as run:
        for _ in range(bench.kills):
            reached, newest = run.reached, run.newest_valid_step()
            # A run that was killed before its first save starts again.
            if run.states():
                run.resume()
            else:
                run.start()
            _kill_at_random(run, draw, start_seconds=bench.start_seconds)
            cost += _start_outcome(run, newest, reached)
            # Steps continue during a save; the next save waits for it.
            unsaved = run.reached - run.newest_valid_step()
            expect(unsaved <= 2 * SAVE_EVERY, f"{unsaved} of {run.reached} steps are not saved")
        cost += run.continue_to_end()
        cost.injected = bench.kills
        return expect_equal(bench, run, cost, *options)


def _kill_at_random(run: Run, draw: random.Random, *, start_seconds: float) -> None:
    """Kills the run at or between steps or, with probability 0.2, before the first step."""
    if draw.random() < 0.2:
        time.sleep(draw.uniform(0, start_seconds))
    else:
        run.until(lambda: run.step() > 0, "its first step")
        run.until_step(run.step() + draw.randrange(2 * SAVE_EVERY))
        time.sleep(draw.uniform(0, 0.05))
    run.kill()


def _start_outcome(run: Run, newest: int, reached: int) -> Outcome:
    """The steps that a killed process had lost at its start, if it got as far as to print them."""
    if not (found := re.search(r"going on after step (\d+)", run.output)):
        return Outcome(injected=0)
    run.reached = run.step()
    return Outcome(reached - int(found[1]), max(0, newest - int(found[1])))


def killed_while_saving(bench: Bench) -> Outcome:
    with bench.run() as run:
        run.start()
        for _ in range(10):
            run.until(lambda: _is_saving(run), "a state that is being written", pause=0)
            run.kill()
            if _is_saving(run):
                break
            run.resume()
        expect(_is_saving(run), "no moment in which a state was being written was caught")
        return expect_equal(bench, run, run.continue_to_end())


def _is_saving(run: Run) -> bool:
    """True while a state is written and an earlier one exists."""
    return bool(run.states()) and any(run.folder.glob("state_*.pt.partial"))


def stopped(bench: Bench, number: int) -> Outcome:
    with bench.run() as run:
        run.start()
        run.until_step(SAVE_EVERY + 2)
        run.signal(number)
        run.expect_exit(128 + number)
        expect(f"stopped and saved at step {run.reached};" in run.output, "the step is not saved")
        expect(run.newest_valid_step() == run.reached, "the last step is not saved")
        run.continue_as_printed()
        run.expect_exit(0)
        return expect_equal(bench, run, Outcome())


def killed_by(bench: Bench, number: int) -> Outcome:
    """Sends a signal that the program does not handle."""
    with bench.run() as run:
        run.start()
        run.until_step(2 * SAVE_EVERY + 2)
        run.signal(number)
        run.wait()
        return expect_equal(bench, run, run.continue_to_end())


def interrupted_twice(bench: Bench) -> Outcome:
    with bench.run(f"{_SLEEPS}(seconds=60, first=12)") as run:
        run.start(armed=True)
        run.until_step(11)
        # Now the step that takes a minute is running, or will be in a moment.
        time.sleep(0.5)
        run.signal(signal.SIGINT)
        time.sleep(0.5)
        expect(run.alive, "the first Ctrl-C ended it in the middle of a step")
        run.signal(signal.SIGINT)
        run.expect_exit(130, seconds=20)
        return expect_equal(bench, run, run.continue_to_end())


def stopped_while_measuring(bench: Bench) -> Outcome:
    with bench.run() as run:
        run.start()
        run.until_output("measuring the translations")
        run.signal(signal.SIGTERM)
        status = run.wait()
        expect(status in (0, 128 + signal.SIGTERM, -signal.SIGTERM), f"exit status {status}")
        return expect_equal(bench, run, run.continue_to_end())


def stopped_while_starting(bench: Bench) -> Outcome:
    with bench.killed_run() as run:
        reached = run.reached
        run.resume()
        time.sleep(bench.random("start").uniform(0.5, 2.5))
        run.signal(signal.SIGTERM)
        status = run.wait()
        # The first moments have no signal handler yet, and nothing to save.
        expect(status in (128 + signal.SIGTERM, -signal.SIGTERM), f"exit status {status}")
        run.reached = max(reached, run.reached)
        return expect_equal(bench, run, run.continue_to_end())


def out_of_time(bench: Bench) -> Outcome:
    with bench.run(f"{_SLEEPS}(seconds=0.2, first=1, count=0)") as run:
        began = time.monotonic()
        run.start("--time_limit=9s", armed=True)
        run.expect_exit(124)
        # The limit does not include the imports.
        expect(time.monotonic() - began < 9 + 15, "it ended long after the limit")
        expect("out of time: stopped and saved at step" in run.output, "the reason is not printed")
        run.resume("--time_limit=1d")
        run.expect_exit(0)
        return expect_equal(bench, run, Outcome())


def suspended(bench: Bench) -> Outcome:
    with bench.run() as run:
        run.start()
        run.until_step(SAVE_EVERY + 2)
        run.signal(signal.SIGSTOP)
        time.sleep(2)
        run.signal(signal.SIGCONT)
        run.expect_exit(0)
        return expect_equal(bench, run, Outcome())


def output_closed(bench: Bench) -> Outcome:
    """The reader of the output exits, as in `train.py | head`."""
    with bench.run() as run:
        reader, writer = os.pipe()
        run.stdout = writer
        run.start()
        os.close(writer)
        received = b""
        while b"step 12/" not in received and (more := os.read(reader, 65536)):
            received += more
        os.close(reader)
        run.wait()
        run.stdout = None
        run.reached = 12
        newest = run.newest_valid_step()
        expect(newest >= 12 - 2 * SAVE_EVERY, f"after 12 steps {newest} are saved")
        return expect_equal(bench, run, run.continue_to_end())


FAULTS = (
    Fault(
        "killed at random",
        "SIGKILL at random moments of one run (20 times; --short: twice)",
        "every restart continues from the newest valid state; final weights equal",
        killed_again_and_again,
        short=True,
    ),
    Fault(
        "killed while saving",
        "SIGKILL while state_*.pt.partial is being written",
        "continues from the state before; final weights equal",
        killed_while_saving,
    ),
    Fault(
        "SIGTERM",
        "SIGTERM in mid-run",
        "status 143, this step saved, the printed command continues; final weights equal",
        lambda bench: stopped(bench, signal.SIGTERM),
        short=True,
    ),
    Fault(
        "Ctrl-C",
        "SIGINT in mid-run",
        "status 130, this step saved, the printed command continues; final weights equal",
        lambda bench: stopped(bench, signal.SIGINT),
    ),
    Fault(
        "Ctrl-C twice",
        "SIGINT, and a second one in a step that takes a minute",
        "status 130 within seconds; final weights equal",
        interrupted_twice,
    ),
    Fault(
        "SIGTERM at the end",
        "SIGTERM during the evaluation of the test images",
        "all steps are saved and none is left to train; final weights equal",
        stopped_while_measuring,
    ),
    Fault(
        "SIGTERM at the start",
        "SIGTERM while a continued run is being set up",
        "status 143, the saved states remain; final weights equal",
        stopped_while_starting,
    ),
    Fault(
        "terminal closed",
        "SIGHUP in mid-run",
        "continues from the newest state; final weights equal",
        lambda bench: killed_by(bench, signal.SIGHUP),
    ),
    Fault(
        "output closed",
        "the pipe of the output is closed",
        "the run continues, or ends with its saved states; final weights equal",
        output_closed,
    ),
    Fault(
        "time limit",
        "--time_limit 9s on a run that takes longer",
        "status 124, this step saved; final weights equal",
        out_of_time,
    ),
    Fault(
        "suspended",
        "SIGSTOP, and two seconds later SIGCONT",
        "the run continues; final weights equal",
        suspended,
    ),
)
