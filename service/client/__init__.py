"""The Python SDK: `Client` speaks to a server over HTTP with the service's own models."""

from __future__ import annotations

from .client import Client
from .front import Front
from .searches import SearchHandle
from .transport import ApiError, ConnectionLostError

__all__ = ["ApiError", "Client", "ConnectionLostError", "Front", "SearchHandle"]
