"""An update is a pure function, and the one that a few lines of torch make of the same windows."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.arrays import Floats32
from pipeline.learning.adoption import Adoption
from pipeline.learning.fine_tune import Optimiser, Report, Schedule, fine_tune
from pipeline.learning.windows import Windows
from pipeline.method import Cell
from pipeline.network.cells import states
from pipeline.network.model import SMALL, Network, Shape, Weights

T, B, F, HORIZONS = 16, 6, 5, (1, 3, 8)
CELLS: tuple[Cell, ...] = ("rnn_tanh", "rnn_relu", "gru", "lstm")
SHAPES = [Shape(cell, F, 12, layers, HORIZONS) for cell in CELLS for layers in (1, 2)]
SHAPES.append(Shape("gru", F, SMALL + 1, 1, HORIZONS))  # torch's own
SHAPE = Shape("gru", F, 12, 1, HORIZONS)
SCHEDULE = Schedule()


def sample(shape: Shape = SHAPE, seed: int = 0, masked: float = 0.3) -> Windows:
    rng = np.random.default_rng(seed)
    labels = rng.normal(size=(T, B, len(shape.horizons)))
    labels[rng.random(labels.shape) < masked] = math.nan
    labels[0, 0, 0] = 7.0  # where Huber's loss is a straight line
    hidden = 0.5 * rng.normal(size=(B, shape.layers, states(shape.cell), shape.hidden_size))
    arrays = (a.astype(np.float32) for a in (rng.normal(size=(T, B, F)), labels, hidden))
    return Windows(*arrays, np.full(B, T - 8, np.int64))


def first_weights(shape: Shape = SHAPE, seed: int = 1) -> dict[str, Floats32]:
    generator = torch.Generator().manual_seed(seed)
    first = Network(shape, seed).weights
    return {k: v + 0.1 * torch.randn(v.shape, generator=generator).numpy() for k, v in first.items()}


def updates(
    windows: list[Windows],
    shape: Shape = SHAPE,
    schedule: Schedule = SCHEDULE,
    optimiser: Optimiser | None = None,
    weights: Weights | None = None,
) -> tuple[Weights, Optimiser, list[Report]]:
    """One after the other."""
    weights, optimiser = weights or first_weights(shape), optimiser or Optimiser.blank()
    reports = []
    for some in windows:
        weights, optimiser, report = fine_tune(shape, weights, optimiser, some, schedule)
        reports.append(report)
    return weights, optimiser, reports


def change(windows: Windows, schedule: Schedule = SCHEDULE, optimiser: Optimiser | None = None) -> dict[str, Floats32]:
    """Of each weight, by one update."""
    after, _, _ = updates([windows], schedule=schedule, optimiser=optimiser)
    return {name: after[name] - before for name, before in first_weights().items()}


def same(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def parts(optimiser: Optimiser, shape: Shape = SHAPE) -> list[dict[str, Floats32]]:
    """Adam's own weights and their two moments, by name."""
    assert optimiser.state is not None
    network = Network(shape)
    return [dict(network.named(row)) for row in optimiser.state]


def size(weights: Weights) -> float:
    return math.sqrt(sum(float((w.astype(np.float64) ** 2).sum()) for w in weights.values()))


# ---- the same, in a few lines


def plain_network(shape: Shape, weights: Weights) -> tuple[nn.RNNBase, nn.Linear]:
    sizes = (shape.inputs, shape.hidden_size, shape.layers)
    if shape.cell.startswith("rnn"):
        rnn: nn.RNNBase = nn.RNN(*sizes, nonlinearity=shape.cell[4:])
    else:
        rnn = (nn.GRU if shape.cell == "gru" else nn.LSTM)(*sizes)
    head = nn.Linear(shape.hidden_size, len(shape.horizons))
    for module, prefix in ((rnn, "rnn."), (head, "head.")):
        mine = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        module.load_state_dict({k: torch.from_numpy(v) for k, v in mine.items()})
    return rnn, head


def plain_loss(shape: Shape, rnn: nn.RNNBase, head: nn.Linear, windows: Windows) -> Tensor:
    """Window by window, label by label."""
    sums: list[list[Tensor]] = [[] for _ in shape.horizons]
    for b in range(windows.inputs.shape[1]):
        parts = [torch.from_numpy(windows.hidden[b, :, s]).contiguous() for s in range(states(shape.cell))]
        out, _ = rnn(torch.from_numpy(windows.inputs[:, b]), tuple(parts) if shape.cell == "lstm" else parts[0])
        for t in range(T):
            said = head(out[t])
            for j in range(len(shape.horizons)):
                y = float(windows.labels[t, b, j])
                if not math.isnan(y):
                    e = (said[j] - y).abs()
                    sums[j].append(0.5 * e**2 if e.item() <= 0.5 else 0.5 * (e - 0.25))
    shares = [1 / h / sum(1 / k for k in shape.horizons) for h in shape.horizons]
    return sum((share * sum(s) / len(s) for share, s in zip(shares, sums, strict=True) if s), torch.zeros(()))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.cell} of {s.layers} x {s.hidden_size}")
def test_several_updates_are_those_of_a_few_plain_lines_of_torch(shape: Shape) -> None:
    """Through the change of the rate, and with a gradient that is clipped half of the time."""
    many = [sample(shape, seed) for seed in range(4)]
    schedule = Schedule(learning_rate=3e-3, clip_norm=0.3)
    weights = first_weights(shape)
    rnn, head = plain_network(shape, weights)
    parameters = [*rnn.parameters(), *head.parameters()]
    adam, expected, seen = torch.optim.Adam(parameters), [], [[p.detach().clone() for p in parameters]]
    for n, windows in enumerate(many):
        adam.param_groups[0]["lr"] = 0.5 * 2 ** (n / 100) * 3e-3 * (4 if n < 2 else 1)
        adam.zero_grad()
        loss = plain_loss(shape, rnn, head, windows)
        loss.backward()
        norm = math.sqrt(sum(float((p.grad**2).sum()) for p in parameters if p.grad is not None))
        for p in parameters:
            assert p.grad is not None
            p.grad *= min(1.0, 0.3 / norm)
        adam.step()
        seen.append([p.detach().clone() for p in parameters])
        expected.append((loss.item(), norm, norm > 0.3))
    after, optimiser, reports = updates(many, shape, schedule, Optimiser.blank(998, 0.5), weights)
    assert [(r.loss, r.gradient_norm, r.clipped) for r in reports] == [pytest.approx(e, rel=1e-4) for e in expected]
    assert {r.outcome for r in reports} == {"updated"}
    assert (optimiser.steps, optimiser.updates) == (4, 1002)
    own, first, second = parts(optimiser, shape)
    names = [*(f"rnn.{name}" for name, _ in rnn.named_parameters()), "head.weight", "head.bias"]
    for name, p, weights_seen in zip(names, parameters, zip(*seen, strict=True), strict=True):
        np.testing.assert_allclose(own[name], p.detach(), rtol=1e-3, atol=2e-6)
        np.testing.assert_allclose(after[name], sum(weights_seen) / 5, rtol=1e-3, atol=2e-6)
        np.testing.assert_allclose(first[name], adam.state[p]["exp_avg"], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(second[name], adam.state[p]["exp_avg_sq"], rtol=1e-3, atol=1e-8)


def test_weights_for_service_forget_those_of_long_ago() -> None:
    """A mean over 40 updates, once there were so many: what it was before keeps 39/40 of its weight each time."""
    weights, optimiser, _ = updates([sample(seed=s) for s in range(50)])
    after, later, _ = fine_tune(SHAPE, weights, optimiser, sample(seed=50), SCHEDULE)
    own = parts(later)[0]
    for name, mean in after.items():
        np.testing.assert_allclose(mean, weights[name] + (own[name] - weights[name]) / 40, rtol=1e-5, atol=1e-6)
    assert not same(after, own)


# ---- two chains


def turn(updates: int) -> str:
    """What the update that makes so many does besides learning the fast chain."""
    place = updates * (math.sqrt(5) - 1) / 2 % 1
    return "slow" if place < 1 / 3 else "judges" if place < 2 / 3 else "neither"


NEXT = {turn(updates + 1): updates for updates in range(3)}  # updates after which it is each turn


def two_chains(seeds: range, weights: Weights) -> list[tuple[Weights, Optimiser]]:
    """After each update."""
    optimiser, steps = Optimiser.after(9), []
    for seed in seeds:
        weights, optimiser, report = fine_tune(SHAPE, weights, optimiser, sample(seed=seed), SCHEDULE)
        assert report.outcome == "updated"
        steps.append((weights, optimiser))
    return steps


def chains(optimiser: Optimiser) -> tuple[Floats32, Floats32]:
    """The fast one, for service, and the slow one."""
    assert optimiser.state is not None
    fast, slow = optimiser.state[3:]
    return fast, slow


def with_slow(optimiser: Optimiser, slow: Floats32, **fields: object) -> Optimiser:
    assert optimiser.state is not None
    return replace(optimiser, state=np.vstack([optimiser.state[:4], slow[None]]), **fields)  # type: ignore[arg-type]


def test_the_fast_chain_of_two_is_the_only_one_of_a_cold_start() -> None:
    weights = first_weights()
    steps = two_chains(range(5), weights)
    one: Weights = weights
    optimiser = Optimiser.blank()
    for seed, (_, two) in enumerate(steps):
        one, optimiser, _ = fine_tune(SHAPE, one, optimiser, sample(seed=seed), SCHEDULE)
        assert two.state is not None
        assert optimiser.state is not None
        assert np.array_equal(two.state[:3], optimiser.state)
        assert np.array_equal(two.state[3], Network(SHAPE).flat(one))


def test_the_slow_chain_moves_at_a_third_of_updates_down_its_own_gradient_and_never_far() -> None:
    weights = first_weights()
    steps, flat = two_chains(range(60), weights), Network(SHAPE).flat(weights)
    moves = np.diff([flat, *(chains(optimiser)[1] for _, optimiser in steps)], axis=0)
    moved = [n for n in range(60) if moves[n].any()]
    assert moved == [n for n in range(60) if turn(n + 1) == "slow"]
    assert moved[0] == 1
    assert len(moved) == 20
    assert np.abs(moves).max() <= 0.75 * 2e-3 + 1e-7
    rnn, head = plain_network(SHAPE, weights)
    parameters = [*rnn.parameters(), *head.parameters()]
    plain_loss(SHAPE, rnn, head, sample(seed=1)).backward()
    gradient = np.concatenate([p.grad.numpy().ravel() for p in parameters if p.grad is not None])
    gradient *= min(1.0, 1.0 / np.linalg.norm(gradient))
    state = steps[1][1].state
    assert state is not None
    wanted = gradient / (np.sqrt(state[2] / (1 - 0.999**2)) + 1e-8)
    assert (np.abs(wanted) < 1).mean() > 0.3 < (np.abs(wanted) > 1).mean(), "both kinds are seen"
    np.testing.assert_allclose(moves[1], -1.5e-3 * wanted.clip(-1, 1), rtol=1e-2, atol=1e-6)


def test_where_the_fast_chain_has_had_no_gradient_for_long_the_slow_one_moves_no_further() -> None:
    weights = first_weights()
    optimiser = two_chains(range(6), weights)[-1][1]
    assert optimiser.state is not None
    still = replace(optimiser, state=optimiser.state.copy(), updates=NEXT["slow"])
    assert still.state is not None
    still.state[1:3, :9] = 0.0
    _, after, _ = fine_tune(SHAPE, weights, still, sample(seed=7), SCHEDULE)
    assert 1e-3 < np.abs(chains(after)[1] - chains(still)[1]).max() <= 1.5e-3 + 1e-7


def test_an_update_is_told_as_clipped_where_the_slow_chains_gradient_is() -> None:
    weights = first_weights()
    _, optimiser, _ = fine_tune(SHAPE, weights, Optimiser.after(9), sample(), SCHEDULE)
    assert optimiser.state is not None
    optimiser.state[4] = 3 * optimiser.state[0]
    slow_first = replace(optimiser, state=optimiser.state[[4, 1, 2, 3, 4]])
    whole = [fine_tune(SHAPE, weights, some, sample(), SCHEDULE)[2] for some in (optimiser, slow_first)]
    fast, slow = (report.gradient_norm for report in whole)
    assert fast < slow
    between = replace(SCHEDULE, clip_norm=(fast + slow) / 2)
    turns = [replace(optimiser, updates=NEXT[which]) for which in ("slow", "judges")]
    reports = [fine_tune(SHAPE, weights, some, sample(), between)[2] for some in turns]
    assert [(report.clipped, report.gradient_norm) for report in reports] == [(True, fast), (False, fast)]


def test_weights_for_service_lie_between_two_chains() -> None:
    for served, optimiser in two_chains(range(6), first_weights()):
        fast, slow = chains(optimiser)
        expected = fast * np.float32(optimiser.share) + slow * np.float32(1 - optimiser.share)
        assert np.array_equal(Network(SHAPE).flat(served), expected)


def test_where_one_chain_is_the_better_by_far_its_weights_are_served_to_the_bit() -> None:
    weights = first_weights()
    optimiser = two_chains(range(6), weights)[-1][1]
    far = np.float32(1e4) * chains(optimiser)[1]
    for judged, which in ((20.0, 0.1, 9.0, 9.0, 9.0), 0), ((20.0, 9.0, 9.0, 9.0, 0.1), 1):
        some = with_slow(optimiser, far, judged=judged, updates=NEXT["neither"])
        served, after, _ = fine_tune(SHAPE, weights, some, sample(seed=7), SCHEDULE)
        assert np.array_equal(Network(SHAPE).flat(served), chains(after)[which])


def test_chains_are_judged_by_the_mean_loss_on_what_is_new_before_they_learn_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Labels of the last 8 steps of 16, where the window of the sample before ended, and those that have come since."""
    monkeypatch.setattr("pipeline.learning.fine_tune.JUDGED_OVER", 20)
    weights = first_weights()
    steps, network = two_chains(range(75), weights), Network(SHAPE)
    turns = [turn(n + 1) == "judges" for n in range(75)]
    assert [optimiser.judged[0] for _, optimiser in steps] == [min(n, 20) for n in np.cumsum(turns)]
    judging = [n for n in range(1, 75) if turns[n]]
    for n in (judging[0], judging[-1]):
        (_, before), (_, after) = steps[n - 1 : n + 1]
        windows = sample(seed=n)
        step = np.arange(T)[:, None, None]
        windows.labels[np.broadcast_to((step < 8) & (step + HORIZONS < 8), windows.labels.shape)] = math.nan
        fast, slow = chains(before)
        for i, share in enumerate((1.0, 0.5, 0.25, 0.0)):
            named = network.named(slow + np.float32(share) * (fast - slow))
            loss = plain_loss(SHAPE, *plain_network(SHAPE, named), windows).item()
            mean = before.judged[1 + i]
            assert after.judged[1 + i] == pytest.approx(mean + (loss - mean) / after.judged[0], rel=1e-4)


@pytest.mark.parametrize("every", [1, 2, 3, 4, 5])
def test_chains_are_judged_whatever_windows_keep_step_with(every: int) -> None:
    """Windows of streams in lockstep that move at every second update, at every third, and at any of them first."""
    moved, still = (sample()._replace(since=np.full(B, since, np.int64)) for since in (T - 8, T))
    weights = first_weights()
    for first in range(every):
        served, optimiser = weights, Optimiser.after(9)
        for n in range(20 * every):
            some = still if (n - first) % every else moved
            served, optimiser, _ = fine_tune(SHAPE, served, optimiser, some, SCHEDULE)
        assert 5 <= optimiser.judged[0] <= 9  # of 20


@pytest.mark.parametrize("which", NEXT)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -3e38])
def test_a_slow_chain_that_is_lost_begins_anew_from_the_fast_one(bad: float, which: str) -> None:
    weights = first_weights()
    optimiser = two_chains(range(6), weights)[-1][1]
    slow = chains(optimiser)[1].copy()
    slow[::3] = bad
    lost = with_slow(optimiser, slow, updates=NEXT[which])
    served, after, report = fine_tune(SHAPE, weights, lost, sample(seed=7), SCHEDULE)
    assert report.outcome == "updated"
    fast, slow = chains(after)
    if which != "neither" or not math.isfinite(bad):
        assert np.array_equal(slow, fast)
        assert after.judged == (0.0,) * 5
    _, one, _ = fine_tune(SHAPE, weights, replace(lost, state=optimiser.state[:3], judged=()), sample(seed=7), SCHEDULE)
    assert one.state is not None
    assert after.state is not None
    assert np.array_equal(after.state[:3], one.state), "the fast chain has not noticed"
    assert all(np.isfinite(weight).all() for weight in served.values())


@given(st.integers(0, 2), st.floats(-12, 38), st.floats(-12, 38), st.floats(0, 6), st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_what_an_update_makes_of_two_chains_wherever_they_are_can_be_read_back(
    updates: int, fast_size: float, slow_size: float, loss: float, many: int
) -> None:
    weights = first_weights()
    rng = np.random.default_rng(updates)
    flat = Network(SHAPE).flat(weights)
    fast, slow = (np.float32(10**size) * rng.normal(size=len(flat)).clip(-3, 3) for size in (fast_size, slow_size))
    state = np.stack([flat, flat, flat * flat, fast, slow]).astype(np.float32)
    optimiser = Optimiser(state, 5, updates, 1.0, (float(many), *(10 ** (loss * rng.random(4)))))
    for seed in range(4):
        weights, optimiser, report = fine_tune(SHAPE, weights, optimiser, sample(seed=seed), SCHEDULE)
        if report.outcome == "updated":
            back = Adoption.load(Adoption(weights, optimiser).dump())
            back.optimiser.check()
            assert back.optimiser.judged == optimiser.judged
            assert all(np.isfinite(weight).all() for weight in back.weights.values())


@pytest.mark.parametrize(
    ("judged", "share"),
    [
        ((0.0, 0.0, 0.0, 0.0, 0.0), 0.4375),  # nothing is known: the mean of all
        ((20.0, 0.1, 0.2, 0.2, 0.2), 1.0),
        ((20.0, 0.2, 0.2, 0.2, 0.1), 0.0),
        ((20.0, 0.2, 0.1, 0.2, 0.2), 0.5),
        ((20.0, 0.101, 9.0, 9.0, 0.1), 1 / (1 + math.e)),  # a hundredth worse
    ],
)
def test_the_share_of_the_fast_chain_follows_the_losses(judged: tuple[float, ...], share: float) -> None:
    assert replace(Optimiser.after(1), judged=judged).share == pytest.approx(share, abs=1e-6)


# ---- pure


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.cell} of {s.layers} x {s.hidden_size}")
def test_an_update_leaves_no_trace_but_its_result(shape: Shape) -> None:
    weights, optimiser, _ = updates([sample(shape, 7)], shape)
    windows = sample(shape)
    assert optimiser.state is not None
    before = copy.deepcopy((dict(weights), optimiser.state))
    arrays = [a.tobytes() for a in windows]
    random = torch.get_rng_state()
    one = fine_tune(shape, weights, optimiser, windows, SCHEDULE)
    torch.manual_seed(99)  # nor does it draw from there
    other = fine_tune(shape, weights, optimiser, windows, SCHEDULE)
    torch.set_rng_state(random)
    fine_tune(shape, weights, optimiser, windows, SCHEDULE)
    assert torch.equal(torch.get_rng_state(), random)
    assert same(one[0], other[0])
    assert one[1].state is not None
    assert other[1].state is not None
    assert np.array_equal(one[1].state, other[1].state)
    assert one[2] == other[2]
    assert same(weights, before[0]), "the arguments are as they were"
    assert np.array_equal(optimiser.state, before[1])
    assert [a.tobytes() for a in windows] == arrays
    assert optimiser.steps == 1
    assert not same(one[0], weights)


# ---- masks


def test_a_window_whose_labels_have_not_come_has_no_influence() -> None:
    windows = sample()
    windows.labels[:, 2] = math.nan
    expected = change(windows)
    other = copy.deepcopy(windows)
    other.inputs[:, 2], other.hidden[2] = 3.0, -1.0
    for name, moved in change(other).items():
        np.testing.assert_allclose(moved, expected[name], rtol=1e-5, atol=1e-7)
    other.labels[4, 2, 1] = 1.0
    assert any(np.abs(moved - expected[name]).max() > 1e-4 for name, moved in change(other).items())


def test_nothing_after_the_last_label_that_has_come_has_influence() -> None:
    windows = sample()
    windows.labels[10:] = math.nan
    other = copy.deepcopy(windows)
    other.inputs[10:] = 2.0
    for name, moved in change(other).items():
        np.testing.assert_allclose(moved, change(windows)[name], rtol=1e-5, atol=1e-7)


def test_the_mask_of_one_horizon_hides_no_other() -> None:
    windows = sample(masked=0.0)
    windows.labels[:, :, 0] = math.nan
    moved = change(windows)
    assert not moved["head.weight"][0].any()
    assert not moved["head.bias"][0].any()
    assert np.abs(moved["head.weight"][1]).min() > 0
    assert moved["head.bias"][2] != 0


def test_labels_that_have_come_are_counted() -> None:
    windows = sample()
    _, _, (report,) = updates([windows])
    assert (report.outcome, report.windows) == ("updated", B)
    assert report.labels == np.isfinite(windows.labels).sum() < windows.labels.size


# ---- what is bounded


def test_the_norm_of_a_gradient_is_clipped_and_told_as_it_was() -> None:
    _, free, (report,) = updates([sample()], schedule=replace(SCHEDULE, clip_norm=1e6))
    assert not report.clipped
    assert 10 * size(parts(free)[1]) == pytest.approx(report.gradient_norm, rel=1e-4)  # Adam's 1 - 0.9
    bound = report.gradient_norm / 3
    _, bounded, (other,) = updates([sample()], schedule=replace(SCHEDULE, clip_norm=bound))
    assert other.clipped
    assert (other.gradient_norm, other.loss) == (report.gradient_norm, report.loss)
    assert 10 * size(parts(bounded)[1]) == pytest.approx(bound, rel=1e-4)


def test_a_huge_label_pulls_no_harder_than_a_large_one() -> None:
    large, huge = sample(), sample()
    huge.labels[0, 0, 0] = 1e6
    assert same(change(large), change(huge))


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("where", ["inputs", "hidden"])
def test_what_is_not_finite_is_said_and_the_old_weights_are_given_back(where: str, bad: float) -> None:
    weights, optimiser, _ = updates([sample(seed=7)])
    windows = sample()
    getattr(windows, where).flat[3] = bad
    after, adam, report = fine_tune(SHAPE, weights, optimiser, windows, SCHEDULE)
    assert report.outcome == "nonfinite"
    assert after is weights
    assert adam is optimiser


def test_weights_that_are_not_finite_are_given_back_too() -> None:
    weights = first_weights()
    weights["head.bias"][1] = math.nan
    after, _, (report,) = updates([sample()], weights=weights)
    assert (report.outcome, after is weights) == ("nonfinite", True)


@pytest.mark.parametrize("bad", [math.inf, -math.inf])
def test_an_infinite_label_is_not_learnt_from(bad: float) -> None:
    weights, windows = first_weights(), sample()
    windows.labels[3, :, :] = bad
    after, _, report = fine_tune(SHAPE, weights, Optimiser.blank(), windows, SCHEDULE)
    assert (report.outcome, after is weights) == ("nonfinite", True)


def test_weights_or_moments_that_overflow_are_not_finite() -> None:
    weights = {name: np.full_like(w, 3e38) for name, w in first_weights().items()}
    after, _, (report,) = updates([sample()], weights=weights)
    assert (report.outcome, after is weights) == ("nonfinite", True)
    _, optimiser, _ = updates([sample()])
    assert optimiser.state is not None
    full = replace(optimiser, state=np.concatenate([optimiser.state[:2], np.full_like(optimiser.state[2:], math.inf)]))
    after, kept, (report,) = updates([sample()], optimiser=full, weights=first_weights())
    assert (report.outcome, kept is full) == ("nonfinite", True)


def test_without_a_label_there_are_too_few_windows() -> None:
    weights, optimiser, _ = updates([sample(seed=7)])
    windows = sample()
    windows.labels[:] = math.nan
    after, adam, report = fine_tune(SHAPE, weights, optimiser, windows, SCHEDULE)
    assert report[:3] == ("too_few_windows", B, 0)
    assert after is weights
    assert adam is optimiser
    windows.labels[5, 1, 2] = 0.5
    assert fine_tune(SHAPE, weights, optimiser, windows, SCHEDULE)[2][:3] == ("updated", B, 1)


# ---- the rate, and when


@pytest.mark.parametrize(
    ("done", "factor", "rate"),
    [
        (0, 1.0, 8e-3),
        (999, 1.0, 8e-3),
        (1000, 1.0, 2e-3),
        (10**6, 1.0, 2e-3),
        (5, 0.125, 1e-3),
        (1000, 0.5, 1e-3),
        (5, 2.5, 8e-3),  # no more than that
        (5, 5.0, 1e-2),  # unless it is asked for
    ],
)
def test_the_rate_is_fourfold_in_the_first_thousand_updates_and_times_the_factor(
    done: int, factor: float, rate: float
) -> None:
    """Adam's first step moves every weight with a gradient by the rate, those for service by half of that."""
    moved = change(sample(), optimiser=Optimiser.blank(done, factor))
    assert max(float(np.abs(m).max()) for m in moved.values()) == pytest.approx(rate / 2, rel=1e-2)
    assert float(np.abs(moved["head.bias"]).min()) == pytest.approx(rate / 2, rel=1e-2)


def test_a_halving_of_the_rate_is_forgiven_in_a_hundred_updates() -> None:
    windows = [sample(seed=1)] * 100
    weights, once, _ = updates(windows, optimiser=Optimiser.blank(0, 0.25))
    assert once.factor == pytest.approx(0.5)
    twice = updates(windows, optimiser=once, weights=weights)[1]
    assert twice.factor == pytest.approx(1.0)
    assert updates(windows[:2], optimiser=twice, weights=weights)[1].factor == 1.0, "and no more than that"


def test_an_optimiser_that_began_anew_keeps_its_updates_and_factor() -> None:
    _, optimiser, _ = updates([sample(seed=s) for s in range(3)], optimiser=Optimiser.blank(40, 0.25))
    assert (optimiser.steps, optimiser.updates, optimiser.factor) == (3, 43, pytest.approx(0.25 * 2**0.03))


@pytest.mark.parametrize(
    ("active", "interval"), [(1, 8), (4, 32), (8, 64), (9, 64), (30, 64), (32, 64), (33, 66), (1000, 2000)]
)
def test_an_update_is_due_every_2_to_8_events_of_each_active_stream(active: int, interval: int) -> None:
    assert Schedule(every_events=64).interval(active) == interval


@pytest.mark.parametrize("cell", CELLS)
def test_the_loss_goes_down_where_there_is_something_to_learn(cell: Cell) -> None:
    """Labels that only the inputs of two events before tell."""
    shape = Shape(cell, F, 12, 1, (1, 3))
    rng = np.random.default_rng(5)

    def windows() -> Windows:
        inputs = rng.normal(size=(T, B, F)).astype(np.float32)
        back = np.concatenate([np.zeros((2, B)), inputs[:-2, :, 0]])
        labels = np.stack([back, -np.abs(inputs[:, :, 1])], axis=-1)
        labels[:2] = math.nan
        hidden = np.zeros((B, 1, states(cell), 12), np.float32)
        return Windows(inputs, labels.astype(np.float32), hidden, np.zeros(B, np.int64))

    _, _, reports = updates([windows() for _ in range(250)], shape, Schedule(learning_rate=5e-3))
    losses = [report.loss for report in reports]
    assert np.mean(losses[-20:]) < 0.4 * np.mean(losses[:20])


def test_an_optimiser_that_is_not_finite_is_told() -> None:
    _, optimiser, _ = updates([sample()])
    optimiser.check()
    Optimiser.blank().check()
    assert optimiser.state is not None
    optimiser.state[2, 3] = math.nan
    with pytest.raises(ValueError, match="the optimiser is not finite"):
        optimiser.check()
