"""From files to training cases: one reader, the same numbers at every site."""
