"""The study of learned φ⁴ actions: its results, its smallest run, interrupted and resumed, and its judge on cases whose answer is known."""
import json

import numpy as np
import pytest
from scipy import stats
from study import STUDIES, load_study

from uqphys.analysis import correlation_length, estimates
from uqphys.bias import Approximation
from uqphys.chains import metropolis_hastings
from uqphys.models import Phi4
from uqphys.sampling import sample


study = load_study("phi4.py")
fields = np.random.default_rng(0).normal(size=(6, 8, 8))


@pytest.fixture(scope="module")
def told():
    return json.loads((STUDIES / "phi4.json").read_text())


# ---- actions and what is measured


@pytest.mark.parametrize("action", [study.Action(8.0), study.Action(5.0, sixth=1.5), study.Action(6.008, sixth=0.5, improved=True)])
def test_the_force_is_minus_the_gradient_and_the_action_is_symmetric(action):
    x, step, force = fields[:2], 1e-5, action.force(fields[:2])
    for site in ((0, 0), (3, 7), (5, 2)):
        bump = np.zeros((8, 8))
        bump[site] = step
        slope = (action.energy(x + bump) - action.energy(x - bump)) / (2 * step)
        np.testing.assert_allclose(force[:, *site], -slope, rtol=1e-6, atol=1e-6)
    for image in (-x, np.roll(x, (3, 5), (1, 2)), x[:, ::-1], np.swapaxes(x, 1, 2)):
        np.testing.assert_allclose(action.energy(image), action.energy(x))


def test_the_plain_action_is_phi4_in_the_mass_convention_and_the_improved_gradient_is_better():
    np.testing.assert_allclose(study.Action(8.0).energy(fields), Phi4.from_mass((8, 8), -4.0, 8.0).energy(fields))
    wave = 1e-3 * np.cos(2 * np.pi * np.arange(8) / 8)[:, None] * np.ones(8)
    size, k2 = (wave**2).sum(), (2 * np.pi / 8) ** 2
    plain, improved = ((study.Action(0.0, improved=i).energy(wave) / size - study.MASS) / k2 - 1 for i in (False, True))
    assert plain == pytest.approx(-k2 / 12, rel=0.05) and improved == pytest.approx(-k2**2 / 90, rel=0.1)  # errors of order k⁴ and k⁶


def test_any_quartic_action_is_a_phi4_model_at_some_temperature():
    rng = np.random.default_rng(1)
    for a, b, c in rng.uniform(0.5, 5, size=(5, 3)):
        energy = lambda x: 7.0 + (-a * x * (np.roll(x, 1, -1) + np.roll(x, 1, -2)) + b * x**2 + c * x**4).sum((-2, -1))
        near, beta = study.nearest_phi4(energy, rng.normal(size=(30, 8, 8)))
        np.testing.assert_allclose(np.ptp(beta * near.energy(fields) - energy(fields)), 0, atol=1e-8)


def test_the_correlation_length_is_that_of_the_library_and_its_slope_is_right_to_third_order():
    run = sample(Phi4.from_mass((8, 8), -4.0, 6.008), draws=40, chains=4, burn_in=50, method="hmc", seed=0, progress=False)
    seen = study.with_more(run)
    assert float(seen["xi"].mean()) == pytest.approx(correlation_length(run, connected=False).value, rel=0.02)  # there, an average over axes
    here, there = np.array([0.030, 0.0014]), np.array([0.024, 0.0013])
    exact = study.correlation_length(*here) - study.correlation_length(*there)
    linear = lambda middle: study.with_more(run, middle)["xi"].values
    slope = lambda middle: np.linalg.lstsq(np.stack([np.ones(160), run["m2"].values.ravel(), study.first_mode(run["config"].values).ravel()], 1), linear(middle).ravel(), rcond=None)[0][1:]
    halfway, end = (abs(slope(m) @ (here - there) - exact) for m in ((here + there) / 2, here))
    assert halfway < 0.02 * abs(exact) < end


def test_a_surrogate_that_is_right_has_no_bias():
    action, x, law = study.learned("gradient", 6.008, 0, study.QUICK)
    plain = study.Action(6.008)
    right = Approximation(plain, study.surrogate("quartic", 0).fit(x, plain.energy(x)[:, None], progress=False))
    near, beta = study.nearest_phi4(right.energy, x)
    assert beta * 2 * near.kappa == pytest.approx(2, rel=1e-6)
    _, _, bias, error, *shares = study.true_bias(right, study.QUICK, 0)
    assert np.abs(bias).max() < 1e-6 and np.abs(error).max() < 1e-6 and min(shares) > 0.999


def test_the_judge_agrees_with_direct_runs_of_both_laws():
    "The bias of a surrogate that is a φ⁴ model itself, by reweighting, and from direct runs of both laws."
    action, x, law = study.learned("gradient", 8.0, 0, study.QUICK)
    exact, exact_error, bias, error, *_ = study.true_bias(law, dict(study.SIZES, long_draws=300), 3)
    near, beta = study.nearest_phi4(law.energy, x)
    options = dict(thin=2, burn_in=50, method="hmc", seed=9, keep="observables", progress=False)
    slow, fast = estimates(sample(action, draws=40, chains=64, **options)), estimates(sample(near, beta, draws=2000, chains=8, **options))
    for name in ("phi2", "abs_m", "susceptibility", "m2"):
        k, per_beta = study.OBSERVABLES.index(name), beta if name == "susceptibility" else 1.0  # the library's has a factor β
        assert abs(slow[name].value - exact[k]) < 4 * np.hypot(slow[name].error, exact_error[k])
        whole = np.hypot(fast[name].error / per_beta, np.hypot(exact_error[k], error[k]))
        assert abs(fast[name].value / per_beta - exact[k] - bias[k]) < 4 * whole
        assert name == "phi2" or bias[k] > 5 * whole  # a judge that took the bias with the other sign would be found out


def test_the_errors_of_the_judge_are_the_scatter_of_its_runs():
    "Sixteen runs: their variance over the claimed one has a law of chi², and the claimed one, from sixteen chains, one of its own: F."
    _, _, law = study.learned("gradient", 8.0, 0, study.QUICK)
    exact, exact_error, bias, error = np.array([study.true_bias(law, study.QUICK, 100 + 2 * k)[:4] for k in range(16)]).transpose(1, 0, 2)
    for value, claimed in ((exact, exact_error), (bias, error)):
        ratio = value.var(0, ddof=1) / (claimed**2).mean(0)
        assert (stats.chi2.ppf(1e-4, 15) / 15 < ratio).all() and (ratio < stats.f.ppf(1 - 1e-4, 15, 15)).all(), ratio


# ---- the smallest run

SMALL = dict(cases=("wrong power",), lambdas=(8.0,), seeds=2, sizes=study.QUICK)


@pytest.fixture(scope="module")
def smallest(tmp_path_factory):
    "A run that is interrupted in its second row, then continued; and which rows were made when."
    folder = tmp_path_factory.mktemp("phi4")
    mine, made = load_study("phi4.py"), []
    whole = mine.row

    def stopped(case, lam, seed, sizes):
        if seed:
            raise KeyboardInterrupt
        return made.append(seed) or whole(case, lam, seed, sizes)

    mine.row = stopped
    options = dict(folder=folder / "rows", out=folder / "out.json", **SMALL)
    with pytest.raises(KeyboardInterrupt):
        mine.main(**options)
    assert not (folder / "out.json").exists() and not list((folder / "rows").glob("*.part"))
    before = {file.name: file.read_bytes() for file in (folder / "rows").glob("*.json")}
    mine.row = lambda *args: made.append(args[2]) or whole(*args)
    return folder, made, before, mine.main(**options)


def test_an_interrupted_study_goes_on_where_it_stopped(smallest):
    folder, made, before, result = smallest
    assert made == [0, 1] and len(before) == 1
    assert all((folder / "rows" / name).read_bytes() == content for name, content in before.items())
    assert [r["seed"] for r in result["rows"]] == [0, 1] and json.loads((folder / "out.json").read_text()) == result
    for r in result["rows"]:
        assert set(r["truth"]) == set(study.OBSERVABLES) and set(r["evidence"]) == {"posterior", "probe", "exact"}
        assert all(v["low"] <= v["high"] for table in r["evidence"].values() for v in table.values())
        assert {v["exact_evaluations"] for v in r["evidence"]["probe"].values()} == {20}


def test_rows_of_other_settings_are_refused(smallest):
    folder = smallest[0]
    with pytest.raises(SystemExit, match="other settings"):
        study.main(folder=folder / "rows", out=folder / "other.json", **dict(SMALL, sizes=dict(study.QUICK, probes=30)))
    assert not (folder / "other.json").exists()


def test_a_report_asks_for_no_more_exact_actions_than_it_says():
    "The probes that set the slope of the correlation length are those of the report itself."
    _, x, law = study.learned("gradient", 8.0, 0, study.QUICK)
    asked = set()

    class Counted(study.Action):
        def energy(self, x):
            asked.update(field.tobytes() for field in np.asarray(x, dtype=float).reshape(-1, 64))
            return super().energy(x)

    ensemble = metropolis_hastings(law, 1.0, study.walk(law, x), draws=60, chains=8, burn_in=10, seed=0, progress=False)
    law = Approximation(Counted(8.0, improved=True), law.surrogate)
    report = study.foretell(law, ensemble, "probe", 30, 0)
    assert len(asked) == 30 and (report.table["exact_evaluations"] == 30).all()
    asked.clear()
    report = study.foretell(law, ensemble, "posterior", 30, 0)
    assert not asked and (report.table["exact_evaluations"] == 0).all()


def test_every_part_of_every_row_has_a_seed_of_its_own():
    rows = [(case, lam, k) for case in study.CASES for lam in (*study.LAMBDAS, 4.3) for k in range(20)]
    seeds = [s for row in rows for s in study.seeds_of(*row).values()] + [study.seeds_of(case, lam) for case, lam, k in rows if k == 0]
    assert len(set(seeds)) == len(seeds) == 16 * (80 + 1)
    used, mine = [], load_study("phi4.py")
    plain = mine.sample
    mine.sample = lambda *args, seed, **more: used.append(seed) or plain(*args, seed=seed, **more)
    for row in (("gradient", 8.0, 0), ("gradient", 8.0, 1), ("sixth power", 8.0, 0)):
        mine.learned(*row, mine.QUICK)
        assert used[-1] == mine.seeds_of(*row)["learning"]


@pytest.mark.parametrize("wrong, message", [(dict(cases=("gradient", "cubic")), "cases='cubic': expected some of wrong power"), (dict(lambdas=(8.0, -1.0)), "lambdas=-1.0: expected positive"),
                                            (dict(lambdas=(float("nan"),)), "lambdas=nan"), (dict(seeds=0), "seeds=0: expected at least 1")])
def test_bad_calls_are_refused_before_anything_is_made(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        study.main(folder=tmp_path / "rows", out=tmp_path / "out.json", **dict(SMALL, **wrong))
    assert not list(tmp_path.iterdir())


def test_a_quick_run_writes_nothing_over_the_study(capsys):
    quick, whole = study.options(["--quick"]), study.options([])
    assert quick["folder"] != whole["folder"] and STUDIES not in quick["out"].parents and whole["out"] == STUDIES / "phi4.json"
    with pytest.raises(SystemExit):
        study.options(["--seeds", "0"])
    assert "--seeds 0: expected at least 1" in capsys.readouterr().err


# ---- what the page says


def deviations(rows, evidence, name):
    "Errors of forecasts in units of what they claim, the error of the truth included."
    found = [(r["evidence"][evidence][name], r["truth"][name]) for r in rows]
    return np.array([(v["predicted_bias"] - t["bias"]) / np.hypot((v["high"] - v["low"]) / 3.92, t["truth_error"]) for v, t in found])


def holds(rows, evidence):
    "Share of intervals that hold the true bias."
    return np.mean([v["low"] <= r["truth"][n]["bias"] <= v["high"] for r in rows for n, v in r["evidence"][evidence].items()])


def of(told, case):
    return [r for r in told["rows"] if r["case"] == case]


def test_the_study_is_whole_and_was_made_with_the_settings_of_the_script(told):
    made = [(r["case"], r["lam"], r["seed"]) for r in told["rows"]]
    seeds = sorted({seed for *_, seed in made})
    assert sorted(made) == sorted((c, lam, s) for c in study.CASES for lam in study.LAMBDAS for s in seeds) and seeds == list(range(8))
    assert told["settings"] == {c: study.settings(c, study.SIZES) for c in study.CASES}
    assert all(r["evidence"]["probe"][n]["exact_evaluations"] == 100 for r in told["rows"] for n in study.OBSERVABLES)


def test_the_judge_is_more_precise_than_what_it_judges(told):
    ratio = [r["truth"][n]["truth_error"] / (v["high"] - v["low"]) * 3.92 for r in told["rows"] for n, v in r["evidence"]["probe"].items()]
    large = [r["truth"][n]["truth_error"] / abs(r["truth"][n]["bias"]) for r in of(told, "gradient") for n in ("phi2", "abs_m", "m2", "xi")]
    assert np.median(ratio) < 0.15 and max(ratio) < 0.35 and max(large) < 0.03 and min(min(r["shares"]) for r in told["rows"]) > 0.5


@pytest.mark.parametrize("evidence", ["probe", "exact"])
@pytest.mark.parametrize("name", ["phi2", "m2"])
def test_forecasts_deviate_as_they_claim(told, evidence, name):
    z = deviations(told["rows"], evidence, name)
    n, square = len(z), (z**2).sum()
    assert abs(z.mean()) < 4 / np.sqrt(n) and square < stats.chi2.ppf(1 - 1e-4, n) and np.abs(z).max() < 4
    assert 4 * square > stats.chi2.ppf(1 - 1e-4, n)  # claims of half the size would be found out


def test_intervals_of_probes_and_chains_hold_and_those_of_the_posterior_do_not(told):
    assert holds(told["rows"], "probe") > 0.9 and holds(told["rows"], "exact") > 0.9
    assert holds(of(told, "gradient"), "posterior") < 0.3 and holds(told["rows"], "posterior") < 0.85
    assert all(v["trust"] != "yes" for r in told["rows"] for v in r["evidence"]["posterior"].values())


def test_the_missing_order_of_the_gradient_is_put_right(told):
    for name, least in (("m2", 10), ("phi2", 10), ("xi", 8)):
        before, left = (np.sqrt(np.mean([((r["truth"][name]["bias"] - part * r["evidence"]["probe"][name]["predicted_bias"]) / r["truth"][name]["exact"]) ** 2 for r in of(told, "gradient")])) for part in (0, 1))
        assert left < before / least
