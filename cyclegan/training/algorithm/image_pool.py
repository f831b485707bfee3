"""The history of translated images that a discriminator is shown (Shrivastava et al., 2017)."""

from typing import Any

import torch
from torch import Tensor


class ImagePool:
    """Keeps `size` images. While it fills, it stores and returns its input; when full, each image
    of the batch is, with probability 1/2, exchanged for a stored one. Size 0 is the identity.
    """

    def __init__(self, size: int, *, seed: int) -> None:
        self.size = size
        self.images: list[Tensor] = []
        self.generator = torch.Generator().manual_seed(seed)

    def query(self, images: Tensor) -> Tensor:
        """N x C x H x W in, the same shape out; what comes out carries no gradient."""
        if self.size == 0:
            return images.detach()
        return torch.stack([self._exchange(image) for image in images.detach()]).contiguous()

    def _exchange(self, image: Tensor) -> Tensor:
        # A copy, in which NaN is gray and infinity white or black: a step that goes wrong is not to
        # come back in later ones.
        if len(self.images) < self.size:
            self.images.append(image.nan_to_num(0.0, 1.0, -1.0))
            return image
        if torch.rand((), generator=self.generator) <= 0.5:
            return image
        slot = int(torch.randint(self.size, (), generator=self.generator))
        stored, self.images[slot] = self.images[slot], image.nan_to_num(0.0, 1.0, -1.0)
        return stored

    def state_dict(self) -> dict[str, Any]:
        return {"images": self.images, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any], *, device: torch.device) -> None:
        self.images = [image.to(device) for image in state["images"]][: self.size]
        self.generator.set_state(state["generator"].cpu())
