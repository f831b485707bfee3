"""Faults of a step: losses that are not finite or raise, and too little memory."""

import re

from fault_run import NO_DROPOUT, SAVE_EVERY, STEPS, Bench, Fault, Outcome, expect
from fault_stops import expect_equal

# For one domain only: the fault occurs once, not once in each.
_PENALTY = "--penalty_A=0.1*r1(every=1)"


def wrong_numbers(bench: Bench, option: str, names: str, *, back: int) -> Outcome:
    """The step is reported and skipped; `back` is the expected number of rollbacks."""
    with bench.run(option) as run:
        run.start(armed=True)
        run.expect_exit(0)
        output = run.output
        expect(f"warning: step 12: {names}: not a finite number" in output, "not named by its step")
        expect(
            output.count("going back to step 10 ") == back, f"it went back, but not {back} times"
        )
        expect(not back or "with 0.5 of the learning rate" in output, "the rate is not lower")
        expect(run.newest_valid_step() == STEPS, "the last step is not saved")
        expect(run.is_finite(), "the final weights are not finite")
        lost = re.findall(r"going back to step (\d+)", output)
        return Outcome(sum(12 + 2 - int(step) for step in lost))


def wrong_forever(bench: Bench, option: str) -> Outcome:
    with bench.run(option) as run:
        run.start(armed=True)
        run.expect_exit(2)
        output = run.output
        expect("not a finite number" in output, "it is not reported")
        expect(output.count("going back to step") == 3, "it does not go back three times")
        expect("went back 3 times" in run.errors, f"said: {run.errors}")
        newest = run.newest_valid_step()
        expect(newest > 0 or run.reached < SAVE_EVERY, "nothing is saved")
        expect(run.is_finite(), "weights that are not finite were saved")
        return Outcome()


def repaired(bench: Bench, option: str) -> Outcome:
    """The loss stays wrong until the run ends; the run then continues with a correct loss."""
    with bench.run(option) as run:
        run.start(armed=True)
        run.expect_exit(2)
        cost = run.continue_to_end("--lr=0.0001")
        expect(run.newest_valid_step() == STEPS, "the last step is not saved")
        expect(run.is_finite(), "the final weights are not finite")
        return cost


def short_of_memory_once(bench: Bench, *options: str, whole: tuple[str, ...]) -> Outcome:
    with bench.run(NO_DROPOUT, *options) as run:
        run.start(armed=True)
        run.expect_exit(0)
        return expect_equal(bench, run, Outcome(), NO_DROPOUT, *whole)


def stops_saved(bench: Bench, *options: str, words: str, whole: tuple[str, ...]) -> Outcome:
    """The run stops with one line and has saved the step before; without the fault it continues."""
    with bench.run(*options) as run:
        run.start(armed=True)
        run.expect_exit(2)
        expect(words in run.errors, f"said: {run.errors}")
        expect(
            run.newest_valid_step() == run.reached == 11,
            f"{run.newest_valid_step()} is saved, not 11",
        )
        return expect_equal(bench, run, run.continue_to_end(), *whole)


def stops_halfway(bench: Bench, *options: str, words: str) -> Outcome:
    """The same after the generators were updated: the saved step includes their update."""
    with bench.run(*options) as run:
        run.start(armed=True)
        run.expect_exit(2)
        expect(words in run.errors, f"said: {run.errors}")
        expect(run.newest_valid_step() == 12, f"{run.newest_valid_step()} is saved, not 12")
        return run.continue_to_end()


def _wrong(value: str, count: int) -> str:
    # For domain A only; the loss of B stays correct.
    return f"--cycle_A=10*fault_inside.Wrong(value='{value}', first=12, count={count})"


def _penalty(kind: str, count: int) -> str:
    return f"--penalty_A=0.1*fault_inside.PenaltyFails(kind='{kind}', first=12, count={count})"


_SKIPPED = "reported with its step, no update, the run continues"
_BACK = "reported, rolled back to the last state at half the learning rate, the run continues"
_GIVEN_UP = "three rollbacks, then status 2 and one line, finite weights saved"
_SAVED = "status 2, one line, the step before saved; without the fault, final weights equal"
_HALFWAY = "status 2, one line, saved with the generators' update alone; the run can continue"

FAULTS = (
    Fault(
        "NaN once",
        "a loss gives NaN at one step",
        _SKIPPED,
        lambda bench: wrong_numbers(bench, _wrong("nan", 1), "cycle_A", back=0),
    ),
    Fault(
        "infinity once",
        "a loss is infinite at one step",
        _SKIPPED,
        lambda bench: wrong_numbers(bench, _wrong("inf", 1), "cycle_A", back=0),
    ),
    Fault(
        "NaN three times",
        "a loss gives NaN at three steps in a row",
        _BACK,
        lambda bench: wrong_numbers(bench, _wrong("nan", 3), "cycle_A", back=1),
        short=True,
    ),
    Fault(
        "NaN forever",
        "a loss gives NaN from one step on",
        _GIVEN_UP,
        lambda bench: wrong_forever(bench, _wrong("nan", 0)),
    ),
    Fault(
        "NaN, then repaired",
        "the same, and then the loss is corrected",
        "the run continues to the end, with finite weights",
        lambda bench: repaired(bench, _wrong("nan", 0)),
    ),
    Fault(
        "penalty explodes once",
        "a penalty is infinite at one step",
        _SKIPPED,
        lambda bench: wrong_numbers(bench, _penalty("inf", 1), "penalty_A", back=0),
    ),
    Fault(
        "penalty explodes",
        "--penalty 1e38*r1(every=1): its gradient overflows",
        _GIVEN_UP,
        lambda bench: wrong_forever(bench, "--penalty=1e38*r1(every=1)"),
    ),
    Fault(
        "short of memory once",
        "a step runs out of memory, and its second attempt does not",
        "no visible effect; final weights equal",
        lambda bench: short_of_memory_once(
            bench, "--cycle_A=10*fault_inside.OutOfMemory(first=12)", whole=()
        ),
    ),
    Fault(
        "short of memory for D once",
        "the same in the discriminators' half of a step",
        "no visible effect; final weights equal",
        lambda bench: short_of_memory_once(bench, _penalty("memory", 1), whole=(_PENALTY,)),
    ),
    Fault(
        "short of memory twice",
        "a step runs out of memory at both attempts",
        _SAVED,
        lambda bench: stops_saved(
            bench,
            "--cycle_A=10*fault_inside.OutOfMemory(first=12, count=2)",
            words="the GPU's memory was too small",
            whole=(),
        ),
    ),
    Fault(
        "short of memory for D twice",
        "the same in the discriminators' half, after the generators' update",
        _HALFWAY,
        lambda bench: stops_halfway(
            bench, _penalty("memory", 2), words="the GPU's memory was too small"
        ),
    ),
    Fault(
        "own loss fails",
        "a loss of the user's own raises RuntimeError in mid-run",
        _SAVED,
        lambda bench: stops_saved(
            bench, "--cycle_A=10*fault_inside.Raises(first=12)", words="--cycle", whole=()
        ),
    ),
    Fault(
        "own penalty fails",
        "a penalty of the user's own does, after the generators' update",
        _HALFWAY,
        lambda bench: stops_halfway(bench, _penalty("raises", 1), words="--penalty"),
    ),
)
