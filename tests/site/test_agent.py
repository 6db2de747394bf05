from dataclasses import replace

import numpy as np
import pytest

from hospitium.algorithms.norm_bound import NORM_SUM, is_norm_sum, norm_sum
from hospitium.errors import SiteError
from hospitium.evaluation.score_sums import layout, score_sums
from hospitium.privacy.clipping import l2_norm
from hospitium.site import moments
from hospitium.site.agent import EXPLODED_LOSS, answer, training_cases
from hospitium.training import trainer_for
from hospitium.types import Seat
from hospitium.wire.blob import digest_of, manifest_of
from hospitium.wire.gate import check_update


@pytest.fixture
def ask(plan, trainer):
    return lambda task, site: answer(task, plan=plan, site=site, trainer=trainer)


def test_an_answer_passes_the_gate_with_exactly_the_sums_that_are_asked_for(ask, task, site_for):
    update = ask(task, site_for())
    lengths = {**layout(2), NORM_SUM: 512}
    seat = Seat(site_id="oslo", num_cases=20)
    check_update(
        update, task=task, seat=seat, manifest=manifest_of(task.params), sum_lengths=lengths
    )
    assert update.num_steps == 3 and update.path is None


def test_the_change_is_what_training_made_of_the_tasks_params(ask, task, site_for, trainer):
    site = site_for()
    update = ask(task, site)
    trained = trainer.train(task.params, site.cases("train"), site_id="oslo", round_number=1)
    for name, array in task.params.items():
        np.testing.assert_array_equal(update.delta[name], trained.params[name] - array)


def test_the_incoming_params_are_scored_on_validation_cases_before_training(
    ask, task, site_for, trainer
):
    site = site_for()
    update, cases = ask(task, site), site.cases("val")
    expected = score_sums(trainer.logits(task.params, cases), cases.labels)
    assert {**update.sums, NORM_SUM: ()} == {**expected, NORM_SUM: ()}
    assert update.sums["n"] == (6,)


def test_the_same_task_twice_is_answered_with_the_same_bits_also_with_kept_moments(
    ask, task, site_for
):
    site = site_for()
    ask(task, site)
    later = replace(task, round_number=2)
    one, two = ask(later, site), ask(later, site)
    assert digest_of(one.delta) == digest_of(two.delta) and one.sums == two.sums


def test_a_change_longer_than_the_bound_is_clipped_and_its_own_norm_goes_to_the_histogram(
    ask, task, site_for
):
    whole = ask(task, site_for())
    norm = l2_norm(whole.delta)
    clipped = ask(replace(task, max_norm=norm / 4), site_for())
    assert l2_norm(clipped.delta) == pytest.approx(norm / 4, rel=1e-6)
    assert clipped.sums[NORM_SUM] == norm_sum(norm) and is_norm_sum(clipped.sums[NORM_SUM])


def test_a_task_that_only_scores_is_answered_without_params_steps_or_a_norm(ask, task, site_for):
    update = ask(replace(task, purpose="score"), site_for(num_train=0))
    assert update.delta == {} and update.num_steps == 0
    assert set(update.sums) == set(layout(2))


def test_a_site_answers_no_plan_but_the_one_it_agreed_to(ask, task, site_for, plan):
    other = replace(plan, seed=99)
    with pytest.raises(SiteError, match="has not agreed to this plan"):
        ask(task, site_for(agreed=other))
    with pytest.raises(SiteError, match="has not agreed to this plan"):
        ask(replace(task, plan_digest=other.digest), site_for())


def test_a_site_without_training_cases_says_so_and_one_without_validation_cases_trains(
    ask, task, site_for
):
    with pytest.raises(SiteError, match="there are no training cases"):
        ask(task, site_for(num_train=0))
    update = ask(task, site_for(num_val=0, site_id="bergen"))
    assert update.sums["n"] == (0,) and l2_norm(update.delta) > 0


def test_training_that_diverges_is_a_site_error_and_leaves_no_moments(task, site_for, plan):
    """The loss is still finite in the one step, but the params no longer fit float32."""
    wild = replace(plan, training=replace(plan.training, steps=1, lr=1e300, optimizer="sgd"))
    site, trainer = site_for(agreed=wild), trainer_for(wild)
    asked = replace(task, plan_digest=wild.digest)
    with pytest.raises(SiteError, match="training diverged") as caught:
        answer(asked, plan=wild, site=site, trainer=trainer)
    assert str(site.folder) not in str(caught.value)
    assert moments.load(site.folder, before=99) is None


@pytest.mark.parametrize(("lr", "is_let_out"), [(1.0, True), (1e4, False)])
def test_a_loss_that_explodes_and_is_still_a_number_lets_nothing_out(
    task, site_for, plan, lr, is_let_out
):
    wild = replace(plan, training=replace(plan.training, steps=5, lr=lr, optimizer="sgd"))
    site, trainer = site_for(agreed=wild), trainer_for(wild)
    asked = replace(task, plan_digest=wild.digest)
    loss = trainer.train(task.params, site.cases("train"), site_id="oslo", round_number=1).mean_loss
    assert np.isfinite(loss) and (loss < EXPLODED_LOSS) == is_let_out
    if is_let_out:
        assert answer(asked, plan=wild, site=site, trainer=trainer).num_steps == 5
        return
    with pytest.raises(SiteError, match="training diverged: the loss exploded"):
        answer(asked, plan=wild, site=site, trainer=trainer)
    assert moments.load(site.folder, before=99) is None


def test_moments_are_kept_at_the_site_only_where_the_plan_keeps_them(ask, task, site_for, plan):
    site = site_for()
    ask(task, site)
    assert set(moments.load(site.folder, before=2)) >= {"m/weight", "v/weight", "step"}
    forgets = replace(plan, training=replace(plan.training, moments="reset"))
    other = site_for(site_id="bergen", agreed=forgets)
    asked = replace(task, plan_digest=forgets.digest)
    answer(asked, plan=forgets, site=other, trainer=trainer_for(forgets))
    assert moments.load(other.folder, before=2) is None


def test_kept_moments_change_the_next_round_and_lost_ones_start_at_zero(ask, task, site_for):
    site, later = site_for(), replace(task, round_number=2)
    fresh = ask(later, site)
    for path in (site.folder / "moments").iterdir():
        path.unlink()
    ask(task, site)
    assert digest_of(ask(later, site).delta) != digest_of(fresh.delta)
    for path in (site.folder / "moments").iterdir():
        path.unlink()
    assert digest_of(ask(later, site).delta) == digest_of(fresh.delta)


def test_statistics_for_normalisation_are_those_of_the_sites_training_images(site_for):
    site = site_for()
    train, val = site.cases("train"), site.cases("val")
    assert (len(train), len(val), len(site.cases("test"))) == (20, 6, 0)
    images = train.batch(slice(None)).astype(float)
    assert train.mean == val.mean == pytest.approx(images.mean(), rel=1e-5)
    assert train.sd == pytest.approx(images.std(), rel=1e-5)


def test_a_set_without_training_images_takes_the_statistics_of_another_or_a_middle(site_for):
    with_train, without = site_for(), site_for(num_train=0, site_id="bergen")
    lent = training_cases(without.cases_folder, "val", statistics_from=with_train.cases_folder)
    assert lent.mean == with_train.cases("train").mean
    assert (without.cases("val").mean, without.cases("val").sd) == (0.5, 0.25)
