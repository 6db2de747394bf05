"""Hospitium: hospitals train one medical-imaging model together without sharing a single scan.

Importing this package loads neither torch nor numpy; start reading at ``hospitium.federation``.
"""

__version__ = "0.1.0"
