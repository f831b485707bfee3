"""Train a translation between two folders of images: python train.py --dataroot ./data/lr2hr"""

import sys

from cyclegan.config.command_line import train_settings
from cyclegan.config.errors import one_line_errors
from cyclegan.hardware.allocator import share_freed_memory


def main() -> int:
    settings = train_settings(sys.argv[1:])
    share_freed_memory()
    # Torch takes seconds to import: --help and a mistyped option answer before it.
    from cyclegan.training.build.build_run import RunBuilder
    from cyclegan.training.trainer import Trainer

    return Trainer(RunBuilder(settings).build()).fit()


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
