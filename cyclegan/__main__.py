"""The lesser commands: python -m cyclegan doctor | evaluate | runs ..., each with its --help."""

import importlib
import sys
from collections.abc import Sequence

from cyclegan.config.errors import UserError, one_line_errors
from cyclegan.config.expressions import nearest

# Name -> import path of a function from the words after the name to the exit status, and what the
# list says of it. Nothing is imported before its command is asked for.
COMMANDS = {
    "degrade": (
        "cyclegan.tools.degrade.command.main",
        "make a low-resolution domain from photographs",
    ),
    "doctor": (
        "cyclegan.tools.doctor.command.main",
        "look over a data folder before a long run: broken files, duplicates, colours",
    ),
    "evaluate": (
        "cyclegan.evaluation.command.main",
        "measure a run: super-resolution of photographs, or its own test images",
    ),
    "monitor": (
        "cyclegan.pages.follow.command.main",
        "show the live page of runs again, from their files, and several beside each other",
    ),
    "runs": (
        "cyclegan.pages.run_list.command.main",
        "list the runs: how far each is, how it stands, and how good it is",
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Runs the command that the first word names; raises UserError where there is no such one."""
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
    """All commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {about}" for name, (_, about) in COMMANDS.items()]
    head = "usage: python -m cyclegan COMMAND [options]; COMMAND --help shows its options"
    return "\n".join([head, "", *lines, ""])


if __name__ == "__main__":
    # The usage line of a command's --help names the program by this.
    sys.argv[0] = " ".join(["python -m cyclegan", *sys.argv[1:2]])
    with one_line_errors():
        sys.exit(main(sys.argv[1:]))
