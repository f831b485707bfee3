"""A run with every part built and checked; nothing has been written yet."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from cyclegan.data.loading.dataset import UnpairedImages
from cyclegan.data.loading.sampler import StepBatchSampler
from cyclegan.evaluation.compare import TranslationMetrics
from cyclegan.hardware.distributed import ProcessGroup
from cyclegan.monitor import Monitors
from cyclegan.monitor.console import Console
from cyclegan.networks.execution import ExecutionPlan
from cyclegan.runs.checkpoints import CheckpointWriter
from cyclegan.runs.folder import RunFolder
from cyclegan.training.intervals import Intervals
from cyclegan.training.state import RunState
from cyclegan.training.statistics.fixed_samples import FixedSamples
from cyclegan.translate.translator import Translator


@dataclass
class Run:
    """What the trainer works with.

    data_lines, device_line: the introduction. said: what was logged while the run was built.
    changes: the options that a continued run has other values of. time_limit: in seconds. The
    callables open what must not be opened before the run's folder is claimed.
    """

    run_dir: Path
    device: torch.device
    process_group: ProcessGroup
    plan: ExecutionPlan
    dataset: UnpairedImages
    sampler: StepBatchSampler
    state: RunState
    fixed_samples: FixedSamples
    intervals: Intervals
    writer: CheckpointWriter
    data_lines: list[str]
    device_line: str
    continues: bool
    dry_run: bool
    quiet: bool
    num_threads: int
    time_limit: float | None
    continue_command: str
    translate_command: str
    open_folder: Callable[[], RunFolder]
    open_monitors: Callable[[Console], Monitors]
    open_cache: Callable[[], UnpairedImages]
    compare: Callable[[Translator], TranslationMetrics | None]
    said: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
