"""How updates become the next params: values, built from a plan and the seats of a run."""

from hospitium.algorithms.registry import build

__all__ = ["build"]
