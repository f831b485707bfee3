"""The run for Weights & Biases, under the run's name."""

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from cyclegan.config.train_options import TrainSettings
from cyclegan.runs.artifacts import (
    Alarm,
    Exhibit,
    HardImages,
    Health,
    Histogram,
    Histograms,
    Preview,
)


class WandB:
    """Logs by wandb's own process. Without a login it writes to <run_dir>/wandb alone."""

    def __init__(
        self, run_dir: Path, *, settings: TrainSettings, say: Callable[[str], None] = print
    ) -> None:
        import wandb

        self.wandb = wandb
        mode = None
        if not os.environ.get("WANDB_MODE") and not wandb.login(prompt=False):
            mode = "offline"
            say(f"wandb: nobody is logged in, so it writes to {run_dir / 'wandb'}: wandb sync")
        (run_dir / "wandb").mkdir(exist_ok=True)
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "cyclegan"),
            name=settings.name,
            dir=run_dir,
            mode=mode,  # type: ignore[arg-type]
            config=settings.model_dump(mode="json"),
            settings=wandb.Settings(console="off", silent=True, save_code=False),
        )
        # Its own steps may only rise; a run that goes back tells earlier ones again.
        self.run.define_metric("*", step_metric="step")
        self.alarms: set[Alarm] = set()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self.run.log({"step": step, **finite})

    def show(self, step: int, exhibit: Exhibit) -> None:
        if isinstance(exhibit, Preview):
            self.run.log({"step": step, "preview": self.wandb.Image(exhibit.image)})
        elif isinstance(exhibit, Histograms):
            self.run.log({"step": step, **self._spread(exhibit.of)})
        elif isinstance(exhibit, HardImages):
            worst = {
                f"hard_images_{domain}": [
                    self.wandb.Image(image.thumbnail, caption=f"{image.error:.1f}: {image.file}")
                    for image in images
                ]
                for domain, images in exhibit.worst.items()
            }
            spread = {f"cycle_error_{d}": found for d, found in exhibit.spread.items()}
            self.run.log({"step": step, **worst, **self._spread(spread)})
        elif isinstance(exhibit, Health):
            self._alert(exhibit)

    def close(self) -> None:
        self.run.finish()

    def _alert(self, health: Health) -> None:
        before = {(alarm.name, alarm.where) for alarm in self.alarms}
        for alarm in health.alarms:
            if (alarm.name, alarm.where) not in before:
                text = f"{alarm.saw}. {alarm.means} Try: {alarm.remedy}"
                self.run.alert(f"{alarm.name} ({alarm.where})", text)
        self.alarms = set(health.alarms)

    def _spread(self, histograms: Mapping[str, Histogram]) -> dict[str, object]:
        def converted(histogram: Histogram) -> object:
            edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
            return self.wandb.Histogram(np_histogram=(list(histogram.counts), edges.tolist()))

        return {name: converted(histogram) for name, histogram in histograms.items()}
