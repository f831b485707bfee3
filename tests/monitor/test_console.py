"""The run on the terminal."""

import io
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.console import Console as RichConsole
from support.running import ROOT

from cyclegan.monitor import Alarm, Health, console
from cyclegan.monitor.console import Console

VALUES = {
    **{"adversarial_A": 0.4321, "adversarial_B": 0.5, "cycle_A.l1": 1.25, "cycle_A.ssim": 0.75},
    **{"D_A": 0.25, "penalty_A": 0.001234, "lr": 2e-4, "images_per_second": 12.34},
    **{"gradient_G_AB": 3.0, "pairs_A": 0.9, "data_share": 0.02},
}
ALARM = Alarm("collapse", "G_AB", "diversity 0.02", "all images become one", "--cycle 20*l1")


def on(monkeypatch, *, terminal: bool, **options) -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    monkeypatch.setattr(
        console,
        "_Terminal",
        lambda **keywords: RichConsole(
            file=screen, force_terminal=terminal, width=100, color_system=None, **keywords
        ),
    )
    made = Console(total_steps=200, steps_per_epoch=50, first_step=0, **options)
    return made, screen


def test_without_a_terminal_a_report_is_one_line(monkeypatch):
    made, screen = on(monkeypatch, terminal=False)
    for _ in made.track(range(60), step=50):
        pass
    made.scalars(110, VALUES)
    made.show(110, Health(("fine",), ()))
    made.close()
    line = screen.getvalue()
    assert line.count("\n") == 1
    assert line.startswith("epoch 3  step 110/200  12.3 images/s (2% waiting for data)  0:00:0")
    assert line.endswith(
        " left  adversarial_A 0.432  adversarial_B 0.500  cycle_A.l1 1.250  cycle_A.ssim 0.750"
        "  D_A 0.250  penalty_A 0.00123\n"
    )


def test_quiet_prints_no_reports(monkeypatch):
    made, screen = on(monkeypatch, terminal=False, quiet=True)
    made.scalars(110, VALUES)
    made.print("warning: a broken file")
    assert screen.getvalue() == "warning: a broken file\n"


def test_silent_prints_nothing(monkeypatch):
    made, screen = on(monkeypatch, terminal=False, silent=True)
    made.scalars(110, VALUES)
    made.print("warning: a broken file")
    assert screen.getvalue() == ""


def test_the_table_has_a_row_for_each_loss_and_a_column_for_each_domain(monkeypatch):
    made, screen = on(monkeypatch, terminal=True)
    made.scalars(110, VALUES)
    made.show(110, Health((), (ALARM,)))
    made.rich.print(made._render())
    rows = [line.split() for line in screen.getvalue().splitlines()]
    assert ["loss", "A", "B"] in rows
    assert ["adversarial", "0.432", "0.500"] in rows
    assert ["cycle.ssim", "0.750"] in rows
    assert ["penalty", "0.00123"] in rows
    assert ["health:", "collapse", "(G_AB)"] in rows
    assert not any("gradient" in line or "pairs" in line for line in screen.getvalue().splitlines())


def test_on_a_terminal_reports_print_no_lines(monkeypatch):
    made, screen = on(monkeypatch, terminal=True)
    made.scalars(110, VALUES)
    made.scalars(120, VALUES)
    assert screen.getvalue() == ""


@pytest.mark.parametrize(("colour", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_is_honoured_on_a_real_terminal(colour, coloured):
    program = (
        "from cyclegan.monitor import Alarm, Health; from cyclegan.monitor.console import Console\n"
        "made = Console(total_steps=2, steps_per_epoch=1, first_step=0)\n"
        "for batch in made.track(range(2), step=0):\n"
        "    made.scalars(1, {'cycle_A': 1.0})\n"
        "    made.show(1, Health((), ()))\n"
        "made.close()\n"
    )
    ours, theirs = pty.openpty()
    plain = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    environment = plain | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)} | colour
    process = subprocess.Popen([sys.executable, "-c", program], stdout=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:
            break
        if not shown:
            break
    assert process.wait(60) == 0
    os.close(ours)
    text = shown.decode()
    assert "health: no alarms" in text
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", text)) == coloured
