"""Gene lists that several tests share."""

from __future__ import annotations

from archsmith.spaces.gene import Gene, When

__all__ = ["OFA_UNITS", "ofa_genes"]

OFA_UNITS = 5


def ofa_genes() -> list[Gene]:
    """The gene structure of OFA-MobileNetV3: five units of two to four blocks with kernel and expansion each."""
    genes = []
    for unit in range(OFA_UNITS):
        genes.append(Gene(f"u{unit}.depth", (2, 3, 4), kind="ordered"))
        for block in range(4):
            when = () if block < 2 else (When(f"u{unit}.depth", tuple(range(block + 1, 5))),)
            genes.append(Gene(f"u{unit}.b{block}.kernel", (3, 5, 7), kind="ordered", when=when))
            genes.append(Gene(f"u{unit}.b{block}.expansion", (3, 4, 6), kind="ordered", when=when))
    return genes
