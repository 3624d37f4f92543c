"""The families of models of transformers that load here: a row of data each."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FAMILIES", "PREPARATIONS", "SIGLIP"]

FAMILIES = ("clip", "siglip")
SIGLIP = {"canonicalize": True}
SIGLIP2 = {"lower_case": True}
# By family and by how the class of the tokenizer begins: what the model was trained with and its files do not do. The
# first that fits is taken.
PREPARATIONS: Mapping[str, Mapping[str, Mapping[str, bool]]] = {
    "siglip": {"Siglip2Tokenizer": SIGLIP2, "Gemma": SIGLIP2, "SiglipTokenizer": SIGLIP},
}
