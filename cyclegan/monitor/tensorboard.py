"""The run on TensorBoard: tensorboard --logdir checkpoints."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from cyclegan.monitor import Artifact, HardImages, Health, Histogram, Histograms, Preview


class TensorBoard:
    """Writes events to <run_dir>/tensorboard; the writer has its own thread."""

    def __init__(self, run_dir: Path, *, first_step: int = 0) -> None:
        # The package is optional, and takes a second to import.
        from torch.utils.tensorboard import SummaryWriter

        self.new_writer = partial(SummaryWriter, run_dir / "tensorboard")
        self.step = first_step
        self.writer = self.new_writer(purge_step=first_step or None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if step < self.step:
            # After a rollback: TensorBoard drops the events of later steps.
            self.writer.close()
            self.writer = self.new_writer(purge_step=step or None)
        self.step = step
        for name, value in values.items():
            if math.isfinite(value):
                self.writer.add_scalar(f"{name.split('_')[0]}/{name}", value, step)

    def show(self, step: int, artifact: Artifact) -> None:
        writer = self.writer
        if isinstance(artifact, Preview):
            pixels = np.asarray(artifact.image.convert("RGB"))
            writer.add_image("preview", pixels, step, dataformats="HWC")
        elif isinstance(artifact, Health):
            writer.add_text("health", _markdown(artifact), step)
        elif isinstance(artifact, Histograms):
            for name, histogram in artifact.by_name.items():
                self._histogram(name, histogram, step)
        elif isinstance(artifact, HardImages):
            for domain, histogram in artifact.spread.items():
                self._histogram(f"cycle_error/{domain}", histogram, step)
            for domain, images in artifact.worst.items():
                rows = [f"| {image.file} | {image.error:.1f} |" for image in images]
                table = "\n".join(["| image | cycle error |", "|---|---|", *rows])
                writer.add_text(f"hard_images/{domain}", table, step)

    def close(self) -> None:
        self.writer.close()

    def _histogram(self, name: str, histogram: Histogram, step: int) -> None:
        counts = np.array(histogram.counts, dtype=np.float64)
        edges = np.linspace(histogram.low, histogram.high, len(counts) + 1)
        middles = (edges[1:] + edges[:-1]) / 2
        self.writer.add_histogram_raw(
            name,
            min=histogram.low,
            max=histogram.high,
            num=int(counts.sum()),
            sum=float(counts @ middles),
            sum_squares=float(counts @ middles**2),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=counts.tolist(),
            global_step=step,
        )


def _markdown(health: Health) -> str:
    alarms = [
        f"- **{alarm.name}** ({alarm.where}): {alarm.saw}. {alarm.means} Try: {alarm.remedy}"
        for alarm in health.alarms
    ]
    return "\n".join([*alarms, *(f"- {line}" for line in health.lines)])
