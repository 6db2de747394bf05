"""Deterministic simulation: real coordinator, hub and sites in one thread, under virtual time."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
