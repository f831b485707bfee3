"""Train a translation between two folders of images: python train.py --dataroot ./data/lr2hr"""

import sys

from cyclegan.allocator import share_freed_memory
from cyclegan.command_line import train_settings
from cyclegan.errors import one_line_errors


def main() -> int:
    settings = train_settings(sys.argv[1:])
    share_freed_memory()
    # Torch takes seconds to import: --help and a mistyped option answer before it.
    from cyclegan.training.trainer import Trainer

    return Trainer(settings).fit()


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
