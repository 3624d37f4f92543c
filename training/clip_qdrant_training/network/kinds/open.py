"""The network of a checkpoint, as training needs it."""

from __future__ import annotations

from clip_qdrant.errors import TrainingError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import DualEncoder
from clip_qdrant_training.network.kinds.dual import DualNetwork
from clip_qdrant_training.network.kinds.protocol import Network
from clip_qdrant_training.network.kinds.published import PublishedNetwork

__all__ = ["open_network"]


def open_network(checkpoint: Checkpoint) -> Network:
    """The layers, heads and scalars of a checkpoint's network.

    A network that is not our own is run twice to find them. Raises TrainingError for one that lacks an encoder.
    """
    model = checkpoint.model
    if isinstance(model, DualEncoder):
        return DualNetwork(model, checkpoint.preprocessing.shape)
    label = ", ".join(checkpoint.trained_on) or type(model).__name__
    if len(checkpoint.preprocessing.shape) != 3:
        raise TrainingError(
            f"{label} takes images of any shape (NaFlex), and views of images to train on have one shape here: start "
            "from a model of its family with images of one size"
        )
    for part, method in (("image", "encode_image"), ("text", "encode_text")):
        if not callable(getattr(model, method, None)):
            raise TrainingError(
                f"{label} has no {part} encoder, and pairs teach an image and a text encoder together: start from a "
                "model with both"
            )
    return PublishedNetwork(checkpoint)
