"""The conformance claims of the algorithms (specs/learning.md, section 11), each against a loop.

Params travel as float32, so a federation and a loop in float64 part by one rounding of 2^-24 of a
param in each round. ``FLOAT32`` allows that a few dozen times over: a mistake in a weight, a step,
a schedule or a moment is thousands of times larger. Where nothing is rounded twice, bits are equal.
"""

import math
from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from hospitals import SMALL, cases_of, federate, plan_of
from runs import create, go_on, sites_by_name, small_plan
from torch.nn import functional

from hospitium import algorithms
from hospitium.imaging.cases import concatenate
from hospitium.testing.fakes import first_params, least_squares_sites
from hospitium.training import trainer_for
from hospitium.training.models.small_cnn import small_cnn
from hospitium.training.trainer import batches
from hospitium.types import Seat
from hospitium.wire.blob import digest_of

FLOAT32 = 2e-6


def rate_of(plan, step):
    """Return the warm-up and cosine schedule, written anew."""
    total = plan.rounds.count * plan.training.steps
    warmup = round(plan.training.warmup * total)
    if step < warmup:
        return plan.training.lr * (step + 1) / warmup
    return plan.training.lr * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


def schedule(plan, cases, site_id):
    """Yield rate, images and labels of each step of a whole run, as one long training sees them."""
    images, labels = cases.images[cases.splits == 0], cases.labels[cases.splits == 0]
    step = 0
    for number in range(1, plan.rounds.count + 1):
        for index in batches(plan, num_cases=len(labels), site_id=site_id, round_number=number):
            yield rate_of(plan, step), images[index], labels[index]
            step += 1


def centralised_logistic(plan, cases, site_id):
    """Train logistic regression in one place and one go, in float64."""
    first = trainer_for(plan).first_params()
    w, b = first["weight"][0].astype(float), float(first["bias"][0])
    mw, mb, vw, vb, decay = 0.0, 0.0, 0.0, 0.0, plan.training.weight_decay
    for step, (rate, images, labels) in enumerate(schedule(plan, cases, site_id), start=1):
        x = images.reshape(len(images), -1).astype(float)
        error = 1 / (1 + np.exp(-(x @ w + b))) - labels
        gw, gb = error @ x / len(x), error.mean()
        if plan.training.optimizer == "sgd":
            gw, momentum = gw + decay * w, plan.training.momentum
            mw, mb = momentum * mw + gw, momentum * mb + gb
            w, b = w - rate * (gw + momentum * mw), b - rate * (gb + momentum * mb)
            continue
        mw, mb = 0.9 * mw + 0.1 * gw, 0.9 * mb + 0.1 * gb
        vw, vb = 0.999 * vw + 0.001 * gw**2, 0.999 * vb + 0.001 * gb**2
        fix, wide = 1 - 0.9**step, 1 - 0.999**step
        w = w - rate * decay * w - rate * (mw / fix) / (np.sqrt(vw / wide) + 1e-8)
        b = b - rate * (mb / fix) / (np.sqrt(vb / wide) + 1e-8)
    return w, b


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_one_site_with_all_data_is_centralised_training(tmp_path, optimizer):
    plan, cases = plan_of(optimizer=optimizer, rounds=5), cases_of(30)
    state = federate(tmp_path, plan, {"oslo": cases})
    w, b = centralised_logistic(plan, cases, "oslo")
    np.testing.assert_allclose(state.params["weight"][0], w, atol=FLOAT32)
    np.testing.assert_allclose(state.params["bias"], [b], atol=FLOAT32)
    first = trainer_for(plan).first_params()
    assert np.abs(w - first["weight"][0]).max() > 1000 * FLOAT32


def centralised_cnn(plan, cases, site_id, first):
    """Train small_cnn as any PyTorch script does; biases and norms are not decayed."""
    net = small_cnn(1, 1, **SMALL)
    net.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in first.items()})
    training, params = plan.training, list(net.parameters())
    groups = [
        {"params": [p for p in params if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in params if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = (
        torch.optim.AdamW(groups, foreach=False)
        if training.optimizer == "adamw"
        else torch.optim.SGD(groups, momentum=training.momentum, nesterov=True, foreach=False)
    )
    for rate, images, labels in schedule(plan, cases, site_id):
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits = net(torch.from_numpy(images))[:, 0]
        target = torch.from_numpy(labels).float()
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(logits, target).backward()
        optimizer.step()
    return {name: param.detach().numpy() for name, param in net.named_parameters()}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_one_site_with_all_data_is_centralised_training_of_a_cnn(tmp_path, optimizer):
    """All of it is float32 here, and AdamW makes a rounding of a tiny gradient a large one: hence
    1e-4 of the largest change. A decay that is a tenth off would be 200 times that."""
    values = {"optimizer": optimizer, "rounds": 2, "steps": 3, "lr": 0.002, "weight_decay": 0.5}
    plan = plan_of("small_cnn", **values)
    cases, first = cases_of(24), trainer_for(plan, device="cpu").first_params()
    state = federate(tmp_path, plan, {"oslo": cases})
    expected = centralised_cnn(plan, cases, "oslo", first)
    far = max(np.abs(expected[name] - first[name]).max() for name in first)
    for name in first:
        np.testing.assert_allclose(state.params[name], expected[name], atol=1e-4 * far)


def test_one_step_of_fedavg_by_batch_is_one_large_batch_sgd_step(tmp_path):
    plan = plan_of(optimizer="sgd", rounds=1, steps=1, momentum=0.0, batch_size=64, warmup=0.0)
    cases = {"a": cases_of(8, seed=1), "b": cases_of(16, seed=2), "c": cases_of(32, seed=3)}
    state = federate(tmp_path, plan, cases)
    w, b = centralised_logistic(plan, concatenate(list(cases.values())), "any")
    np.testing.assert_allclose(state.params["weight"][0], w, atol=1e-8, rtol=1.2e-7)
    np.testing.assert_allclose(state.params["bias"], [b], atol=1e-8, rtol=1.2e-7)


def test_fedadam_with_one_step_a_round_is_pooled_adamw(tmp_path):
    """Sites of unlike size that use all of their cases: pooled training's batch is all of them."""
    values = {"rounds": 12, "steps": 1, "batch_size": 64, "warmup": 0.25, "lr": 0.02}
    pooled = plan_of(optimizer="adamw", weight_decay=0.5, **values)
    plan = plan_of(optimizer="sgd", momentum=0.0, **{**values, "lr": 1.0, "warmup": 0.0})
    plan = replace(
        plan,
        training=replace(plan.training, schedule="constant", weight_decay=0.0),
        algorithm=replace(
            plan.algorithm,
            name="fedadam",
            coordinator_lr=0.02,
            coordinator_schedule="cosine",
            coordinator_warmup=0.25,
            coordinator_decay=0.5,
        ),
    )
    cases = {"a": cases_of(8, seed=1), "b": cases_of(16, seed=2), "c": cases_of(32, seed=3)}
    state = federate(tmp_path, plan, cases)
    w, b = centralised_logistic(pooled, concatenate(list(cases.values())), "any")
    np.testing.assert_allclose(state.params["weight"][0], w, atol=1e-5)
    np.testing.assert_allclose(state.params["bias"], [b], atol=1e-5)
    first = trainer_for(plan).first_params()
    assert np.abs(w - first["weight"][0]).max() > 0.05


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("num_sites", [2, 3, 7])
def test_identical_sites_with_one_seed_are_one_site(tmp_path, num_sites, optimizer):
    plan, cases = plan_of(optimizer=optimizer), cases_of(30)
    one = federate(tmp_path / "one", plan, {"twin": cases})
    twins = {f"twin-{number}": cases for number in range(num_sites)}
    many = federate(tmp_path / "many", plan, twins, called="twin")
    assert digest_of(many.params) == digest_of(one.params)


@pytest.mark.parametrize("model", ["logistic", "small_cnn"])
def test_fedprox_with_mu_0_is_fedavg_bit_for_bit(tmp_path, model):
    plan = plan_of(model, rounds=2, steps=2)
    prox = replace(plan, algorithm=replace(plan.algorithm, name="fedprox", mu=0.0))
    cases = {"a": cases_of(8, seed=1), "b": cases_of(20, seed=2)}
    average = federate(tmp_path / "fedavg", plan, cases)
    assert digest_of(federate(tmp_path / "fedprox", prox, cases).params) == digest_of(
        average.params
    )


def test_fedprox_draws_sites_towards_the_rounds_params_and_ever_more_with_mu(tmp_path):
    cases = {"a": cases_of(8, seed=1), "b": cases_of(20, seed=2)}
    first = trainer_for(plan_of()).first_params()["weight"]
    moved = []
    for mu in (0.0, 1.0, 10.0):
        plan = plan_of(mu=mu, rounds=1, steps=20, optimizer="sgd", momentum=0.0)
        state = federate(tmp_path / str(mu), plan, cases)
        moved.append(float(np.linalg.norm(state.params["weight"] - first)))
    assert moved[0] > 1.05 * moved[1] > 1.05 * moved[2]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_order_of_arrival_leaves_no_trace_in_model_or_ledger(tmp_path, order):
    create(tmp_path / "sorted", small_plan(rounds=3))
    state, record = go_on(tmp_path / "sorted")
    create(tmp_path / "other", small_plan(rounds=3))
    other, again = go_on(tmp_path / "other", order=lambda ids: [sorted(ids)[k] for k in order])
    assert digest_of(other.params) == digest_of(state.params)
    assert again == record


def mean_of(max_norm, **section):
    """Return the mean change of one round, and the sites' updates."""
    sites = least_squares_sites()
    algorithm = algorithms.build(
        small_plan(max_norm=max_norm, **section),
        run_id="r",
        seats=[Seat(site_id=site.site_id, num_cases=site.num_cases) for site in sites],
        first_params=first_params,
    )
    task = algorithm.task(algorithm.init(), round_number=1)
    aggregate = algorithm.aggregate(task)
    updates = [site(task) for site in sites]
    for update in updates:
        aggregate.add(update)
    return aggregate.result().delta, updates, algorithm.weights


@pytest.mark.parametrize("section", [{"clip": "fixed"}, {"clip": "adaptive"}])
def test_a_clip_bound_above_every_norm_is_no_clip(section):
    """Sums at another bound are rounded on another grid, of 2^-41 and finer: float32 hides it."""
    mean, updates, weights = mean_of(1000.0, **section)
    shares = [weights[update.site_id] / sum(weights.values()) for update in updates]
    for name in mean:
        plain = sum(
            share * update.delta[name].astype(float)
            for share, update in zip(shares, updates, strict=True)
        )
        np.testing.assert_allclose(mean[name], plain, rtol=1.2e-7, atol=1e-11)
    np.testing.assert_array_max_ulp(mean_of(8.0, **section)[0]["w"], mean["w"], maxulp=1)


def test_a_clip_bound_below_a_norm_changes_that_site_alone():
    updates = mean_of(1000.0)[1]
    norms = {u.site_id: math.sqrt(sum((x**2).sum() for x in u.delta.values())) for u in updates}
    longest = max(norms, key=norms.__getitem__)
    bound = (sorted(norms.values())[-2] + norms[longest]) / 2
    for before, after in zip(updates, mean_of(bound)[1], strict=True):
        same = digest_of(before.delta) == digest_of(after.delta)
        assert same == (before.site_id != longest)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_two_rounds_with_kept_moments_are_one_round_of_twice_the_steps(tmp_path, optimizer):
    """All cases are in each batch, so that the two differ in nothing but where a round ends."""
    values = {"optimizer": optimizer, "batch_size": 64, "moments": "keep"}
    cases = {"oslo": cases_of(20)}
    two = federate(tmp_path / "two", plan_of(rounds=2, steps=4, **values), cases)
    one = federate(tmp_path / "one", plan_of(rounds=1, steps=8, **values), cases)
    for name in one.params:
        np.testing.assert_allclose(two.params[name], one.params[name], atol=FLOAT32)
    forgot = plan_of(rounds=2, steps=4, **{**values, "moments": "reset"})
    reset = federate(tmp_path / "reset", forgot, cases)
    assert np.abs(reset.params["weight"] - one.params["weight"]).max() > 1000 * FLOAT32


def test_the_sites_of_the_small_runs_are_unlike_enough_to_tell_a_mistake():
    task_deltas = [update.delta["w"] for update in mean_of(1000.0)[1]]
    assert len(sites_by_name()) == 3
    for one, other in pairwise(task_deltas):
        assert np.linalg.norm(one - other) > 0.1 * np.linalg.norm(one)
