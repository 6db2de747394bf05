"""What crosses a boundary: canonical bytes, params as files, and the gate they pass."""
