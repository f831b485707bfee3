"""What is kept of a run in its folder: copied in a moment, written beside the steps that follow."""

import errno
import json
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Thread
from typing import Any

from torch import nn

from cyclegan.config.errors import UserError
from cyclegan.config.options import Settings
from cyclegan.config.train_options import TrainSettings
from cyclegan.runs import checkpoints
from cyclegan.runs.checkpoints import copied

LATEST, BEST = "latest", "best"
# Weights under these names may go to somebody else, and say what they are.
SHAREABLE = (LATEST, BEST)

# Of settings, what says more about the machine than about the networks.
_PRIVATE = {*Settings.model_fields, "dir_A", "dir_B", "config", "cache_dir", "display_server"}


class Saves:
    """Writes states and weights, one save at a time; `step` is the one whose state is whole on the
    disk. What the disk does not take is said, and tried again at the next save.
    """

    def __init__(self, settings: TrainSettings, *, step: int, say: Callable[[str], object]) -> None:
        self.folder = settings.run_dir
        self.keep = settings.keep
        self.about = json.dumps(settings.model_dump(mode="json", exclude=_PRIVATE))
        self.step = step
        self.say = say
        self.problem: str | None = None
        # How long the longest save took.
        self.seconds = 0.0
        self.thread: Thread | None = None

    def save(
        self,
        step: int,
        epochs: Sequence[str | int],
        networks: Mapping[str, nn.Module],
        state: Mapping[str, Any],
    ) -> None:
        """The networks' weights under each of these names and, with the latest, the state. Returns
        once all is copied; a save before it that still goes on is waited for.
        """
        self.wait()
        began = time.monotonic()
        weights = {name: network.state_dict() for name, network in networks.items()}
        copies = copied({"weights": weights, "state": state if LATEST in epochs else {}})
        self.problem = None
        # A daemon: who ends the program by a second Ctrl-C does not wait; the old files are whole.
        arguments = (began, step, epochs, copies["weights"], copies["state"])
        self.thread = Thread(target=self._write, args=arguments, name="saves", daemon=True)
        self.thread.start()

    def wait(self) -> None:
        if self.thread is not None:
            self.thread.join()
            self.thread = None

    def check(self) -> None:
        """Waits; raises UserError where the last save was not written."""
        self.wait()
        if self.problem:
            raise UserError(f"{self.problem}, then add --continue_train")

    def _write(
        self,
        began: float,
        step: int,
        epochs: Sequence[str | int],
        weights: Mapping[str, Mapping[str, Any]],
        state: Mapping[str, Any],
    ) -> None:
        try:
            try:
                self._write_all(step, epochs, weights, state)
            except OSError as error:
                # Of the states that are there, one will do.
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                if not (full and checkpoints.drop_states(self.folder, keep=1)):
                    raise
                self._write_all(step, epochs, weights, state)
        except OSError as error:
            self._failed(step, error)
        self.seconds = max(self.seconds, time.monotonic() - began)

    def _write_all(
        self,
        step: int,
        epochs: Sequence[str | int],
        weights: Mapping[str, Mapping[str, Any]],
        state: Mapping[str, Any],
    ) -> None:
        if state:
            checkpoints.save_state(self.folder, state, step=step, keep=self.keep)
            self.step = step
        for epoch in epochs:
            checkpoints.save_weights(self.folder, epoch, weights)
            for name in ("G_AB", "G_BA") if epoch in SHAREABLE else ():
                path = checkpoints.weights_path(self.folder, epoch, name)
                about = {"network": name, "step": str(step), "settings": self.about}
                checkpoints.save_shareable(path.with_suffix(".safetensors"), weights[name], about)

    def _failed(self, step: int, error: OSError) -> None:
        self.problem = (
            f"step {step} could not be saved ({error.strerror or error}); what was saved at "
            f"step {self.step} is whole: free space on the disk"
        )
        self.say(f"warning: {self.problem}; training goes on and will try again")
