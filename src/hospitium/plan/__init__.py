"""What was agreed: a TOML file becomes a frozen, digested Plan."""

from hospitium.plan.reading import load_plan, parse_plan
from hospitium.plan.schema import Plan

__all__ = ["Plan", "load_plan", "parse_plan"]
