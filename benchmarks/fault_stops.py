"""Runs that are killed, stopped, suspended or out of time."""

import os
import random
import re
import signal
import time

from fault_run import SAVE_EVERY, STEPS, Bench, Fault, Outcome, Run, expect, same

# Steps that a run of many lives has for each of them.
_STEPS_A_LIFE = 2 * SAVE_EVERY + 3

_SLEEPS = "--cycle_A=10*fault_inside.Sleeps"


def compared(bench: Bench, run: Run, cost: Outcome, *options: str) -> Outcome:
    """What it cost, once the final state is that of the run that nothing happened to."""
    cost.equal = same(run.state(), bench.whole(*options))
    expect(cost.equal, "the final state is not that of the uninterrupted run")
    expect(cost.beyond_a_save == 0, f"{cost.beyond_a_save} saved steps were lost")
    return cost


def killed_again_and_again(bench: Bench) -> Outcome:
    draw = bench.random("kills")
    steps = _STEPS_A_LIFE * bench.kills
    # A few kills have room in a run of the usual length, which others are compared with too.
    options = (f"--steps={steps}",) if steps > STEPS else ()
    cost = Outcome(injected=0)
    with bench.run(*options) as run:
        for _ in range(bench.kills):
            reached, newest = run.reached, run.newest_whole()
            # Killed before there was anything to go on from, it begins anew.
            if run.states():
                run.resume()
            else:
                run.start()
            _kill_at_random(run, draw)
            cost += _went_on_from(run, newest, reached)
            # A save is under way while steps go on, and the next one waits for it.
            unsaved = run.reached - run.newest_whole()
            expect(unsaved <= 2 * SAVE_EVERY, f"{unsaved} of {run.reached} steps are not saved")
        cost += run.went_on()
        cost.injected = bench.kills
        return compared(bench, run, cost, *options)


def _kill_at_random(run: Run, draw: random.Random) -> None:
    """Mostly at some step or between two, one in five times before the first."""
    if draw.random() < 0.2:
        time.sleep(draw.uniform(0, 3))
    else:
        run.until(lambda: run.step() > 0, "its first step")
        run.until_step(run.step() + draw.randrange(2 * SAVE_EVERY))
        time.sleep(draw.uniform(0, 0.05))
    run.kill()


def _went_on_from(run: Run, newest: int, reached: int) -> Outcome:
    """What a life that is over by now had lost when it began, if it came so far as to say so."""
    if not (found := re.search(r"going on after step (\d+)", run.said)):
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
        return compared(bench, run, run.went_on())


def _is_saving(run: Run) -> bool:
    """While there is a state before it already."""
    return bool(run.states()) and any(run.folder.glob("state_*.pt.partial"))


def stopped(bench: Bench, number: int) -> Outcome:
    with bench.run() as run:
        run.start()
        run.until_step(SAVE_EVERY + 2)
        run.signal(number)
        run.ended(128 + number)
        expect(f"stopped and saved at step {run.reached};" in run.said, "the step is not saved")
        expect(run.newest_whole() == run.reached, "the last step is not saved")
        run.as_told()
        run.ended(0)
        return compared(bench, run, Outcome())


def ended_at_once(bench: Bench, number: int) -> Outcome:
    """By a signal that no program of ours expects."""
    with bench.run() as run:
        run.start()
        run.until_step(2 * SAVE_EVERY + 2)
        run.signal(number)
        run.wait()
        return compared(bench, run, run.went_on())


def interrupted_twice(bench: Bench) -> Outcome:
    with bench.run(f"{_SLEEPS}(seconds=60, first=12)") as run:
        run.start(armed=True)
        run.until_step(11)
        # By now, or in a moment, the step that takes a minute is under way.
        time.sleep(0.5)
        run.signal(signal.SIGINT)
        time.sleep(0.5)
        expect(run.alive, "the first Ctrl-C ended it in the middle of a step")
        run.signal(signal.SIGINT)
        run.ended(130, seconds=20)
        return compared(bench, run, run.went_on())


def stopped_while_measuring(bench: Bench) -> Outcome:
    with bench.run() as run:
        run.start()
        run.until_said("measuring the translations")
        run.signal(signal.SIGTERM)
        status = run.wait()
        expect(status in (0, 128 + signal.SIGTERM, -signal.SIGTERM), f"exit status {status}")
        return compared(bench, run, run.went_on())


def stopped_while_starting(bench: Bench) -> Outcome:
    with bench.begun() as run:
        reached = run.reached
        run.resume()
        time.sleep(bench.random("start").uniform(0.5, 2.5))
        run.signal(signal.SIGTERM)
        status = run.wait()
        # In its first moments no handler is there, and nothing to be saved either.
        expect(status in (128 + signal.SIGTERM, -signal.SIGTERM), f"exit status {status}")
        run.reached = max(reached, run.reached)
        return compared(bench, run, run.went_on())


def out_of_time(bench: Bench) -> Outcome:
    with bench.run(f"{_SLEEPS}(seconds=0.2, first=1, count=0)") as run:
        began = time.monotonic()
        run.start("--time_limit=9s", armed=True)
        run.ended(124)
        # The limit counts from when the program has been loaded.
        expect(time.monotonic() - began < 9 + 15, "it ended long after the limit")
        expect("out of time: stopped and saved at step" in run.said, "it does not say why")
        run.resume("--time_limit=1d")
        run.ended(0)
        return compared(bench, run, Outcome())


def suspended(bench: Bench) -> Outcome:
    with bench.run() as run:
        run.start()
        run.until_step(SAVE_EVERY + 2)
        run.signal(signal.SIGSTOP)
        time.sleep(2)
        run.signal(signal.SIGCONT)
        run.ended(0)
        return compared(bench, run, Outcome())


def nobody_listens(bench: Bench) -> Outcome:
    """As in `train.py | head`: the reader of the output goes away."""
    with bench.run() as run:
        reader, writer = os.pipe()
        run.stdout = writer
        run.start()
        os.close(writer)
        heard = b""
        while b"step 12/" not in heard and (more := os.read(reader, 65536)):
            heard += more
        os.close(reader)
        run.wait()
        run.stdout = None
        run.reached = 12
        newest = run.newest_whole()
        expect(newest >= 12 - 2 * SAVE_EVERY, f"after 12 steps {newest} are saved")
        return compared(bench, run, run.went_on())


FAULTS = (
    Fault(
        "killed at random",
        "SIGKILL at random moments, again and again in one run (20 times, --short: twice)",
        "each life goes on from the newest whole state; final weights equal",
        killed_again_and_again,
        short=True,
    ),
    Fault(
        "killed while saving",
        "SIGKILL while state_*.pt.partial is being written",
        "the state before it is gone on from; final weights equal",
        killed_while_saving,
    ),
    Fault(
        "SIGTERM",
        "SIGTERM in mid-run",
        "status 143, this step saved, the command it names goes on; final weights equal",
        lambda bench: stopped(bench, signal.SIGTERM),
        short=True,
    ),
    Fault(
        "Ctrl-C",
        "SIGINT in mid-run",
        "status 130, this step saved, the command it names goes on; final weights equal",
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
        "SIGTERM while the test images are measured",
        "all steps are saved, going on has nothing to train; final weights equal",
        stopped_while_measuring,
    ),
    Fault(
        "SIGTERM at the start",
        "SIGTERM while a run that goes on is being set up",
        "status 143, what was saved is still there; final weights equal",
        stopped_while_starting,
    ),
    Fault(
        "terminal closed",
        "SIGHUP in mid-run",
        "the newest state is gone on from; final weights equal",
        lambda bench: ended_at_once(bench, signal.SIGHUP),
    ),
    Fault(
        "nobody listens",
        "the pipe that the output goes to is closed",
        "it goes on, or ends with what was saved; final weights equal",
        nobody_listens,
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
        "the run goes on; final weights equal",
        suspended,
    ),
)
