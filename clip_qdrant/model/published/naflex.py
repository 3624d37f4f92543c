"""Images of any shape as rows of patches (NaFlex, SigLIP 2): what the network gets of them, in one graph for all.

What the array of an image holds is told in `clip_qdrant/model_inputs/patches.py`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip_qdrant.model_inputs.preprocessing import Preprocessing

__all__ = ["PatchInputs", "accept_any_shape", "resize_positions"]


class PatchInputs(nn.Module):
    """uint8 (n, 1 + patches, 3 * side * side) to the arguments of transformers' `get_image_features`."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.tensor(preprocessing.mean) * 255, persistent=False)
        self.register_buffer("scale", 1 / (torch.tensor(preprocessing.std) * 255), persistent=False)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        shapes = pixels[:, 0, 0:4:2].long() + 256 * pixels[:, 0, 1:4:2].long()  # (n, 2): rows and columns of patches
        shapes = shapes.clamp(min=1)  # a batch may be filled up with zeros
        values = pixels[:, 1:].to(self.mean.dtype)
        colours = values.reshape(*values.shape[:-1], -1, 3)  # channels last, as transformers has them
        patches = ((colours - self.mean) * self.scale).reshape(values.shape)
        index = torch.arange(patches.shape[1], device=pixels.device)
        mask = (index < shapes[:, :1] * shapes[:, 1:]).long()  # (n, patches)
        return {"pixel_values": patches * mask[:, :, None], "pixel_attention_mask": mask, "spatial_shapes": shapes}


def resize_positions(positional_embeddings: Tensor, spatial_shapes: Tensor, max_length: int) -> Tensor:
    """Position embeddings (G, G, d) of a square grid, for n images of other shapes: (n, max_length, d).

    What transformers computes image by image with torch's antialiased bilinear interpolation, as two matrices of
    triangle weights an image: elementwise, so that a graph has them for every shape. Padding gets some embedding, and
    is masked. It stands in for `Siglip2VisionEmbeddings.resize_positional_embeddings`, whose names its arguments have.
    """
    grid, dim = positional_embeddings.shape[0], positional_embeddings.shape[-1]
    index = torch.arange(max_length, device=spatial_shapes.device)[None]  # (1, patches)
    columns = spatial_shapes[:, 1:]
    row, column = index // columns, index % columns
    down = _weigh(row, spatial_shapes[:, :1], grid)  # (n, patches, G)
    along = _weigh(column, columns, grid)
    both = (down[..., :, None] * along[..., None, :]).flatten(-2)  # (n, patches, G * G)
    resized: Tensor = both.to(positional_embeddings.dtype) @ positional_embeddings.reshape(grid * grid, dim)
    return resized


def _weigh(place: Tensor, size: Tensor, grid: int) -> Tensor:
    """Weights (n, patches, grid) of the cells of a grid for places of a side of `size` cells, as ATen computes them."""
    scale = grid / size.to(torch.float32)  # (n, 1)
    center = scale * (place.to(torch.float32) + 0.5)
    cells = torch.arange(grid, device=place.device, dtype=torch.float32) + 0.5
    distance = (cells - center[..., None]).abs() / scale.clamp(min=1.0)[..., None]
    weights = F.relu(1 - distance)
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)


def accept_any_shape(model: Any) -> None:
    """Has a Siglip2Model resize its position embeddings in the graph."""
    model.vision_model.embeddings.resize_positional_embeddings = resize_positions
