"""Strategies: where to look next. Each is an ask/tell object behind the contract of `archsmith.search.strategy`."""
