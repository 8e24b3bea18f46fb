"""archsmith: hardware-aware neural architecture search, from your data and devices to a verified Pareto front."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .service.client.client import Client

__all__ = ["Client", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import the SDK when it is asked for: a bare training image has no httpx and needs none."""
    if name == "Client":
        from .service.client.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}.")
