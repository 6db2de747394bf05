"""What Hospitium costs, each figure beside the least that it could cost; run by ``make bench``."""
