"""Arithmetic that protects: clipping, exact sums; later noise, accounting and masks."""
