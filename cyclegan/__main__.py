"""The commands python -m cyclegan doctor, evaluate, runs ..., each with its own --help."""

import importlib
import sys
from collections.abc import Sequence

from cyclegan.config.errors import UserError, one_line_errors
from cyclegan.config.expressions import nearest

# The import path of each command's function, and its line in the list. The function takes the
# arguments after the name and returns the exit status; it is imported only when it is called.
COMMANDS = {
    "degrade": (
        "cyclegan.tools.degrade.command.main",
        "make a low-resolution domain from photographs",
    ),
    "doctor": (
        "cyclegan.tools.doctor.command.main",
        "check a data folder before a long run: broken files, duplicates, colours",
    ),
    "evaluate": (
        "cyclegan.evaluation.command.main",
        "measure a run on photographs (super-resolution) or on its own test images",
    ),
    "monitor": (
        "cyclegan.pages.follow.command.main",
        "show the live page of runs from their files, also several side by side",
    ),
    "runs": (
        "cyclegan.pages.run_list.command.main",
        "list the runs with their progress, state and quality",
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Runs the command that the first argument names; raises UserError for an unknown one."""
    if not arguments or arguments[0] in ("--help", "-h"):
        sys.stdout.write(overview())
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise UserError(f"unknown command {name}{nearest(name, COMMANDS)}; commands: {known}")
    module, _, function = COMMANDS[name][0].rpartition(".")
    status: int = getattr(importlib.import_module(module), function)(arguments[1:])
    return status


def overview() -> str:
    """A line for each command."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {about}" for name, (_, about) in COMMANDS.items()]
    head = "usage: python -m cyclegan COMMAND [options]; COMMAND --help shows its options"
    return "\n".join([head, "", *lines, ""])


if __name__ == "__main__":
    # The usage line of a command's --help names the program by this.
    sys.argv[0] = " ".join(["python -m cyclegan", *sys.argv[1:2]])
    with one_line_errors():
        sys.exit(main(sys.argv[1:]))
