"""Two fingerprints: of the reader, which must be equal at every site, and of a site's data."""
