"""Contrastive loss between patches of a source image and of its translation."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclegan.config.checks import check_count, check_flag, check_number
from cyclegan.networks.layers import initialize

# Side in pixels of the image that an encoder is given to find its numbers of channels: large
# enough for every layer.
PROBE_SIDE = 64
# Upper bound of `patches` and `channels`.
MAX_COUNT = 65536
MIN_TEMPERATURE = 1e-4


class PatchNCE(nn.Module):
    """InfoNCE of patches: the features of a patch of the translation must be nearer to those of the
    same patch of the source than to those of other patches of that image (CUT, Park et al., 2020,
    eq. 3): -log(exp(q k+ / T) / sum_k exp(q k / T)), q and k of length 1, averaged over patches and
    layers. It is log(patches) if the features tell nothing apart, 0 at best.

    The encoder is the first half of the generator that makes the translation. With dual=True the
    translation goes through the other generator's encoder, that of its own domain (DCLGAN, Han et
    al., 2021, eq. 3 and 4). Each layer's features pass a head of two linear layers; the heads learn
    with the generators. Source and translation must have the same size.

    Args:
        layers: indices of the encoder's layers; none for the generator's own choice of about five.
        patches: locations drawn per image and layer; all of them if there are fewer.
        temperature: T; the lower, the more the hardest negatives count.
        channels: width and output of the heads.
        dual: whether each domain has an encoder of its own.
    """

    # WeightedLosses neither freezes it nor sets it to evaluation.
    trainable = True

    def __init__(
        self,
        *,
        layers: Sequence[int] | int | None = None,
        patches: int = 256,
        temperature: float = 0.07,
        channels: int = 256,
        dual: bool = False,
    ) -> None:
        super().__init__()
        self.layers = _indices(layers)
        self.patches = check_count("patches", patches, least=2, most=MAX_COUNT)
        self.channels = check_count("channels", channels, most=MAX_COUNT)
        self.temperature = check_number("temperature", temperature, least=MIN_TEMPERATURE)
        self.dual = check_flag("dual", dual)
        self.heads = nn.ModuleDict()

    def prepare(self, generators: nn.ModuleDict, domains: Sequence[str]) -> None:
        """Makes the heads for translations into these domains, so that they learn from the first
        step; raises ValueError if a generator has no encoder, or not those layers.
        """
        used = {name for domain in domains for name in self._encoders(domain)}
        for name in sorted(used):
            if name not in self.heads:
                self.heads[name] = self._make_heads(name, generators[name])

    def forward(
        self, generators: nn.ModuleDict, domain: str, source: Tensor, translation: Tensor
    ) -> Tensor:
        """N x 3 x H x W images; `domain` is that of the translation, A or B."""
        of_source, of_translation = self._encoders(domain)
        with torch.no_grad():
            keys = self._features(generators[of_source], source)
        queries = self._features(generators[of_translation], translation)
        losses = []
        heads = zip(*(self.heads[n].children() for n in (of_translation, of_source)), strict=True)
        for query, key, (query_head, key_head) in zip(queries, keys, heads, strict=True):
            count = query.shape[-2] * query.shape[-1]
            locations = torch.randperm(count, device=query.device)[: self.patches]
            # The translation must resemble the source, never the other way round.
            with torch.no_grad():
                wanted = _embed(key, locations, key_head)
            losses.append(self._cross_entropy(_embed(query, locations, query_head), wanted))
        return torch.stack(losses).mean()

    def _encoders(self, domain: str) -> tuple[str, str]:
        """The generators whose encoders see the source and the translation."""
        forward, back = ("G_AB", "G_BA") if domain == "B" else ("G_BA", "G_AB")
        return forward, back if self.dual else forward

    def _make_heads(self, name: str, generator: nn.Module) -> nn.ModuleList:
        if not hasattr(generator, "encode"):
            raise ValueError(
                f"generator {name} ({type(generator).__name__}) has no encoder to take features "
                "from: use one that has, such as resnet"
            )
        parameter = next(generator.parameters())
        side = math.lcm(int(getattr(generator, "size_multiple", 1)), PROBE_SIDE)
        was_training = generator.training
        # In training mode the probe would count in the statistics of batch norms.
        generator.eval()
        with torch.no_grad():
            features = self._features(generator, parameter.new_zeros(1, 3, side, side))
        generator.train(was_training)
        heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(feature.shape[1], self.channels),
                nn.ReLU(),
                nn.Linear(self.channels, self.channels),
            )
            for feature in features
        )
        initialize(heads)
        return heads.to(parameter.device, parameter.dtype)

    def _features(self, generator: nn.Module, image: Tensor) -> list[Tensor]:
        features: list[Tensor] = generator.encode(image, self.layers)  # type: ignore[operator]
        return features

    def _cross_entropy(self, queries: Tensor, keys: Tensor) -> Tensor:
        """N x P x C of length 1: the same patch is the positive, others of its image negatives."""
        similarity = queries @ keys.transpose(1, 2) / self.temperature
        positive = torch.arange(similarity.shape[1], device=similarity.device)
        return functional.cross_entropy(
            similarity.flatten(0, 1), positive.repeat(similarity.shape[0])
        )


def _embed(features: Tensor, locations: Tensor, head: nn.Module) -> Tensor:
    """N x C x h x w to N x P x channels of length 1, in float32 also under autocast."""
    patches = features.flatten(2)[..., locations].transpose(1, 2)
    with torch.autocast(features.device.type, enabled=False):
        embedded = head(patches.to(next(head.parameters()).dtype))
        return functional.normalize(embedded, dim=-1)


def _indices(layers: Sequence[int] | int | None) -> list[int] | None:
    if layers is None:
        return None
    chosen: list[int] = [layers] if isinstance(layers, int) else list(layers)
    if not chosen or not all(isinstance(layer, int) and layer >= 0 for layer in chosen):
        raise ValueError(f"layers={layers} must be a list of indices, as layers=[0,4,7,10,14]")
    return chosen
