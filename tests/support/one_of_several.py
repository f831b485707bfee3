"""Run by torchrun: trains in float64, as one of several processes and then alone, for each case
of options; writes the largest difference of a weight, a line a case.
"""

import json
import sys

import torch

from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.data.loading.sampler import StepBatchSampler
from cyclegan.hardware.distributed import ProcessGroup
from cyclegan.losses.weighted import Clock
from support.steps import build_model, build_step

STEPS = 20
SMALL = {
    "dataroot": "unused",
    "name": "unused",
    "generator": "resnet(blocks=1)",
    "discriminator": "patch(layers=1)",
    **{"ngf": 4, "ndf": 4, "batch_size": 4, "pool_size": 0},
}


def trained(settings: TrainSettings, process_group: ProcessGroup, images_per_epoch: int) -> dict:
    torch.manual_seed(0)
    model = build_model(settings).double()
    stepper = build_step(model, settings, process_group=process_group)
    sampler = StepBatchSampler(
        images_per_epoch,
        images_per_step=settings.images_per_step,
        accumulate=settings.accumulate,
        rank=process_group.rank,
        world_size=process_group.size,
    )
    random = torch.Generator().manual_seed(1)
    position = 0
    for step in range(STEPS):
        count = sampler.step_size(position)
        drawn = torch.rand(2, count, 3, 16, 16, generator=random, dtype=torch.float64) * 2 - 1
        shares = sampler.micro_batches(position)
        own = [place for share in shares for place in range(share.start, share.stop)]
        short = count < settings.images_per_step
        stepper(*drawn[:, own], Clock(step, step / STEPS), shares if short else None)
        position += count
    return model.state_dict()


def main() -> None:
    process_group = ProcessGroup.from_env()
    process_group.join(torch.device("cpu"))
    for options, images_per_epoch in json.loads(sys.argv[1]):
        settings = check(TrainSettings, {**SMALL, **options})
        together = trained(settings, process_group, images_per_epoch)
        if process_group.is_main:
            alone = trained(settings, ProcessGroup(), images_per_epoch)
            apart = max(float((alone[key] - together[key]).abs().max()) for key in alone)
            sys.stdout.write(f"{apart}\n")
    process_group.leave()


if __name__ == "__main__":
    main()
