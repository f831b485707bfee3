"""Losses that are not finite, losses that fail, and memory that does not do."""

import re

from fault_run import NO_DROPOUT, SAVE_EVERY, STEPS, Bench, Fault, Outcome, expect
from fault_stops import compared

# Of one domain: a fault strikes once, not once in each.
_PENALTY = "--penalty_A=0.1*r1(every=1)"


def wrong_numbers(bench: Bench, option: str, names: str, *, back: int) -> Outcome:
    """Named with their step and not learned from; `back`: how often the run goes back."""
    with bench.run(option) as run:
        run.start(armed=True)
        run.ended(0)
        said = run.said
        expect(f"warning: step 12: {names}: not a finite number" in said, "not named by its step")
        expect(said.count("going back to step 10 ") == back, f"it went back, but not {back} times")
        expect(not back or "with 0.5 of the learning rate" in said, "the rate is not lower")
        expect(run.newest_whole() == STEPS, "the last step is not saved")
        expect(run.is_finite(), "the final weights are not finite")
        lost = re.findall(r"going back to step (\d+)", said)
        return Outcome(sum(12 + 2 - int(step) for step in lost))


def wrong_for_ever(bench: Bench, option: str) -> Outcome:
    with bench.run(option) as run:
        run.start(armed=True)
        run.ended(2)
        said = run.said
        expect("not a finite number" in said, "it is not said")
        expect(said.count("going back to step") == 3, "it does not go back three times")
        expect("went back 3 times" in run.errors, f"said: {run.errors}")
        newest = run.newest_whole()
        expect(newest > 0 or run.reached < SAVE_EVERY, "nothing is saved")
        expect(run.is_finite(), "weights that are not finite were saved")
        return Outcome()


def mended(bench: Bench, option: str) -> Outcome:
    """It goes wrong for ever, and then its maker has found the mistake."""
    with bench.run(option) as run:
        run.start(armed=True)
        run.ended(2)
        cost = run.went_on("--lr=0.0001")
        expect(run.newest_whole() == STEPS, "the last step is not saved")
        expect(run.is_finite(), "the final weights are not finite")
        return cost


def short_of_memory_once(bench: Bench, *options: str, whole: tuple[str, ...]) -> Outcome:
    with bench.run(NO_DROPOUT, *options) as run:
        run.start(armed=True)
        run.ended(0)
        return compared(bench, run, Outcome(), NO_DROPOUT, *whole)


def stops_saved(bench: Bench, *options: str, words: str, whole: tuple[str, ...]) -> Outcome:
    """With one line and the step before saved; without the fault it goes on."""
    with bench.run(*options) as run:
        run.start(armed=True)
        run.ended(2)
        expect(words in run.errors, f"said: {run.errors}")
        expect(run.newest_whole() == run.reached == 11, f"{run.newest_whole()} is saved, not 11")
        return compared(bench, run, run.went_on(), *whole)


def stops_halfway(bench: Bench, *options: str, words: str) -> Outcome:
    """The same, where the generators have learned by then: their half of the step counts."""
    with bench.run(*options) as run:
        run.start(armed=True)
        run.ended(2)
        expect(words in run.errors, f"said: {run.errors}")
        expect(run.newest_whole() == 12, f"{run.newest_whole()} is saved, not 12")
        return run.went_on()


def _wrong(value: str, count: int) -> str:
    # One domain's: the other is to go on.
    return f"--cycle_A=10*fault_inside.Wrong(value='{value}', first=12, count={count})"


def _penalty(kind: str, count: int) -> str:
    return f"--penalty_A=0.1*fault_inside.PenaltyFails(kind='{kind}', first=12, count={count})"


_SKIPPED = "named with its step, not learned from, the run goes on"
_BACK = "named, back to the last state with half the learning rate, the run goes on"
_GIVEN_UP = "back three times, then status 2 and one line, finite weights saved"
_SAVED = "status 2, one line, the step before saved; without the fault, final weights equal"
_HALFWAY = "status 2, one line, saved with the step that only the generators took; it goes on"

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
        "NaN for ever",
        "a loss gives NaN from one step on",
        _GIVEN_UP,
        lambda bench: wrong_for_ever(bench, _wrong("nan", 0)),
    ),
    Fault(
        "NaN, then mended",
        "the same, and then the loss is put right",
        "it goes on to the end, with finite weights",
        lambda bench: mended(bench, _wrong("nan", 0)),
    ),
    Fault(
        "penalty explodes once",
        "a penalty is infinite at one step",
        _SKIPPED,
        lambda bench: wrong_numbers(bench, _penalty("inf", 1), "penalty_A", back=0),
    ),
    Fault(
        "penalty explodes",
        "--penalty 1e38*r1(every=1): its gradient is past all numbers",
        _GIVEN_UP,
        lambda bench: wrong_for_ever(bench, "--penalty=1e38*r1(every=1)"),
    ),
    Fault(
        "short of memory once",
        "a step's memory does not do, at the second try it does",
        "nothing is to be seen of it; final weights equal",
        lambda bench: short_of_memory_once(
            bench, "--cycle_A=10*fault_inside.OutOfMemory(first=12)", whole=()
        ),
    ),
    Fault(
        "short of memory for D once",
        "the same in the discriminators' half of a step",
        "nothing is to be seen of it; final weights equal",
        lambda bench: short_of_memory_once(bench, _penalty("memory", 1), whole=(_PENALTY,)),
    ),
    Fault(
        "short of memory twice",
        "a step's memory does not do, and not at the second try",
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
        "the same in the discriminators' half, when the generators have learned",
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
        "a penalty of the user's own does, when the generators have learned",
        _HALFWAY,
        lambda bench: stops_halfway(bench, _penalty("raises", 1), words="--penalty"),
    ),
)
