"""The run on Weights & Biases, under the run's name."""

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cyclegan.monitor import Artifact, HardImages, Health, Histogram, Histograms, Preview
from cyclegan.runs.folder import read_settings

logger = logging.getLogger(__name__)


class WandB:
    """Logs by wandb's own process; without a login, only to <run_dir>/wandb."""

    def __init__(self, run_dir: Path) -> None:
        import wandb

        self.wandb = wandb
        mode = None
        if not os.environ.get("WANDB_MODE") and not wandb.login(prompt=False):
            mode = "offline"
            folder = run_dir / "wandb"
            logger.info("wandb: nobody is logged in, so it writes to %s: wandb sync", folder)
        (run_dir / "wandb").mkdir(exist_ok=True)
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "cyclegan"),
            name=run_dir.name,
            dir=run_dir,
            mode=mode,  # type: ignore[arg-type]
            config=read_settings(run_dir),
            settings=wandb.Settings(console="off", silent=True, save_code=False),
        )
        # wandb's own steps cannot go back, as ours do after a rollback.
        self.run.define_metric("*", step_metric="step")
        self.alarms: set[tuple[str, str]] = set()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self.run.log({"step": step, **finite})

    def show(self, step: int, artifact: Artifact) -> None:
        if isinstance(artifact, Health):
            self._alert(artifact)
            return
        logged: dict[str, object] = {}
        if isinstance(artifact, Preview):
            logged["preview"] = self.wandb.Image(artifact.image)
        elif isinstance(artifact, Histograms):
            logged |= {name: self._histogram(found) for name, found in artifact.by_name.items()}
        elif isinstance(artifact, HardImages):
            for domain, histogram in artifact.spread.items():
                logged[f"cycle_error_{domain}"] = self._histogram(histogram)
            for domain, images in artifact.worst.items():
                logged[f"hard_images_{domain}"] = [
                    self.wandb.Image(image.thumbnail, caption=f"{image.error:.1f}: {image.file}")
                    for image in images
                ]
        self.run.log({"step": step, **logged})

    def close(self) -> None:
        self.run.finish()

    def _alert(self, health: Health) -> None:
        """Sends the alarms that are new."""
        alarms = {(alarm.name, alarm.where): alarm for alarm in health.alarms}
        for key in alarms.keys() - self.alarms:
            alarm = alarms[key]
            text = f"{alarm.saw}. {alarm.means} Try: {alarm.remedy}"
            self.run.alert(f"{alarm.name} ({alarm.where})", text)
        self.alarms = set(alarms)

    def _histogram(self, histogram: Histogram) -> object:
        edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
        return self.wandb.Histogram(np_histogram=(np.array(histogram.counts), edges))
