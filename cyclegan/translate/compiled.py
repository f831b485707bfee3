"""A compiled network for images of a few sizes, which falls back where it cannot be compiled."""

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.nn import functional

from cyclegan.config.errors import short
from cyclegan.networks.execution import Running

Size = tuple[int, int]
Say = Callable[[str], object]


class Compiled:
    """Each size is compiled once, for batches of the number that `sizes` gives: a shorter batch is
    filled up with black images, so that nothing is compiled for it.
    """

    def __init__(self, running: Running, sizes: Mapping[Size, int], *, say: Say) -> None:
        self.running = running
        self.sizes = dict(sizes)
        self.say = say
        self.ready: set[Size] = set()

    def __call__(
        self, images: Tensor, size: Size, *, otherwise: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """N x 3 x H x W, made of images of this size; `otherwise` is the network uncompiled."""
        if size not in self.ready:
            sides = f"{size[0]}x{size[1]} px"
            self.say(f"compiling for images of {sides}; what was compiled before is found again")
            self.ready.add(size)
        missing = self.sizes[size] - len(images)
        try:
            filled = functional.pad(images, (0, 0) * 3 + (0, missing), value=-1.0)
            translated: Tensor = self.running(filled)[: len(images)]
            return translated
        # A compiler, and what it builds on, may fail in any way.
        except Exception as error:
            problem = short(next(iter(str(error).splitlines()), type(error).__name__), most=200)
        # Past the handler: the error's frames hold memory. What is no fault of the compiler's, as
        # too large an image, is raised again here.
        translated = otherwise(images)
        self.sizes.clear()
        self.say(f"warning: this cannot be compiled, and goes on uncompiled: {problem}")
        return translated
