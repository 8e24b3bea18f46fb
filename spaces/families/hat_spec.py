"""What HAT's networks may vary and what they fix, and the family's presets; numbers only, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ...errors import SpaceError

__all__ = ["PRESETS", "HatSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HatSpec:
    """A member of the family.

    Attributes:
        source_vocabulary: tokens of the source language.
        target_vocabulary: tokens of the target language.
        joined: both languages have one vocabulary and one table of embeddings (which gives the logits as well), of
            which the encoder and the decoder each read as many features as they have; else each has its own.
        source_length: positions of a source sequence, for costs and examples; networks take any.
        target_length: positions of a target sequence, likewise.
        widths: features of a token, ascending; the encoder and the decoder each choose one; even.
        inner: features of all heads together, whatever their number.
        hidden: sizes of a feed-forward layer, ascending.
        heads: attention heads, ascending; each divides `inner`.
        encoder_depth: encoder layers.
        decoder_depths: numbers of decoder layers, ascending.
        attended: numbers of last encoder layers that a decoder layer may attend to, ascending.
    """

    source_vocabulary: int
    target_vocabulary: int
    source_length: int
    target_length: int
    joined: bool = False
    widths: tuple[int, ...] = (512, 640)
    inner: int = 512
    hidden: tuple[int, ...] = (1024, 2048, 3072)
    heads: tuple[int, ...] = (4, 8)
    encoder_depth: int = 6
    decoder_depths: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    attended: tuple[int, ...] = (1, 2, 3)

    def __post_init__(self) -> None:
        for name in ("source_vocabulary", "target_vocabulary", "source_length", "target_length", "encoder_depth"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SpaceError(f"hat: {name} is {value!r}; it must be an integer of at least 1.")
        if self.joined and self.source_vocabulary != self.target_vocabulary:
            raise SpaceError(
                f"hat: a joined table needs one vocabulary, not {self.source_vocabulary} and {self.target_vocabulary} "
                "tokens; give source_vocabulary and target_vocabulary the same value."
            )
        if odd := [width for width in self.widths if width % 2]:
            raise SpaceError(f"hat: width {odd[0]} is odd; sinusoidal positions need even widths.")
        if bad := [heads for heads in self.heads if self.inner % heads]:
            raise SpaceError(f"hat: {bad[0]} heads do not divide the {self.inner} attention features (`inner`).")
        if max(self.attended) > self.encoder_depth or min(self.attended) < 1:
            raise SpaceError(
                f"hat: attended is {self.attended}; a decoder layer can attend to 1 to {self.encoder_depth} layers."
            )


PRESETS: Final[Mapping[str, HatSpec]] = MappingProxyType({
    # A handful of small layers for tests.
    "tiny": HatSpec(
        source_vocabulary=40, target_vocabulary=50, source_length=7, target_length=6, widths=(8, 12), inner=8,
        hidden=(12, 16), heads=(1, 2), encoder_depth=3, decoder_depths=(1, 2),
    ),
    # WMT'14 English to German: joint byte-pair vocabulary, source length of HAT's latency tables.
    "wmt": HatSpec(source_vocabulary=32768, target_vocabulary=32768, source_length=30, target_length=30, joined=True),
    # IWSLT'14 German to English; each language has its vocabulary.
    "iwslt": HatSpec(
        source_vocabulary=8848, target_vocabulary=6632, source_length=23, target_length=23,
        hidden=(512, 1024, 2048), heads=(2, 4),
    ),
})  # fmt: skip
"""The family's presets, by name; `wmt` and `iwslt` have the choices of HAT's own search spaces."""
