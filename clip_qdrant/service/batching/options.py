"""BatchingOptions: how much waits, how much is run at once, how much is kept."""

from __future__ import annotations

from dataclasses import dataclass, fields

from clip_qdrant.errors import ConfigError

__all__ = ["BatchingOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingOptions:
    """`most_texts` and `most_images` may wait; a request that is more is refused with Overloaded.

    A batch is at most `texts_in_batch` or `images_in_batch`. It waits `gathering` seconds at most for more requests,
    and only while several come at once. The vectors of `cached_texts` texts are kept, those that were used last.
    `decoders` images are decoded at once; None stands for the number of cores.
    """

    most_texts: int = 2048
    most_images: int = 256
    texts_in_batch: int = 64
    images_in_batch: int = 16
    gathering: float = 0.004
    cached_texts: int = 10_000
    decoders: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.gathering <= 1:
            raise ConfigError(f"gathering is {self.gathering!r}: it is a time in seconds, 0 to 1")
        for name in (one.name for one in fields(self) if one.name != "gathering"):
            value, least = getattr(self, name), 0 if name == "cached_texts" else 1
            if value is None and name == "decoders":
                continue
            if type(value) is not int or value < least:
                raise ConfigError(f"{name} is {value!r}: it must be a whole number of at least {least}")
