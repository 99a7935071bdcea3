"""The widths that foldcast's are measured by are what they say, and so are the figures by them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the measurements are scripts, which find each other there

import bench_peers_widths as bench
from bench_peers_accuracy import LEVELS, Origins
from bench_peers_widths import HORIZONS, NORMAL, Made
from histories import FAR, History

DAY_MS = 86_400_000
EVENTS, FIRST = 1_500, 500
ARCH = (0.000002, 0.1, 0.88)  # what a variance begins with, of the last square, of itself


def market(seed: int, events: int = EVENTS) -> tuple[np.ndarray, np.ndarray]:
    """(events,) a walk whose steps are GARCH(1,1), and the deviation of the step after each event."""
    rng = np.random.default_rng(seed)
    least, of_square, of_itself = ARCH
    values, deviation = np.zeros(events), np.zeros(events)
    deviation[0] = np.sqrt(least / (1 - of_square - of_itself))
    for i in range(1, events):
        step = deviation[i - 1] * rng.standard_normal()
        values[i] = values[i - 1] + step
        deviation[i] = np.sqrt(least + of_square * step**2 + of_itself * deviation[i - 1] ** 2)
    return values, deviation


def origins(values: dict[str, np.ndarray], first: int = FIRST) -> Origins:
    length = len(next(iter(values.values())))
    times = [np.arange(length) * DAY_MS] * len(values)
    history = History(times, list(values.values()), list(values), covariates=False)
    return Origins(history, list(range(first, length - max(HORIZONS))), FAR, [])


def oracle(at: list[int], values: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    return values[at, None, None] + deviation[at, None, None] * np.sqrt(HORIZONS)[:, None] * NORMAL


@pytest.fixture(scope="module")
def walks() -> tuple[Origins, Made]:
    """Two of them, and the quantiles of whoever knows their variance."""
    made = {name: market(seed) for seed, name in enumerate(("a", "b"))}
    asked = origins({name: values for name, (values, _) in made.items()})
    return asked, Made({name: oracle(asked.at, *both) for name, both in made.items()}, 0)


def test_the_quantiles_of_all_errors_so_far_are_numpys():
    errors = np.random.default_rng(0).standard_t(3, 400)
    known = [1, 2, 3, 50, 51, 400]
    found = bench.quantiles_so_far(errors, known)
    assert found == pytest.approx(np.array([np.quantile(errors[:count], LEVELS) for count in known]))


def test_a_weighted_variance_knows_nothing_later():
    values, _ = market(3)
    at = list(range(FIRST, 900))
    other = np.concatenate([values[:900], values[900:] + 10])
    for once, again in zip(bench.weighted(values, at).values(), bench.weighted(other, at).values(), strict=True):
        assert once.tobytes() == again.tobytes()
    assert bench.weighted(other, [901])["weighted variance, normal"][0, 0, 4] > values[901] + 5, "it sees the jump"


def test_a_weighted_variance_follows_the_deviation_of_steps():
    for scale in (1e-4, 1, 1e4):
        steps = scale * np.tile([1, -1], 400)
        steps[400:] *= 5
        found = bench.deviations(np.cumsum(steps)) / scale
        assert found[300] == pytest.approx(1)
        assert found[404] == pytest.approx(np.sqrt(1 + 24 * (1 - 0.94**5)))
        assert found[-1] == pytest.approx(5)


def test_whoever_knows_the_variance_is_calibrated_and_best(walks: tuple[Origins, Made]):
    asked, known = walks
    for method, made in bench.by_weighted_variance(asked).items():
        by_known = bench.figures(asked, made, known)
        assert 1 < by_known["by foldcast h=1"] < 1.03, method
        assert by_known["series better h=1"] == 0, method
        assert max(by_known["by foldcast h=6"], by_known["by foldcast h=24"]) < 1.2, method
    scored = bench.figures(asked, known, known)
    assert scored["inside 80 % h=1"] == pytest.approx(80, abs=3)
    assert scored["inside 95 % h=1"] == pytest.approx(95, abs=2)
    for h in HORIZONS:
        assert (scored[f"by foldcast h={h}"], scored[f"+- h={h}"]) == (1, 0)


def test_too_wide_and_too_narrow_lose_and_are_seen(walks: tuple[Origins, Made]):
    asked, known = walks
    for factor, inside in ((0.5, 48), (2, 99)):
        values = zip(asked.history.names, asked.history.values, strict=True)
        last = {name: mine[asked.at][:, None, None] for name, mine in values}
        made = {name: last[name] + factor * (known.quantiles[name] - last[name]) for name in last}
        scored = bench.figures(asked, Made(made, 0.001), known)
        assert scored["inside 80 % h=1"] == pytest.approx(inside, abs=4)
        assert scored["by foldcast h=1"] - 3 * scored["+- h=1"] > 1.03
        assert scored["by foldcast h=1, calm"] > 1.03
        assert scored["CPU ms"] == 1


def test_the_loss_is_that_of_the_definition():
    label, quantiles = np.array([1.0, -3.0]), np.tile([-2.0, -1.0, 0.0, 1.0, 2.0], (2, 1))
    above = [0.025 * 3, 0.1 * 2, 0.5 * 1, 0, 0.025 * 1]
    below = [0.975 * 1, 0.9 * 2, 0.5 * 3, 0.1 * 4, 0.025 * 5]
    assert bench.pinball_losses(label, quantiles) == pytest.approx([np.mean(above), np.mean(below)])


def test_calm_wild_and_jumps_are_where_they_were_put():
    steps = np.tile([1.0, -1.0], 500)
    steps[700:] *= 4
    steps[650] = 9
    asked = origins({"a": np.cumsum(steps)})
    when = {name: np.array(asked.at)[chosen[0]] for name, chosen in bench.times(asked).items()}
    assert when["jump"].tolist() == [*range(650, 655), *range(700, 705)]
    assert when["wild"].min() > 700
    assert when["calm"].max() < 650


def test_garch_is_asked_in_an_environment_of_its_own(
    walks: tuple[Origins, Made], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    asked, _ = walks
    (tmp_path / "volatility.py").write_text(
        "import json, sys\n"
        "asked = json.load(sys.stdin)\n"
        "for name, values in asked['series'].items():\n"
        "    made = [[[values[at]] * len(asked['levels'])] * len(asked['horizons']) for at in asked['origins']]\n"
        "    print(json.dumps({'method': 'last', 'series': name, 'made': made, 'cpu_s': asked['refit']}))\n"
    )
    monkeypatch.setattr(bench, "PEERS", tmp_path)
    monkeypatch.setattr(bench, "PYTHON", Path(sys.executable))
    (made,) = bench.by_garch(asked, 7).values()
    assert made.cpu_s == 7
    loss, _ = bench.losses(asked, made)
    assert loss.mean((0, 1)) == pytest.approx(np.full(len(HORIZONS), 0.5)), "half of the last value's absolute error"


def test_the_bench_measures_a_market(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, walks: tuple[Origins, Made]
):
    asked, known = walks
    monkeypatch.setitem(bench.MARKETS, "tiny", lambda: asked.history)
    monkeypatch.setattr(bench, "by_garch", lambda *_: {"oracle": known})
    monkeypatch.setattr(bench, "PYTHON", Path(sys.executable))
    bench.main(["tiny", "--first", str(FIRST), "--json"])
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert 0.93 < runs["oracle"]["by foldcast h=1"][0] < 1
    assert runs["foldcast"]["inside 80 % h=1"][0] == pytest.approx(80, abs=5)
