"""A patch discriminator with batch statistics in its head (UVCGANv2, Torbunov et al., 2023)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cyclegan.config.checks import check_count
from cyclegan.networks.discriminators.patchgan import (
    apply_spectral_norm,
    patch_body,
    patch_min_size,
)


class BatchHeadDiscriminator(nn.Module):
    """NCHW in [-1, 1] to one logit per patch, N x 1 x h x w, which depends on other images too.

    The head normalizes the features by their statistics over the batch and the last few images of
    the same kind, real or translated. A batch of one is thus judged as part of a larger one, and a
    lack of variety shows. In evaluation the statistics are computed in the same way.

    Args:
        channels: width after the first layer; it doubles up to 8 times.
        layers: number of halvings.
        norm: spectral, instance, batch or none, in the layers before the head.
        queue_size: number of stored images of each kind; 0 uses the batch alone.
    """

    # Callers pass `real=`, the kind of the batch.
    keeps_queues = True

    def __init__(
        self, channels: int = 64, *, layers: int = 3, norm: str = "spectral", queue_size: int = 3
    ) -> None:
        super().__init__()
        check_count("queue_size", queue_size, least=0)
        body, width = patch_body(channels, layers, norm)
        self.min_size = patch_min_size(layers)
        self.body = nn.Sequential(*body)
        if norm == "spectral":
            apply_spectral_norm(self.body)
        self.real_queue = FeatureQueue(queue_size, width)
        self.fake_queue = FeatureQueue(queue_size, width)
        self.norm = nn.BatchNorm2d(width, track_running_stats=False)
        self.head = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, 1, 3, padding=1),
        )

    def forward(self, image: Tensor, *, real: bool = False) -> Tensor:
        """Stores the features if the discriminator itself is trained on the images: not in the
        generators' step, for a penalty or in evaluation.
        """
        queue = self.real_queue if real else self.fake_queue
        features = self.body(image)
        normed = self.norm(queue(features))
        if self._is_trained_on(image):
            queue.push(features)
        logits: Tensor = self.head(normed[: len(image)])
        return logits

    def _is_trained_on(self, image: Tensor) -> bool:
        return (
            self.training
            and torch.is_grad_enabled()
            and not image.requires_grad
            and all(parameter.requires_grad for parameter in self.parameters())
        )


class FeatureQueue(nn.Module):
    """The features of the last `size` images, oldest first, as a buffer of the state dict.

    The buffer is as long as the queue is filled, and as high and wide as the last features. A state
    dict can be loaded into a queue of any length and size of features.
    """

    features: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("features", torch.zeros(0, channels, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """NCHW features followed by the stored ones, if their height and width agree."""
        features = features.to(self.features.dtype)
        fits = self.features.shape[2:] == features.shape[2:]
        return torch.cat([features, self.features]) if fits else features

    @torch.no_grad()
    def push(self, features: Tensor) -> None:
        """Stores a batch in place of the oldest; another height or width starts a new queue."""
        features = features.to(self.features.dtype)
        fits = self.features.shape[2:] == features.shape[2:]
        queue = torch.cat([self.features, features]) if fits else features
        # A copy: it neither changes what autograd has saved of the old tensor nor keeps the whole
        # batch in memory.
        self.features = queue[max(0, len(queue) - self.size) :].detach().clone()

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        saved = state_dict.get(f"{prefix}features")
        # A longer queue, or features of another width, are refused by torch.
        if isinstance(saved, Tensor) and saved.ndim == 4 and len(saved) <= self.size:
            shape = len(saved), self.features.shape[1], *saved.shape[2:]
            self.features = self.features.new_zeros(shape)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
