"""The monitors that a run's settings name."""

import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from cyclegan.config import expressions, parts
from cyclegan.config.errors import UserError, explain
from cyclegan.config.train_options import TrainSettings
from cyclegan.config.value_types import NO_MONITOR
from cyclegan.monitor import Monitor, Monitors
from cyclegan.monitor.console import Console
from cyclegan.monitor.files import Files
from cyclegan.runs.artifacts import Exhibit, Preview
from cyclegan.runs.control_files import ask
from cyclegan.runs.metrics_log import each_point

# Those that other packages show; each is imported where it is asked for.
OTHERS = {
    "tensorboard": "cyclegan.monitor.tensorboard.TensorBoard",
    "wandb": "cyclegan.monitor.wandb.WandB",
}
# The live page is a side room: its parts are found by their import paths, and only if it is shown.
PAGE = "cyclegan.pages.visdom.monitor.VisdomMonitor"
CHECK_HOST = "cyclegan.pages.visdom.server.login.check_host"
METHODS = ("scalars", "show", "close")


def check_monitors(settings: TrainSettings) -> None:
    """Raises UserError where one of them could not be there, or would stand open to everybody."""
    if _shows_page(settings):
        _side_room(CHECK_HOST)(settings.display_host)
    for term in _others(settings):
        if term.name in OTHERS and importlib.util.find_spec(term.name) is None:
            raise UserError(
                f"--monitor {term.name} needs a package of its own: pip install {term.name}"
            )
        factory = parts.find(term, OTHERS)
        if missing := [name for name in METHODS if not callable(getattr(factory, name, None))]:
            raise UserError(
                f"--monitor {term.name} has no {' and no '.join(missing)}: a monitor is a class "
                f"with the methods {', '.join(METHODS)}"
            )


def build_monitors(settings: TrainSettings, console: Console, *, first_step: int = 0) -> Monitors:
    """The console, the files in the run's folder, and whoever else is to be told."""
    run_dir, say = settings.run_dir, console.say
    title = f"{settings.name} ({settings.preset})"
    files = Files(run_dir, title=title, steps_per_epoch=console.steps_per_epoch, say=say)
    chosen: list[Monitor] = [console, files]
    if _shows_page(settings):
        page = _side_room(PAGE)(
            env=str(settings.name),
            server=settings.display_server,
            port=settings.display_port,
            host=settings.display_host,
            env_dir=run_dir / "visdom",
            run_dir=run_dir,
            history=each_point(run_dir),
            control=partial(ask, run_dir),
            expected=("swd", "psnr") if settings.evaluate_every else (),
            say=say,
        )
        chosen.append(page)
    for term in _others(settings):
        offered = {"run_dir": run_dir, "settings": settings, "first_step": first_step, "say": say}
        made = parts.build(term, OTHERS, **offered)
        chosen.append(Careful(made, name=term.name, say=say))
    return Monitors(chosen)


class Careful:
    """Another's monitor, which costs one line where it fails, and is then told no more."""

    def __init__(self, monitor: Monitor, *, name: str, say: Callable[[str], None]) -> None:
        self.monitor: Monitor | None = monitor
        self.name = name
        self.say = say

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._try(lambda monitor: monitor.scalars(step, values))

    def show(self, step: int, exhibit: Exhibit) -> None:
        own = exhibit.copy() if isinstance(exhibit, Preview) else exhibit
        self._try(lambda monitor: monitor.show(step, own))

    def close(self) -> None:
        self._try(lambda monitor: monitor.close())

    def _try(self, call: Callable[[Monitor], None]) -> None:
        if self.monitor is None:
            return
        try:
            call(self.monitor)
        # Whatever goes wrong there, the training goes on.
        except (Exception, SystemExit) as error:
            self.say(f"warning: --monitor {self.name}: {explain(error)}; it is told no more")
            self.monitor = None


def _side_room(path: str) -> Callable[..., Any]:
    return parts.find(expressions.Term(path), {})


def _shows_page(settings: TrainSettings) -> bool:
    return "visdom" in [term.name for term in settings.monitor] and settings.display_id > 0


def _others(settings: TrainSettings) -> list[expressions.Term]:
    ours = ("visdom", "files", NO_MONITOR)
    return [term for term in settings.monitor if term.name not in ours]
