"""Whoever stops listening to the answers of a round closes the asking, whatever went wrong."""

from functools import partial

import pytest
from runs import LOSS, create, score_of, sites_by_name, small_plan

from hospitium import algorithms, federation
from hospitium.errors import UpdateError
from hospitium.state.ledger import RunLedger
from hospitium.testing.fakes import DirectEngine, Quiet, first_params


class Kept(DirectEngine):
    """An engine whose askings somebody else holds too, so that only `close` ends them."""

    def __init__(self, sites):
        super().__init__(sites=sites)
        self.askings, self.ended = [], []

    def ask(self, task, site_ids, *, deadline_s):
        self.askings.append(self._ask(task, site_ids, deadline_s=deadline_s))
        return self.askings[-1]

    def _ask(self, task, site_ids, *, deadline_s):
        try:
            yield from super().ask(task, site_ids, deadline_s=deadline_s)
        finally:
            self.ended.append(task.round_number)


class Broken(Quiet):
    """Progress at which something happens with the first answer of the second round."""

    def __init__(self, error):
        self.error = error

    def answer(self, task, answer):
        if task.round_number == 2:
            raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk"), UpdateError("form", "x")])
def test_an_asking_is_closed_when_something_goes_wrong_with_an_answer(tmp_path, error):
    create(tmp_path, small_plan(rounds=3))
    ledger, engine = RunLedger(tmp_path, score_of=score_of), Kept(sites_by_name())
    build = partial(algorithms.build, first_params=first_params, sum_lengths=LOSS)
    algorithm = build(ledger.plan, run_id="r", seats=ledger.seats)
    with pytest.raises(type(error)):
        federation.run(ledger.plan, algorithm, engine, ledger, Broken(error))
    ledger.close()
    assert engine.ended == [1, 2] and engine.askings[1].gi_frame is None
