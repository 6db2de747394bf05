"""An update that counts."""

from runs import small_plan

from hospitium import algorithms
from hospitium.testing.fakes import first_params, least_squares_sites
from hospitium.types import Seat


def honest_update():
    """Return an update that counts, its task, and the algorithm that adds it."""
    sites = least_squares_sites()
    algorithm = algorithms.build(
        small_plan(), run_id="r", first_params=first_params,
        seats=[Seat(site_id=site.site_id, num_cases=site.num_cases) for site in sites],
    )  # fmt: skip
    task = algorithm.task(algorithm.init(), round_number=1)
    return sites[0](task), task, algorithm
