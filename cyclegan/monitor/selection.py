"""The monitors that --monitor names."""

import importlib.util
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping

from cyclegan.config import parts
from cyclegan.config.errors import UserError, explain
from cyclegan.config.expressions import Term
from cyclegan.config.value_types import NO_MONITOR
from cyclegan.monitor import Artifact, Monitor, Monitors, Preview

# Each is imported when it is chosen. The live page is a side room, the others need packages.
MONITORS = {
    "visdom": "cyclegan.pages.visdom.monitor.VisdomMonitor",
    "tensorboard": "cyclegan.monitor.tensorboard.TensorBoard",
    "wandb": "cyclegan.monitor.wandb.WandB",
}
CHECK_HOST = Term("cyclegan.pages.visdom.server.login.check_host")
METHODS = ("scalars", "show", "close")

logger = logging.getLogger(__name__)


def check_monitors(terms: Iterable[Term], *, page_host: str) -> None:
    """Raises UserError if a monitor is not there, or if its page would be open to everybody."""
    for term in _chosen(terms):
        if term.name == "visdom":
            parts.find(CHECK_HOST, {})(page_host)
        elif term.name in MONITORS and importlib.util.find_spec(term.name) is None:
            raise UserError(
                f"--monitor {term.name} needs a package of its own: pip install {term.name}"
            )
        factory = parts.find(term, MONITORS)
        if missing := [name for name in METHODS if not callable(getattr(factory, name, None))]:
            raise UserError(
                f"--monitor {term.name} has no {' and no '.join(missing)}: a monitor is a class "
                f"with the methods {', '.join(METHODS)}"
            )


def build_monitors(
    terms: Iterable[Term],
    always: Iterable[Monitor],
    *,
    page_options: Mapping[str, object],
    offered: Mapping[str, object],
) -> Monitors:
    """`always`, and the monitors that the terms name.

    The live page gets `page_options`; any other monitor gets those of the `offered` keywords that
    its constructor accepts.
    """
    monitors = list(always)
    for term in _chosen(terms):
        if term.name == "visdom":
            monitors.append(parts.build(term, MONITORS, **page_options))
        else:
            monitor = parts.build(term, MONITORS, **offered)
            monitors.append(FailSafeMonitor(monitor, name=term.name))
    return Monitors(monitors)


class FailSafeMonitor:
    """Wraps a monitor. If that raises, one warning is logged, and it is called no more."""

    def __init__(self, monitor: Monitor, *, name: str) -> None:
        self.monitor: Monitor | None = monitor
        self.name = name

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._try(lambda monitor: monitor.scalars(step, values))

    def show(self, step: int, artifact: Artifact) -> None:
        # A monitor may resize its picture, or draw on it.
        own = artifact.copy() if isinstance(artifact, Preview) else artifact
        self._try(lambda monitor: monitor.show(step, own))

    def close(self) -> None:
        self._try(lambda monitor: monitor.close())

    def _try(self, call: Callable[[Monitor], None]) -> None:
        if self.monitor is None:
            return
        try:
            call(self.monitor)
        except (Exception, SystemExit) as error:
            logger.warning("--monitor %s: %s; it is told no more", self.name, explain(error))
            self.monitor = None


def _chosen(terms: Iterable[Term]) -> Iterator[Term]:
    return (term for term in terms if term.name not in ("files", NO_MONITOR))
