"""Which parameters learn."""

from __future__ import annotations

from fnmatch import fnmatchcase

from clip_qdrant.errors import ConfigError
from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.network.adapters import adapted_weights, is_adapter
from clip_qdrant_training.network.kinds.protocol import Network, ParameterPlace

__all__ = ["Freezing"]


class Freezing:
    """Which parameters learn.

    `stages` and `layers` are how many of the first layers of the image and the text encoder never learn, `text` whether
    the whole text encoder never does: what lies below can be computed once.
    """

    def __init__(self, network: Network, config: TrainConfig) -> None:
        self.config, self.network = config, network
        image, text = network.image, network.text
        for field, side in (("frozen_stages", image), ("frozen_layers", text)):
            what, asked = field.removeprefix("frozen_"), getattr(config, field)
            if asked > side.depth:
                raise ConfigError(
                    f"{field} is {asked}: the {side.name} has {side.depth} {what}; give {side.depth} to freeze all of "
                    "it"
                )
        names = [name for name, _ in network.model.named_parameters()]
        unused = [p for p in config.freeze if not any(fnmatchcase(name, p) for name in names)]
        if unused:
            raise ConfigError(f"freeze holds {unused[0]!r}, which no parameter matches; a name is like {names[0]!r}")
        self.stages, self.layers = config.frozen_stages, config.frozen_layers
        if config.last_layers is not None:
            self.stages, self.layers = (max(0, side.depth - config.last_layers) for side in (image, text))
        if config.freeze_encoders or config.image_lr == 0:
            self.stages = image.depth
        if config.freeze_encoders or config.text_lr == 0:
            self.layers = text.depth
        self.text = self.layers == text.depth
        if config.batch_norm == "train" and self.stages:
            raise ConfigError("batch_norm is 'train' with frozen stages, whose statistics stay: use batch_norm=frozen")

    def apply(self) -> None:
        """Set `requires_grad` of every parameter."""
        for name, parameter in self.network.model.named_parameters():
            parameter.requires_grad_(self.learns(name))

    def learns(self, name: str) -> bool:
        """Whether a parameter learns. In an encoder with adapters only these do."""
        place = self.place(name)
        if place is None or self.is_frozen(name, place):
            return False
        return not self.config.lora or place.part == "heads" or is_adapter(name)

    def is_adaptable(self, name: str) -> bool:
        """Whether an adapter may stand for a weight."""
        place = self.network.place(name)
        return place is not None and place.part != "heads" and not self.is_frozen(name, place)

    def place(self, name: str) -> ParameterPlace | None:
        """Where a parameter is; an adapter is where its weight is."""
        names = adapted_weights(name) if is_adapter(name) else (name,)
        return next((place for each in names if (place := self.network.place(each))), None)

    def is_frozen(self, name: str, place: ParameterPlace) -> bool:
        """Whether a parameter lies below what learns, or is named by a pattern."""
        below = {"image": self.stages, "text": self.layers}.get(place.side or "", 0)
        return place.layer < below or any(fnmatchcase(name, pattern) for pattern in self.config.freeze)
