"""What is told of the networks' layers: how far an update moves them, how their values spread."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cyclegan.runs.artifacts import Histogram, Histograms

# Of each weight so many numbers, evenly spread over it, stand for all.
SAMPLED = 1024
BINS = 64

Samples = dict[str, Tensor]


def samples(networks: Mapping[str, nn.Module]) -> Samples:
    """Of each network some of all its weights, but for biases and norms."""
    return {
        name: torch.cat([_some(w) for w in _weights(network).values()])
        for name, network in networks.items()
        if _weights(network)
    }


def ratios(before: Samples, after: Samples) -> dict[str, float]:
    """`ratio_<network>`: the length of an update over that of the weights (L2, by samples).
    About 0.001 is usual; far below it nothing is learned, far above it all is forgotten.
    """
    moved = {name: torch.linalg.vector_norm(after[name] - before[name]) for name in before}
    lengths = {name: torch.linalg.vector_norm(sample) for name, sample in before.items()}
    return {f"ratio_{name}": float(moved[name] / lengths[name]) for name in before if lengths[name]}


def histograms(
    networks: Mapping[str, nn.Module], images: Mapping[str, Tensor] | None = None
) -> Histograms:
    """Of every layer the weights, the gradients of the last step, and what comes out of it for
    `images`, which are NCHW by the name of the network that is to see them.
    """
    found: dict[str, Histogram] = {}
    for name, network in networks.items():
        for layer, weight in _weights(network).items():
            found[f"weights/{name}/{layer}"] = _histogram(weight)
            if weight.grad is not None:
                found[f"gradients/{name}/{layer}"] = _histogram(weight.grad)
        if images and name in images:
            for layer, output in _outputs(network, images[name]).items():
                found[f"activations/{name}/{layer}"] = _histogram(output)
    return Histograms(found)


def _weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """By the name of the layer."""
    named = network.named_parameters()
    return {name.removesuffix(".weight"): weight for name, weight in named if weight.ndim > 1}


def _some(weight: Tensor) -> Tensor:
    # In the order of memory: in any other, all of it would be copied.
    stride = max(1, weight.numel() // SAMPLED)
    count = weight.numel() // stride
    return weight.detach().as_strided((count,), (stride,), weight.storage_offset()).float()


def _outputs(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    outputs: dict[str, Tensor] = {}
    named = dict(network.named_modules())
    layers = {name: module for name, module in named.items() if _has_weight(module)}
    with _heard(layers, outputs), torch.no_grad():
        network(images)
    return outputs


def _has_weight(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim > 1


@contextmanager
def _heard(layers: Mapping[str, nn.Module], outputs: dict[str, Tensor]) -> Iterator[None]:
    def hear(name: str) -> object:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                outputs[name] = output.detach()

        return layers[name].register_forward_hook(hook)

    handles = [hear(name) for name in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]


def _histogram(values: Tensor) -> Histogram:
    values = values.detach().float()
    values = values[values.isfinite()]
    if not values.numel():
        return Histogram((0,) * BINS, 0.0, 0.0)
    low, high = (float(each) for each in values.aminmax())
    counts = torch.histc(values, BINS, low, high)
    return Histogram(tuple(int(count) for count in counts.tolist()), low, high)
