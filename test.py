"""Translate images with a trained run: python test.py --name lr2hr --input photos/"""

import sys

from cyclegan.config.command_line import translate_settings
from cyclegan.config.errors import one_line_errors


def main() -> int:
    settings = translate_settings(sys.argv[1:])
    # Torch takes seconds to import: --help and a mistyped option answer before it.
    from cyclegan.translate.command import TranslateCommand

    return TranslateCommand(settings).run()


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
