"""What is kept of a run in its folder, also where the disk is full."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from cyclegan import checkpoint
from cyclegan.errors import UserError


class Saves:
    """The latest state and the weights; `step` is the one whose state is whole on the disk."""

    def __init__(
        self, folder: Path, *, step: int, total_steps: int, say: Callable[[str], object]
    ) -> None:
        self.folder = folder
        self.step = step
        self.total_steps = total_steps
        self.say = say

    def save(
        self,
        step: int,
        epoch: int | str,
        networks: Mapping[str, nn.Module],
        state: Callable[[], dict[str, Any]],
    ) -> None:
        """Weights under an epoch's number or, with the state, as the latest. What cannot be written
        is said, and tried again at the next save; at the run's last step it is a UserError.
        """
        try:
            if epoch == "latest":
                checkpoint.save_state(self.folder, state())
                self.step = step
            checkpoint.save_weights(self.folder, epoch, networks)
        except OSError as error:
            problem = (
                f"step {step} could not be saved ({error.strerror or error}); what was saved at "
                f"step {self.step} is whole: free space on the disk"
            )
            if step >= self.total_steps:
                raise UserError(f"{problem}, then add --continue_train") from None
            self.say(f"warning: {problem}; training goes on and will try again")
