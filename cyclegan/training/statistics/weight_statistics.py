"""Update-to-weight ratios of the networks, and histograms of their layers."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cyclegan.runs.artifacts import Histogram, Histograms

# Number of evenly spaced entries sampled from each weight tensor.
NUM_SAMPLED = 1024
BINS = 64

Samples = dict[str, Tensor]


def sample_weights(networks: Mapping[str, nn.Module]) -> Samples:
    """A sample of each network's weights; biases and norms are left out."""
    return {
        name: torch.cat([_some(w) for w in _weights(network).values()])
        for name, network in networks.items()
        if _weights(network)
    }


def update_ratios(before: Samples, after: Samples) -> dict[str, float]:
    """`ratio_<network>`: the L2 norm of an update over that of the weights, from samples. About
    0.001 is usual; far below it the network learns nothing, far above it it is unstable.
    """
    updates = {name: torch.linalg.vector_norm(after[name] - before[name]) for name in before}
    norms = {name: torch.linalg.vector_norm(sample) for name, sample in before.items()}
    return {f"ratio_{name}": float(updates[name] / norms[name]) for name in before if norms[name]}


def histograms(
    networks: Mapping[str, nn.Module], images: Mapping[str, Tensor] | None = None
) -> Histograms:
    """Histograms of the weights and the last gradients of every layer, and of the layer's outputs
    for `images`, which are NCHW by the name of the network.
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
    """The weights by the names of their layers."""
    named = network.named_parameters()
    return {name.removesuffix(".weight"): weight for name, weight in named if weight.ndim > 1}


def _some(weight: Tensor) -> Tensor:
    # In memory order: any other would copy the whole tensor.
    stride = max(1, weight.numel() // NUM_SAMPLED)
    count = weight.numel() // stride
    return weight.detach().as_strided((count,), (stride,), weight.storage_offset()).float()


def _outputs(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The outputs of the layers that have weights."""
    outputs: dict[str, Tensor] = {}

    def record(name: str, output: object) -> None:
        if isinstance(output, Tensor):
            outputs[name] = output.detach()

    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: record(name, output))
        for name, module in network.named_modules()
        if isinstance(weight := getattr(module, "weight", None), Tensor) and weight.ndim > 1
    ]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def _histogram(values: Tensor) -> Histogram:
    values = values.detach().float()
    values = values[values.isfinite()]
    if not values.numel():
        return Histogram((0,) * BINS, 0.0, 0.0)
    low, high = (float(each) for each in values.aminmax())
    counts = torch.histc(values, BINS, low, high)
    return Histogram(tuple(int(count) for count in counts.tolist()), low, high)
