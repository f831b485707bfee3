"""3x3 convolution with fewer multiplications, for training on the CPU: Winograd's F(4x4, 3x3)."""

from collections.abc import Iterator
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# Lavin & Gray (2016), section 4.3: Y = A^T [(G g G^T) * (B^T d B)] A, for tiles d of 6x6 pixels.
B_T = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
A_T = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))

# Tiles are processed in chunks of about this many numbers, so that the temporaries stay in the
# cache and the allocator keeps their memory instead of returning it to the system.
CHUNK = 2_400_000

# (channels, tiles): below, the transforms cost more than the saved multiplications.
FASTER_FROM = ((256, 64), (128, 256))


def conv3x3(padded: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`functional.conv2d` of a padded input and a 3x3 kernel with stride 1.

    N x C x (H + 2) x (W + 2), O x C x 3 x 3 and O to N x O x H x W, in the input's memory format.
    In float32 its error is about three times the direct convolution's, up to 1e-5 of the largest
    output. Second derivatives are those of the direct convolution.
    """
    output: Tensor = _Winograd.apply(padded, weight)
    return output if bias is None else output + bias[:, None, None]


class WinogradConv2d(nn.Conv2d):
    """`nn.Conv2d(in_channels, out_channels, 3, bias=bias)`, on the CPU by Winograd's algorithm if
    that is faster.
    """

    # False selects the direct convolution.
    winograd: bool = True

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 3, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        if self.winograd and is_faster(input, self.weight):
            return conv3x3(input, self.weight, self.bias)
        return super().forward(input)


def is_faster(padded: Tensor, weight: Tensor) -> bool:
    """Whether `conv3x3` is both applicable and faster: with enough channels and pixels."""
    if not is_eager_float32_on_cpu(padded, weight):
        return False
    tiles = len(padded) * (padded.shape[2] - 2) * (padded.shape[3] - 2) // 16
    width = min(weight.shape[:2])
    return any(width >= channels and tiles >= least for channels, least in FASTER_FROM)


def is_eager_float32_on_cpu(padded: Tensor, weight: Tensor) -> bool:
    """Whether a convolution runs on the CPU in float32, not compiled, traced or under autocast."""
    if padded.ndim != 4 or padded.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    if padded.dtype != torch.float32 or weight.dtype != torch.float32:
        return False
    return not (torch.compiler.is_compiling() or torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]


class _Winograd(torch.autograd.Function):
    """The convolution without its bias. The 36 pixels of a tile are rows of C numbers: transforms
    are matrix products over a tile, and sums over C are matrix products over a pixel of all tiles.
    """

    @staticmethod
    def forward(ctx: Any, padded: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(padded, weight)
        images = _pad_to_tiles(padded)
        rows, columns = images.shape[1] - 2, images.shape[2] - 2
        output = _empty_like(padded, weight.shape[0], rows, columns)
        kernels, a_t, b_t = _transform_kernels(weight), _kron(A_T, weight), _kron(B_T, weight)
        for tiles, squares, _ in _chunks(images, output.permute(0, 2, 3, 1)):
            _store(squares, a_t, _sum_channels(_transform(b_t, _flatten(tiles)), kernels.mT))
        cropped = output[:, :, : padded.shape[2] - 2, : padded.shape[3] - 2]
        return cropped.contiguous(memory_format=_memory_format(output))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        padded, weight = ctx.saved_tensors
        wants_input, wants_weight = ctx.needs_input_grad
        # Enabled if this gradient is to be differentiated. In-place writes have no graph, and
        # once_differentiable would drop the derivative silently if `grad` is constant.
        if torch.is_grad_enabled():
            steps = [1, 1], [0, 0], [1, 1], False, [0, 0], 1
            wanted = (wants_input, wants_weight, False)
            backward = torch.ops.aten.convolution_backward
            direct = backward(grad, padded, weight, None, *steps, wanted)
            return direct[0], direct[1]
        images = _pad_to_tiles(padded)
        rows, columns = images.shape[1] - 2, images.shape[2] - 2
        more = (0, columns - grad.shape[3], 0, rows - grad.shape[2])
        grads = (functional.pad(grad, more) if any(more) else grad).permute(0, 2, 3, 1)
        kernels, a_t, b_t = _transform_kernels(weight), _kron(A_T, weight), _kron(B_T, weight)
        grad_kernels = torch.zeros_like(kernels) if wants_weight else None
        # Two rows and columns more, so that every tile covers whole squares of 4x4.
        size = (len(images), rows + 4, columns + 4, images.shape[3]) if wants_input else (0,)
        grad_images = images.new_zeros(size)
        for tiles, squares, index in _chunks(images, grads):
            grad_sums = _transform(a_t.T, _flatten(squares))
            if grad_kernels is not None:
                # The transform is recomputed: stored, it would be twice the input's size.
                pixels = _transform(b_t, _flatten(tiles))
                grad_kernels.baddbmm_(grad_sums.permute(1, 2, 0), pixels.transpose(0, 1))
            if wants_input:
                grad_tiles = _transform(b_t.T, _sum_channels(grad_sums, kernels))
                _add_tiles(grad_images[index], grad_tiles)
        grad_weight = None if grad_kernels is None else _kernel_gradient(grad_kernels, weight)
        return _crop_like(padded, grad_images) if wants_input else None, grad_weight


def _chunks(images: Tensor, outputs: Tensor) -> Iterator[tuple[Tensor, Tensor, Any]]:
    """Some rows of tiles at a time, or some small images: n x r x c x 6 x 6 x C, with their
    n x r x c x 4 x 4 x O of the outputs, and their index in images of two rows more.
    """
    tile_rows, columns = outputs.shape[1] // 4, outputs.shape[2] // 4
    room = max(1, CHUNK // (36 * columns * max(images.shape[3], outputs.shape[3])))
    num = max(1, room // tile_rows)
    for index in range(0, len(images), num):
        some = slice(index, index + num)
        for first in range(0, tile_rows, room):
            last = min(first + room, tile_rows)
            tiles = images[some, 4 * first : 4 * last + 2].unfold(1, 6, 4).unfold(2, 6, 4)
            squares = _squares(outputs[some, 4 * first : 4 * last])
            yield tiles.permute(0, 1, 2, 4, 5, 3), squares, (some, slice(4 * first, 4 * last + 4))


def _squares(images: Tensor) -> Tensor:
    """A view of N x H x W x C as N x H/4 x W/4 x 4 x 4 x C."""
    num, height, width, channels = images.shape
    image, row, column, channel = images.stride()
    size = (num, height // 4, width // 4, 4, 4, channels)
    return images.as_strided(size, (image, 4 * row, 4 * column, row, column, channel))


def _flatten(tiles: Tensor) -> Tensor:
    """Tiles of n x r x c x h x w x C to T x hw x C."""
    return tiles.reshape(prod(tiles.shape[:3]), -1, tiles.shape[-1])


def _transform(matrix: Tensor, tiles: Tensor) -> Tensor:
    """A matrix times each of T x k x C: in the cache, and so faster than one product for all."""
    return torch.bmm(matrix.expand(len(tiles), -1, -1), tiles)


def _sum_channels(tiles: Tensor, kernels: Tensor) -> Tensor:
    """T x 36 x C and 36 x C x O to T x 36 x O."""
    sums = tiles.new_empty(len(tiles), len(kernels), kernels.shape[2])
    torch.bmm(tiles.transpose(0, 1), kernels, out=sums.transpose(0, 1))
    return sums


def _store(squares: Tensor, a_t: Tensor, sums: Tensor) -> None:
    """Writes the outputs' pixels: channel by channel unless channels are contiguous."""
    if squares.stride(-1) == 1:
        squares.copy_(_transform(a_t, sums).view(squares.shape))
    else:
        pixels = torch.bmm(sums.mT, a_t.T.expand(len(sums), -1, -1))
        by_channel = squares.permute(0, 1, 2, 5, 3, 4)
        by_channel.copy_(pixels.view(by_channel.shape))


def _add_tiles(images: Tensor, tiles: Tensor) -> None:
    """Adds T x 36 x C at the positions of the tiles; neighbours share two rows or columns."""
    squares = _squares(images)
    num, rows, columns = squares.shape[:3]
    tiles = tiles.view(num, rows - 1, columns - 1, 6, 6, -1)
    squares[:, :-1, :-1] += tiles[..., :4, :4, :]
    squares[:, 1:, :-1, :2] += tiles[..., 4:, :4, :]
    squares[:, :-1, 1:, :, :2] += tiles[..., :4, 4:, :]
    squares[:, 1:, 1:, :2, :2] += tiles[..., 4:, 4:, :]


def _transform_kernels(weight: Tensor) -> Tensor:
    """O x C x 3 x 3 to 36 x O x C."""
    positions = weight.permute(2, 3, 0, 1).reshape(9, -1)
    return (_kron(G, weight) @ positions).view(36, *weight.shape[:2])


def _kernel_gradient(kernels: Tensor, weight: Tensor) -> Tensor:
    """The gradient of `_transform_kernels`: 36 x O x C to O x C x 3 x 3."""
    positions = _kron(G, weight).T @ kernels.view(36, -1)
    return positions.view(3, 3, *weight.shape[:2]).permute(2, 3, 0, 1).contiguous()


def _kron(matrix: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    """The transform of both sides of a tile, as one matrix on its pixels in a row."""
    one_side = torch.tensor(matrix, dtype=like.dtype, device=like.device)
    return torch.kron(one_side, one_side)


def _pad_to_tiles(padded: Tensor) -> Tensor:
    """The input as N x H x W x C, with zeros below and on the right up to whole tiles."""
    height, width = padded.shape[2] - 2, padded.shape[3] - 2
    more = (0, -width % 4, 0, -height % 4)
    return (functional.pad(padded, more) if any(more) else padded).permute(0, 2, 3, 1)


def _empty_like(padded: Tensor, channels: int, height: int, width: int) -> Tensor:
    size, layout = (len(padded), channels, height, width), _memory_format(padded)
    return torch.empty(size, dtype=padded.dtype, device=padded.device, memory_format=layout)


def _memory_format(image: Tensor) -> torch.memory_format:
    last = image.is_contiguous(memory_format=torch.channels_last) and not image.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _crop_like(padded: Tensor, images: Tensor) -> Tensor:
    """N x H' x W' x C, cropped, in the input's order of dimensions and its memory format."""
    images = images[:, : padded.shape[2], : padded.shape[3]].contiguous()
    if _memory_format(padded) == torch.channels_last:
        return images.permute(0, 3, 1, 2)
    result = _empty_like(padded, *padded.shape[1:])
    for image, pixels in zip(result, images, strict=True):
        # A transposition of two dimensions has a fast kernel.
        image.flatten(1).copy_(pixels.flatten(0, 1).T)
    return result
