"""Other systems at the same work, in the same run: ``python -m bench.peers``."""
