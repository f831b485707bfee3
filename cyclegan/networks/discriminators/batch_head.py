"""A patch discriminator whose head knows a batch's statistics (UVCGANv2, Torbunov et al., 2023)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cyclegan.config.checks import check_count
from cyclegan.networks.discriminators.patchgan import bound, patch_body, patch_min_size


class BatchHeadDiscriminator(nn.Module):
    """NCHW in [-1, 1] to one logit a patch, N x 1 x h x w, in the light of other images.

    The head norms the features by their statistics over the batch and over the last few images of
    the same kind, real or translated: a batch of one is judged as part of a larger one, and a lack
    of variety shows. The statistics are those of the moment in evaluation, too.

    Args:
        channels: width after the first layer; it doubles up to 8 times.
        layers: number of halvings.
        norm: spectral, instance, batch or none, of the patch body; the head norms by itself.
        queue_size: images remembered of each kind; 0 for the batch alone.
    """

    # Callers say which kind a batch is of: `real=`.
    keeps_queues = True

    def __init__(
        self,
        channels: int = 64,
        *,
        layers: int = 3,
        norm: str = "spectral",
        queue_size: int = 3,
    ) -> None:
        super().__init__()
        check_count("queue_size", queue_size, least=0)
        body, width = patch_body(channels, layers, norm)
        self.min_size = patch_min_size(layers)
        self.body = nn.Sequential(*body)
        if norm == "spectral":
            bound(self.body)
        self.real_queue = FeatureQueue(queue_size, width)
        self.fake_queue = FeatureQueue(queue_size, width)
        self.norm = nn.BatchNorm2d(width, track_running_stats=False)
        self.head = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, 1, 3, padding=1),
        )

    def forward(self, image: Tensor, *, real: bool = False) -> Tensor:
        """Remembers the images where the discriminator itself learns from them: not in the
        generators' step, not for a penalty, not in evaluation.
        """
        queue = self.real_queue if real else self.fake_queue
        features = self.body(image)
        together = self.norm(queue(features))
        if self._learns_from(image):
            queue.push(features)
        logits: Tensor = self.head(together[: len(image)])
        return logits

    def _learns_from(self, image: Tensor) -> bool:
        return (
            self.training
            and torch.is_grad_enabled()
            and not image.requires_grad
            and all(parameter.requires_grad for parameter in self.parameters())
        )


class FeatureQueue(nn.Module):
    """The features of the last `size` images, oldest first, as a buffer of the state dict.

    The buffer is as long as the queue is filled, and as high and wide as what came last: a state
    dict tells both, and is loaded into a queue of any filling.
    """

    features: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("features", torch.zeros(0, channels, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """NCHW features, and after them the remembered ones if their height and width agree."""
        features = features.to(self.features.dtype)
        return torch.cat([features, self.features]) if self._fit(features) else features

    @torch.no_grad()
    def push(self, features: Tensor) -> None:
        """Remembers a batch in place of the oldest; another height or width starts anew."""
        features = features.to(self.features.dtype)
        together = torch.cat([self.features, features]) if self._fit(features) else features
        # A tensor of its own, which neither changes what autograd has kept of the old one, nor
        # keeps the whole batch alive.
        self.features = together[max(0, len(together) - self.size) :].detach().clone()

    def _fit(self, features: Tensor) -> bool:
        return self.features.shape[2:] == features.shape[2:]

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        saved = state_dict.get(f"{prefix}features")
        # A longer queue, or features of another width, are left for torch to refuse.
        if isinstance(saved, Tensor) and saved.ndim == 4 and len(saved) <= self.size:
            self.features = self.features.new_zeros(len(saved), *self._sides(saved))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _sides(self, saved: Tensor) -> tuple[int, int, int]:
        return self.features.shape[1], saved.shape[2], saved.shape[3]
