"""Gaussian processes for the action of a field: symmetries, inference against dense algebra, calibration over many repetitions, refusals."""
import itertools
import tracemalloc

import numpy as np
import pytest
from common import assert_complete, assert_refused
from scipy import stats

from uqphys import field_gp as module
from uqphys.architectures import LocalEnergyNet
from uqphys.bnn import LastLayer
from uqphys.field_gp import FieldGP, action_terms, distinct_fields, field_features, field_forms, field_leave_one_out, site_descriptors
from uqphys.models import Phi4, random_fields
from uqphys.sampling import sample

FEW = dict(lengths=(1.0, 4.0), linear=(1.0, 100.0), nuggets=(1e-3, 1e-1), growths=(0.0, 6.0))
SHAPES = [(7,), (4, 4), (4, 6), (3, 3, 3), (2, 3, 4), (2, 2, 2, 2)]


def turned(x, rng, flip=True):
    "A random image of fields (n, *shape) under the symmetries of their lattice."
    shape, ndim = x.shape[1:], x.ndim - 1
    orders = [o for o in itertools.permutations(range(ndim)) if all(shape[a] == shape[k] for k, a in enumerate(o))]
    x = x.transpose(0, *(1 + np.array(orders[rng.integers(len(orders))])))
    for axis in range(1, ndim + 1):
        x = np.roll(np.flip(x, axis) if rng.integers(2) else x, rng.integers(x.shape[axis]), axis)
    return -x if flip and rng.integers(2) else x


@pytest.fixture(scope="module")
def fields():
    "Independent draws of φ⁴ near criticality, and of its symmetric phase."
    models = {"critical": Phi4.from_mass((6, 6), -4.0, 8.0), "symmetric": Phi4.from_mass((6, 6), 0.5, 2.0)}
    return {name: (model, sample(model, draws=500, chains=8, burn_in=300, thin=8, seed=3, progress=False)["config"].values.reshape(-1, 6, 6)) for name, model in models.items()}


def distant(x):
    "A truth that no term or wave contains: products of squares three sites apart, and powers."
    return 0.5 * (x**2).sum((1, 2)) + 0.1 * sum((x**2 * np.roll(x, 3, a) ** 2).sum((1, 2)) for a in (1, 2)) + 0.2 * np.cos(4 * x).sum((1, 2))


# ---- symmetries

@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("ties", [True, False])
def test_all_images_have_one_form_to_the_bit(shape, flip, ties):
    rng = np.random.default_rng(0)
    x = rng.integers(-1, 2, (20, *shape)).astype(float) if ties else random_fields(shape, 20, seed=1)
    forms = field_forms(x, flip)
    for _ in range(20):
        assert np.array_equal(field_forms(turned(x, rng, flip), flip), forms)
    assert np.array_equal(np.sort(abs(forms.reshape(20, -1))), np.sort(abs(x.reshape(20, -1)))) and np.array_equal(field_forms(forms, flip), forms)
    if not ties:
        assert len(distinct_fields(np.concatenate([forms, field_forms(-x, flip)]))[0]) == (20 if flip else 40)
        other = x.copy()
        other[:, *(0,) * len(shape)] += 1e-13
        assert len(distinct_fields(np.concatenate([forms, field_forms(other, flip)]))[0]) == 40


def test_without_lattice_symmetry_only_the_flip_counts():
    x = random_fields((3, 4), 6, seed=0)
    x[0, 0, 0] = 0.0
    assert np.array_equal(field_forms(-x, True, False), field_forms(x, True, False)) and np.array_equal(field_forms(x, False, False), x)
    assert not np.array_equal(field_forms(np.roll(x, 1, 1), True, False), field_forms(x, True, False))
    assert np.array_equal(field_forms(np.zeros((1, 2, 2)), True, False), np.zeros((1, 2, 2)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("flip", [True, False])
def test_terms_and_descriptors_are_symmetric_to_rounding(shape, flip):
    rng, x = np.random.default_rng(2), random_fields(shape, 10, seed=2)
    for _ in range(5):
        y = turned(x, rng, flip)
        np.testing.assert_allclose(action_terms(y, flip), action_terms(x, flip), rtol=1e-10, atol=1e-10)
        for power in (1, 2, 3):
            np.testing.assert_allclose((site_descriptors(y, flip) ** power).sum(1), (site_descriptors(x, flip) ** power).sum(1), rtol=1e-10, atol=1e-10)
    assert not flip or np.array_equal(site_descriptors(-x), site_descriptors(x))


def test_terms_grow_with_the_lattice():
    x = random_fields((4, 4), 5, seed=3)
    big = np.tile(x, (1, 2, 3))
    np.testing.assert_allclose(action_terms(big), 6 * action_terms(x), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(site_descriptors(big).sum(1), 6 * site_descriptors(x).sum(1))


@pytest.mark.parametrize("flags", [{}, dict(flip_symmetric=False), dict(lattice_symmetric=False), dict(flip_symmetric=False, lattice_symmetric=False)], ids=str)
@pytest.mark.parametrize("shape", [(8,), (4, 4), (3, 3, 3)], ids=str)
def test_beliefs_are_symmetric_as_far_as_they_should_be(shape, flags):
    x, rng = random_fields(shape, 60, seed=4), np.random.default_rng(5)
    y = (x**4).reshape(60, -1).sum(1)[:, None] + 0.3 * x.reshape(60, -1)[:, :1] ** 2
    gp, new = FieldGP(**FEW, **flags).fit(x, y), random_fields(shape, 10, seed=6)
    told = gp.predict(new)
    image = (turned(new, rng, False) if flags.get("lattice_symmetric", True) else np.roll(new, 1, 1)) * (-1 if flags.get("flip_symmetric", True) else 1)
    again = gp.predict(image)
    np.testing.assert_allclose(again.mean, told.mean, rtol=1e-8)
    np.testing.assert_allclose(again.epistemic, told.epistemic, rtol=1e-6)
    if not flags.get("flip_symmetric", True):
        assert abs(gp.predict(-new).mean - told.mean).max() > 1e-3
    seen = gp.predict(x[:7])
    assert np.array_equal(seen.mean, y[:7]) and not seen.epistemic.any() and (seen.draws == y[:7]).all()
    both = gp.predict(np.concatenate([new, turned(new, rng, False)]))  # equivalent new fields share their own part
    same = np.allclose(both.draws[:, :10], both.draws[:, 10:], rtol=1e-6)
    assert same == flags.get("lattice_symmetric", True)


# ---- inference

def test_a_prediction_is_the_textbooks_at_one_grid_point():
    "Dense Student-t algebra with kernel matrices, no weights."
    x, new = random_fields((4, 4), 30, seed=7), random_fields((4, 4), 20, seed=8)
    y = distant(x)
    gp = FieldGP(lengths=(2.0,), linear=(10.0,), nuggets=(0.05,), growths=(3.0,), draws=4000).fit(x, y[:, None])
    a, va = module._columns(x, gp.units, gp.options)
    b, vb = module._columns(new, gp.units, gp.options)
    K = gp.kernels[0]
    c = 30 / np.trace(a * K @ a.T)
    G, cross = c * a * K @ a.T + 0.05 * np.diag(va[:, 0]), c * b * K @ a.T
    solve = np.linalg.inv(G)
    mu = solve.sum(0) @ y / solve.sum()
    q = (y - mu) @ solve @ (y - mu)
    lever = 1 - cross @ solve.sum(1)
    covariance = (c * b * K @ b.T + 0.05 * np.diag(vb[:, 0]) - cross @ solve @ cross.T + np.outer(lever, lever) / solve.sum()) * q / 27
    belief = gp.predict(new)
    np.testing.assert_allclose(belief.mean[:, 0], mu + cross @ solve @ (y - mu), rtol=1e-8)
    np.testing.assert_allclose(belief.epistemic[:, 0], np.diag(covariance), rtol=1e-6)
    draws = belief.draws[:, :, 0] - belief.mean[:, 0]
    total, exact = draws @ np.ones(20), covariance.sum()
    assert abs(total.var() / exact - 1) < 4 * np.sqrt(2.2 / 4000)
    z = ((draws.T @ draws) / 4000 - covariance) / np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) * 1.2 / 4000)
    assert abs(z).max() < 4.5


def test_values_left_to_judge_by():
    "With an own part that is all, n - 1 values are left, for one is spent on the mean; with one that is nearly nothing, few are."
    x = random_fields((4, 4), 40, seed=9)
    y = np.random.default_rng(0).normal(size=(40, 1))
    told = field_leave_one_out(FieldGP(nuggets=(1e9,), growths=(0.0,)).fit(x, y))
    assert told["spare"] == pytest.approx(39, abs=1e-4)
    np.testing.assert_allclose(told["residual"], (y[:, 0] - y.mean()) * 40 / 39, rtol=1e-5)
    assert field_leave_one_out(FieldGP(nuggets=(1e-10,), growths=(0.0,), lengths=(0.5,)).fit(x, y))["spare"] < 1


def test_left_out_values_are_those_of_a_process_without_them():
    x, y = random_fields((4, 4), 60, seed=10), None
    y = distant(x)[:, None]
    told, miss = field_leave_one_out(FieldGP().fit(x, y)), []
    for i in range(8):
        keep = np.arange(60) != i
        miss.append(y[i, 0] - FieldGP().fit(x[keep], y[keep]).predict(x[i : i + 1]).mean[0, 0])
    scale = np.sqrt(np.mean(told["residual"] ** 2))
    assert np.corrcoef(told["residual"][:8], miss)[0, 1] > 0.95 and abs(told["residual"][:8] - miss).max() < scale  # weights and units have seen the value


def test_units_do_not_matter():
    x, new = random_fields((4, 4), 40, seed=11), random_fields((4, 4), 9, seed=12)
    y = distant(x)[:, None]
    one, other = FieldGP(**FEW).fit(x, y).predict(new), FieldGP(**FEW).fit(1e-5 * x, 1e6 * y - 7).predict(1e-5 * new)
    np.testing.assert_allclose((other.mean + 7) / 1e6, one.mean, rtol=1e-6)
    np.testing.assert_allclose(other.epistemic / 1e12, one.epistemic, rtol=1e-5)


def test_constant_values_are_believed():
    x = random_fields((4, 4), 20, seed=13)
    belief = FieldGP().fit(x, np.full((20, 1), 3.3)).predict(random_fields((4, 4), 5, seed=14))
    np.testing.assert_allclose(belief.mean, 3.3, rtol=1e-9)
    assert belief.epistemic.max() < 1e-15


# ---- calibration

def truth_of_the_prior(x, n, seed):
    "A process whose units come from the first n fields, and a function of its prior at all of them."
    rng = np.random.default_rng([21, seed])
    gp = FieldGP(**FEW, draws=99, seed=seed).fit(x[:n], np.arange(float(n))[:, None])
    columns, own = module._columns(x, gp.units, gp.options)
    k, t = rng.integers(len(gp.kernels)), rng.choice(FEW["nuggets"])
    kernel = gp.kernels[k] * n / np.trace(gp.columns * gp.kernels[k] @ gp.columns.T)
    return gp, columns @ (np.sqrt(kernel) * rng.standard_normal(len(kernel))) + np.sqrt(t * own[:, k % 2]) * rng.standard_normal(len(x))


def prior_ranks(repetitions, spoil=lambda draws: draws):
    "Ranks of the mean, a covariance and one value of functions of the prior among their draws, as numbers in (0, 1)."
    pool, ranks = random_fields((4, 4), 3000, seed=15), []
    for seed in range(repetitions):
        rng = np.random.default_rng([22, seed])
        x = pool[rng.choice(3000, 110, replace=False)]
        gp, truth = truth_of_the_prior(x, 30, seed)
        draws = spoil(gp.fit(x[:30], truth[:30, None]).predict(x[30:]).draws[:, :, 0])
        size = (x[30:] ** 2).mean((1, 2))
        weights = np.stack([np.ones(80), size - size.mean(), np.eye(80)[0]], 1)
        ranks.append(((draws @ weights < truth[30:] @ weights).sum(0) + rng.uniform(size=3)) / 100)
    return np.array(ranks)


def test_functions_of_the_prior_are_ranked_uniformly():
    "Of each functional, and of all together how far from the middle they are: the least of four p-values is below 0.003 once in 80 times."
    ranks = prior_ranks(120)
    p = [stats.kstest(column, "uniform").pvalue for column in ranks.T] + [stats.kstest(abs(2 * ranks - 1).ravel(), "uniform").pvalue]
    assert min(p) > 0.003, p


def test_that_test_can_fail():
    "Draws that spread half as much as they should."
    ranks = prior_ranks(40, lambda draws: (draws + draws.mean(0)) / 2)
    assert stats.kstest(abs(2 * ranks - 1).ravel(), "uniform").pvalue < 1e-4


def repeated(x, y, n, repetitions):
    "Mean squared z, shares inside the 95 % intervals of three averages, and the error relative to the spread, over many choices of the data."
    squares, inside, error = [], [], []
    for seed in range(repetitions):
        rows = np.random.default_rng([31, seed]).choice(len(x), n + 200, replace=False)
        seen, held = rows[:n], rows[n:]
        gp = FieldGP(draws=200, seed=seed, lengths=(1.0, 4.0), linear=(1.0, 100.0), nuggets=(1e-4, 1e-3, 1e-2, 1e-1, 1.0), growths=(0.0, 6.0))
        belief = gp.fit(x[seen], y[seen, None]).predict(x[held])
        miss = y[held] - belief.mean[:, 0]
        observables = np.stack([(x[held] ** 2).mean((1, 2)), abs(x[held].mean((1, 2)))], 1)
        weights = np.hstack([np.ones((200, 1)), observables - observables.mean(0)])
        place = (belief.draws[:, :, 0] @ weights < y[held] @ weights).mean(0)
        squares.append(np.mean(miss**2 / belief.epistemic[:, 0])); inside.append(abs(place - 0.5) < 0.475); error.append(np.sqrt(np.mean(miss**2)) / y[held].std())
    told = np.array(squares), np.mean(inside, 0), np.median(error)
    print(f"mean squared z {told[0].mean():.2f} +- {told[0].std() / repetitions**0.5:.2f}, shares {told[1]}, error {told[2]:.2f} of the spread")
    return told


@pytest.fixture(scope="module")
def outside(fields):
    "Three truths that are no draw of the prior: 100 choices of the data in either phase, and 50 for the error of a network trained on 60 actions."
    found = {}
    for phase, (_, x) in fields.items():
        x = x / x.std()
        found[phase] = 100, *repeated(x, distant(x), 60, 100)
    model, x = fields["critical"]
    net = LastLayer(LocalEnergyNet(values="real", hidden=(8,)), seed=0, epochs=300).fit(x[::66][:60], model.energy(x[::66][:60])[:, None], progress=False)
    found["network"] = 50, *repeated(x, model.energy(x) - net.mean(x)[:, 0], 100, 50)
    return found


@pytest.mark.parametrize("truth, largest", [("critical", 0.5), ("symmetric", 0.5), ("network", 0.8)])
def test_a_truth_that_is_not_contained_is_covered(truth, largest, outside):
    "The mean of the ensemble and the covariance with |m| lie inside their 95 % intervals, within four binomial errors; z of held-out values, and the error."
    n, squares, share, error = outside[truth]
    least, size = 0.95 - 4 * np.sqrt(0.95 * 0.05 / n), np.median(squares) if truth == "network" else squares.mean()  # heavy tails: few fields make the mean
    assert share[[0, 2]].min() >= least and 0.8 < size < 1.2 and error < largest, (share, size, error)


@pytest.mark.xfail(strict=True, reason="89 %: where the data are few the covariance with phi² is shrunk, always to the same side, and hangs on rare large fields")
def test_the_covariance_with_phi2_is_covered(outside):
    "Over the three truths together, within four binomial errors of 95 %."
    n = np.array([found[0] for found in outside.values()])
    share = sum(found[0] * found[2][1] for found in outside.values()) / n.sum()
    assert share >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / n.sum()), share


# ---- the object

def rough(x):
    "An action that no list of terms holds: every site with its neighbour, through a bounded function."
    return np.tanh(3 * x * np.roll(x, 1, 1)).sum((1, 2)) + np.tanh(3 * x * np.roll(x, -1, 1)).sum((1, 2)) + np.tanh(3 * x * np.roll(x, 1, 2)).sum((1, 2)) + np.tanh(3 * x * np.roll(x, -1, 2)).sum((1, 2))


def test_the_error_of_a_rough_action_is_learned_with_that_action_among_the_columns():
    "The exact action is simple, the learned one is not: their difference is found to rounding where the learned one is a column."
    x = random_fields((6, 6), 400, seed=21)
    D, off = Phi4((6, 6), 0.3, 0.5).energy(x) - 0.2 * rough(x), {}
    for name, features in (("without", None), ("with", lambda fields: rough(fields)[:, None])):
        belief = FieldGP(features=features).fit(x[:100], D[:100, None]).predict(x[100:])
        miss = belief.mean[:, 0] - D[100:]
        off[name] = np.sqrt(np.mean(miss**2)) / D.std()
        assert np.mean(np.abs(miss) < 3 * np.sqrt(belief.epistemic[:, 0])) > 0.9
    assert off["with"] < 1e-4 < off["without"] / 30, off


def test_a_useless_column_does_no_harm():
    x = random_fields((5, 5), 300, seed=22)
    noise = {row.tobytes(): v for row, v in zip(x, np.random.default_rng(0).normal(size=len(x)))}  # a number for each field that says nothing
    D = distant(x)[:, None]
    useless = lambda fields: np.array([[noise[row.tobytes()]] for row in fields])
    plain, more = (FieldGP(features=f).fit(x[:80], D[:80]).predict(x[80:]) for f in (None, useless))
    miss = lambda belief: np.sqrt(np.mean((belief.mean - D[80:]) ** 2))
    assert miss(more) < 1.2 * miss(plain)


def test_a_potential_of_single_sites_is_found():
    x = random_fields((8, 8), 300, seed=23)
    D = np.cos(3 * x).sum((1, 2))[:, None]
    belief = FieldGP().fit(x[:100], D[:100]).predict(x[100:])
    assert np.sqrt(np.mean((belief.mean - D[100:]) ** 2)) < 0.01 * D.std()


def test_features_are_checked():
    for features, what in ((lambda x: np.ones(len(x)), "expected finite"), (lambda x: np.full((len(x), 1), np.nan), "finite"), ("energy", "function")):
        with pytest.raises(ValueError, match="features.*" + what):
            FieldGP(features=features).fit(X, Y)
    with pytest.raises(ValueError, match="features.*saved"):
        FieldGP(**FEW, features=lambda x: x.mean((1, 2))[:, None] ** 2).fit(X, Y).save("gp.pt")


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    x = random_fields((4, 4), 40, seed=16)
    y, new = distant(x)[:, None], random_fields((4, 4), 6, seed=17)
    state = np.random.get_state()[1].tobytes()
    one, two, three = (FieldGP(**FEW, seed=s).fit(x, y).predict(new) for s in (0, 0, 1))
    assert np.array_equal(one.draws, two.draws) and np.array_equal(one.mean, three.mean) and not np.array_equal(one.draws, three.draws)
    assert np.random.get_state()[1].tobytes() == state


def test_a_refit_forgets_and_an_interrupted_one_changes_nothing(monkeypatch):
    x = random_fields((4, 4), 40, seed=18)
    y, new = distant(x)[:, None], random_fields((4, 4), 6, seed=19)
    gp = FieldGP(**FEW).fit(random_fields((3, 3), 30, seed=1), np.arange(30.0)[:, None]).fit(x, y)
    before = gp.predict(new)
    assert np.array_equal(before.draws, FieldGP(**FEW).fit(x, y).predict(new).draws)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_evidence", stop)
    with pytest.raises(KeyboardInterrupt):
        gp.fit(x[:20], y[:20])
    with pytest.raises(ValueError):
        gp.fit(x[:3], y[:3])
    assert np.array_equal(gp.predict(new).draws, before.draws)


def test_data_are_copied_and_repetitions_are_merged():
    x = random_fields((4, 4), 40, seed=20)
    y, new = distant(x)[:, None], random_fields((4, 4), 6, seed=21)
    before = FieldGP(**FEW).fit(x, y).predict(new)
    merged = FieldGP(**FEW).fit(np.concatenate([x, -x[:9, ::-1]]), np.concatenate([y, y[:9]]))
    assert len(merged.y) == 40 and np.array_equal(merged.predict(new).draws, before.draws)
    held = x.copy()
    gp = FieldGP(**FEW).fit(held, y)
    held[:] = 0
    assert np.array_equal(gp.predict(new).draws, before.draws)


def test_a_file_is_whole_or_refused(tmp_path):
    x = random_fields((4, 4), 30, seed=22)
    gp = FieldGP(**FEW, seed=3, draws=20).fit(x, distant(x)[:, None])
    gp.save(tmp_path / "gp.pt")
    again = FieldGP.load(tmp_path / "gp.pt")
    assert again.options == gp.options and np.array_equal(again.predict(x + 0.1).draws, gp.predict(x + 0.1).draws)
    (tmp_path / "cut.pt").write_bytes((tmp_path / "gp.pt").read_bytes()[:-50])
    for name in ("cut.pt", "none.pt"):
        with pytest.raises(ValueError, match=name):
            FieldGP.load(tmp_path / name)


def test_the_memory_of_a_prediction_is_bounded():
    x = random_fields((8, 8), 4000, seed=23)
    gp = FieldGP(**FEW).fit(x[:50], distant(x[:50])[:, None])
    gp.predict(x[:100])
    tracemalloc.start()
    gp.predict(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 130e6, f"{peak:.3g} bytes; the draws alone are {400 * 4000 * 8:.3g}"


# ---- refusals

X = random_fields((4, 4), 10, seed=24)
Y = distant(X)[:, None]
GP = FieldGP(**FEW).fit(X, Y)
HOLE, INFINITE = X.copy(), X.copy()
HOLE[3, 1, 2], INFINITE[0, 0, 0] = np.nan, np.inf
MASKED = np.ma.masked_array(X, mask=X > 1)
BAD_FIELDS = [(HOLE, "nan"), (INFINITE, "inf"), (MASKED, "mask"), (X > 0, "bool"), (X * 1j, "complex"), (1.0, "1.0"), (np.ones(4), r"\(4,\)"),
              (np.ones((2, *(2,) * 5)), r"\(2, 2, 2"), (X[:0], r"\(0, 4, 4\)"), ("up", "up"), ([[1.0], [1.0, 2.0]], "1.0"), (1e76 * X, "e\\+7")]
CALLS = [("field_forms", field_forms), ("distinct_fields", distinct_fields), ("action_terms", action_terms), ("site_descriptors", site_descriptors), ("field_features", field_features), ("FieldGP", GP.predict)]
ROWS = [(f"field_gp.{name}", lambda t, f=f, v=v: f(v), "x", shown, "expected|must be") for name, f in CALLS for v, shown in BAD_FIELDS]
ROWS += [("field_gp.FieldGP", lambda t, v=v: FieldGP().fit(v, Y), "x", shown, "expected|must be") for v, shown in BAD_FIELDS if isinstance(v, np.ndarray) and v.shape == X.shape]
for name, values in {"lengths": [(), (0.0,), (np.nan,), (True,), 1.0, "ab", (1e4,)], "linear": [(-1.0,), (), None], "nuggets": [(0.0,), [np.inf]], "growths": [(-1.0,), (31.0,)]}.items():
    ROWS += [("field_gp.FieldGP", lambda t, n=name, v=v: FieldGP(**{n: v}), name, "", "expected a sequence of numbers") for v in values]
ROWS += [("field_gp.FieldGP", lambda t, n=n, v=v: FieldGP(**{n: v}), n, str(v), "must be")
         for n, v in (("flip_symmetric", 1), ("lattice_symmetric", "yes"), ("draws", 1), ("draws", 2.5), ("draws", True), ("seed", -1), ("seed", None))]
ROWS += [("field_gp.field_forms", lambda t: field_forms(X, flip=1), "flip", "1", "must be"), ("field_gp.field_forms", lambda t: field_forms(X, lattice=None), "lattice", "None", "must be"),
         ("field_gp.FieldGP", lambda t: FieldGP().fit(X, Y[:, 0]), "y", r"\(10,\)", "expected"), ("field_gp.FieldGP", lambda t: FieldGP().fit(X, np.hstack([Y, Y])), "y", r"\(10, 2\)", "expected"),
         ("field_gp.FieldGP", lambda t: FieldGP().fit(X, Y * np.nan), "y", "nan", "expected"), ("field_gp.FieldGP", lambda t: FieldGP().fit(X, np.ma.masked_array(Y, Y > 0)), "y", "mask", "expected"),
         ("field_gp.FieldGP", lambda t: FieldGP().fit(X, Y * 1e100), "y", r"e\+", "below 1e100"), ("field_gp.FieldGP", lambda t: FieldGP().fit(X[:4], Y[:4]), "x", "4", "at least 5"),
         ("field_gp.FieldGP", lambda t: FieldGP().fit(np.zeros((9, 4, 4)), np.zeros((9, 1))), "x", "1 distinct", "at least 5"),
         ("field_gp.FieldGP", lambda t: FieldGP().fit(np.concatenate([X, -X[:1]]), np.concatenate([Y, Y[:1] + 1])), "y", "row 10", "must agree"),
         ("field_gp.FieldGP", lambda t: GP.predict(np.ones((2, 4, 5))), "x", r"\(2, 4, 5\)", "same lattice"), ("field_gp.FieldGP", lambda t: GP.predict(1e60 * X), "x", "e\\+6", "not so far"),
         ("field_gp.FieldGP", lambda t: FieldGP().save("gp.pt"), "fit", "", "not fitted"), ("field_gp.FieldGP", lambda t: FieldGP().predict(X), "fit", "", "not fitted"),
         ("field_gp.field_leave_one_out", lambda t: field_leave_one_out(FieldGP()), "fit", "", "not fitted"), ("field_gp.field_leave_one_out", lambda t: field_leave_one_out(None), "gp", "None", "FieldGP")]


@pytest.mark.parametrize("row", range(len(ROWS)), ids=[str(k) + "-" + row[0] + "-" + row[2] for k, row in enumerate(ROWS)])
def test_a_bad_call_is_refused(row):
    _, call, argument, value, accepted = ROWS[row]
    assert_refused(call, None, argument, value, accepted)


def test_every_public_name_is_called_badly():
    assert_complete([module], ROWS, {})
