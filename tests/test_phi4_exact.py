"""The exact references of uqphys.exact_fields against sums and integrals that share no code with them.

The notebook holds the four roads against each other. Here each is held against something from outside: matrices, Bessel functions,
brute-force grids that ask the model for every energy, enumerated spins, and identities that hold at any coupling.
"""
import itertools
import math

import numpy as np
import pytest
from scipy import integrate

from uqphys.exact import enumerate_states
from uqphys.exact_fields import exact_field, free_field, free_propagator, layered_field, ring_field, ring_two_point, site_field
from uqphys.models import FIELD_OBSERVABLES, Ising, Phi4

MOMENTS = [name for name in FIELD_OBSERVABLES if name != "abs_m"]


def schwinger_dyson(model, result, beta=1.0):
    "<φ dS/dφ> - 1/β, with the bonds taken from the action: they count twice, φ² twice, φ⁴ four times."
    a = result.averages
    sites = model.quadratic * a["phi2"] + model.quartic * a["phi4"]
    bonds = a["energy"] - model.constant - sites
    return 2 * bonds + 2 * model.quadratic * a["phi2"] + 4 * model.quartic * a["phi4"] - 1 / beta


def box(model, n, half_width):
    "All fields on a grid of equal steps, and ln of the step's volume."
    x = np.linspace(-half_width, half_width, n)
    fields = np.stack(np.meshgrid(*[x] * model.n_sites, indexing="ij"), -1).reshape(-1, *model.shape)
    return fields, model.n_sites * math.log(x[1] - x[0])


def brute_force(model, n, half_width, beta=1.0):
    "ln Z and averages by equal steps in every direction; the energies are the model's own."
    fields, volume = box(model, n, half_width)
    seen = model.observables(fields)
    weight = np.exp(-beta * model.n_sites * seen["energy"])
    return math.log(weight.sum()) + volume, {name: weight @ value / weight.sum() for name, value in seen.items()}


def assert_close(result, lnZ, averages, tolerance, names=MOMENTS):
    assert abs(result.lnZ - lnZ) < tolerance
    for name in names:
        assert abs(result.averages[name] - averages[name]) < tolerance, name


@pytest.mark.parametrize("law, beta", [(Phi4((6, 4), 0.24, 0), 1.0), (Phi4((3, 2, 4), 0.1, 0), 0.5), (Phi4.from_mass((5, 3), 0.2, 0), 2.0)])
def test_free_field_is_the_gaussian_of_its_action(law, beta):
    # the matrix A of S = φ A φ by polarisation of the energy: no force, no Fourier transform
    unit = np.eye(law.n_sites).reshape(-1, *law.shape)
    own = law.energy(unit)
    both = law.energy(unit[:, None] + unit[None])
    A = (both - own[:, None] - own[None]) / 2
    covariance = np.linalg.inv(2 * beta * A)
    exact = free_field(law, beta)
    assert abs(exact.lnZ - (law.n_sites / 2 * math.log(math.pi / beta) - np.linalg.slogdet(A)[1] / 2)) < 1e-10
    m2 = covariance.mean()
    wanted = {"energy": 0.5 / beta, "m": 0, "abs_m": math.sqrt(2 * m2 / math.pi), "m2": m2, "m4": 3 * m2**2,
              "phi2": covariance[0, 0], "phi4": 3 * covariance[0, 0] ** 2}
    for name, value in wanted.items():
        assert abs(exact.averages[name] - value) < 1e-10
    G = np.fft.fftn(covariance[0].reshape(law.shape))  # the row of the origin: Wiener and Khinchin
    assert np.allclose(free_propagator(law, beta), G.real, rtol=1e-10) and np.abs(G.imag).max() < 1e-10


def test_textbook_propagator():
    law = Phi4.from_mass((6, 4), 0.37, 0)
    k = [2 * np.pi * np.arange(length) / length for length in law.shape]
    laplace = 4 * np.sin(k[0] / 2)[:, None] ** 2 + 4 * np.sin(k[1] / 2) ** 2
    assert np.allclose(free_propagator(law), 1 / (2 * (0.37 + laplace)), rtol=1e-13)
    twin, factor = law.other_convention()
    assert np.allclose(free_propagator(law), free_propagator(twin) / factor**2, rtol=1e-12)


@pytest.mark.parametrize("lam, beta", [(0.1, 1.0), (0.5, 0.7), (3.0, 1.0), (40.0, 1.0)])
def test_lone_sites_against_adaptive_quadrature(lam, beta):
    law = Phi4((3, 5), 0.0, lam)
    def integral(power):
        def f(x):
            return x**power * math.exp(-beta * (x * x + lam * (x * x - 1) ** 2))
        return 2 * integrate.quad(f, 0, 5, points=[0.5, 1, 1.5], epsabs=1e-15, epsrel=1e-13, limit=400)[0]
    z, phi2, phi4 = integral(0), integral(2) / integral(0), integral(4) / integral(0)
    exact = site_field(law, beta)
    assert abs(exact.lnZ - 15 * math.log(z)) < 1e-9
    assert abs(exact.averages["phi2"] - phi2) < 1e-10 and abs(exact.averages["phi4"] - phi4) < 1e-10
    assert abs(exact.averages["m2"] - phi2 / 15) < 1e-11
    assert abs(exact.averages["m4"] - (15 * phi4 + 3 * 15 * 14 * phi2**2) / 15**4) < 1e-11
    assert abs(schwinger_dyson(law, exact, beta)) < 1e-10


@pytest.mark.parametrize("law, n, half_width", [
    (Phi4((2,), 0.3, 1.0), 128, 4.0), (Phi4((3,), -0.4, 0.6), 64, 4.0), (Phi4.from_mass((3,), -2.0, 1.0), 64, 4.0),
    (Phi4((2, 2), 0.25, 0.5), 34, 3.8), (Phi4.from_mass((2, 2), -4.0, 8.0), 34, 1.9)])
def test_rings_and_the_2x2_torus_against_a_plain_grid(law, n, half_width):
    lnZ, averages = brute_force(law, n, half_width)
    assert_close(ring_field(law), lnZ, averages, 1e-8)
    assert_close(layered_field(law), lnZ, averages, 1e-8)
    G = ring_two_point(law)
    assert abs(G.mean() - averages["m2"]) < 1e-8 and abs(G[0] - averages["phi2"]) < 1e-8


@pytest.mark.parametrize("law", [Phi4((2, 2), 0.25, 0.5), Phi4.from_mass((2, 2), -4.0, 8.0)])
def test_mean_absolute_magnetisation_of_the_2x2_torus(law):
    # in the variable M = φ1+φ2+φ3+φ4 and three others the kink lies at M = 0, an edge: Gauss-Legendre in M > 0, equal steps in the rest
    reach = 1.9 if law.m2 is not None else 3.8
    nodes, weights = np.polynomial.legendre.leggauss(40)
    M = 2 * reach * (1 + nodes)
    x = np.linspace(-reach, reach, 40)
    rest = np.stack(np.meshgrid(x, x, x, indexing="ij"), -1).reshape(-1, 3)
    total, first = 0.0, 0.0
    for value, w in zip(M, weights):
        fields = np.concatenate([rest, value - rest.sum(1, keepdims=True)], 1).reshape(-1, 2, 2)
        density = np.exp(-law.energy(fields)).sum() * w
        total, first = total + density, first + density * value
    assert abs(ring_field(law).averages["abs_m"] - first / total / 4) < 1e-8


def gauss_hermite(law, n, width):
    "ln Z and moments by Gauss and Hermite in every direction, their weight taken out again."
    nodes, weights = np.polynomial.hermite.hermgauss(n)
    log_w = np.log(weights) + nodes**2 + math.log(width)
    fields = np.stack(np.meshgrid(*[nodes * width] * law.n_sites, indexing="ij"), -1).reshape(-1, *law.shape)
    seen = law.observables(fields)
    log_volume = sum(np.meshgrid(*[log_w] * law.n_sites, indexing="ij")).ravel()
    weight = np.exp(log_volume - law.n_sites * seen["energy"])
    return np.array([math.log(weight.sum()), *(weight @ seen[name] / weight.sum() for name in MOMENTS)])


def test_layers_against_six_integrals():
    # six-dimensional sums that share nothing with the layers: what two points more change is their error, an upper bound of it at 10
    law = Phi4((2, 3), 0.1, 0.02)
    coarse, fine = gauss_hermite(law, 8, 1.1), gauss_hermite(law, 10, 1.1)
    exact = layered_field(law)
    ours = np.array([exact.lnZ, *(exact.averages[name] for name in MOMENTS)])
    reached = np.abs(fine - coarse).max()
    assert reached < 1e-3
    assert np.abs(ours - fine).max() < reached


@pytest.mark.parametrize("law, beta, tolerance", [
    (Phi4((64,), 0.4, 0.3), 1.0, 1e-10), (Phi4((9,), 0.6, 20.0), 0.5, 1e-10), (Phi4((2, 2), 0.25, 0.5), 1.3, 1e-10),
    (Phi4((3, 3), 0.25, 0.7), 1.0, 2e-8), (Phi4((3, 5), -0.2, 0.5), 0.8, 2e-8), (Phi4((2, 2, 3), 0.12, 0.8), 1.0, 2e-8)])
def test_schwinger_dyson_and_the_derivative_of_lnZ(law, beta, tolerance):
    exact = exact_field(law, beta)
    assert abs(schwinger_dyson(law, exact, beta)) < tolerance
    if law.n_sites < 10:  # E = -d ln Z / dβ by a five-point stencil, error of order step⁴
        step = 4e-3
        lnZ = {k: exact_field(law, beta + k * step).lnZ for k in (-2, -1, 1, 2)}
        slope = (lnZ[-2] - 8 * lnZ[-1] + 8 * lnZ[1] - lnZ[2]) / (12 * step)
        assert abs(-slope / law.n_sites - exact.averages["energy"]) < 1e-6


def ring_on_a_plain_grid(law, beta, n=500):
    "ln Z, averages without m from equal steps and positive sums alone: the trace of a power, by multiplication."
    a, b, c = beta * law.hopping, beta * law.quadratic, beta * law.quartic
    x, step = np.linspace(-1, 1, n, retstep=True)
    outer = math.sqrt((max(0.0, abs(a) - b) + 2 * math.sqrt(c * 60)) / c)  # the pulled potential is >= 60 above its minimum
    x, step = outer * x, outer * step
    v = (b + c * x * x) * x * x
    log_T = a * np.outer(x, x) - (v[:, None] + v) / 2
    T, P, log_P = np.exp(log_T - log_T.max()), None, 0.0
    for _ in range(law.n_sites - 1):
        P = T if P is None else P @ T
        log_P, P = log_P + math.log(P.max()), P / P.max()
    joint = P.T * T  # of two neighbours
    Z, site = joint.sum(), joint.sum(1) / joint.sum()
    phi2, phi4 = site @ x**2, site @ x**4
    action = -a * (joint * np.outer(x, x)).sum() / Z + b * phi2 + c * phi4
    lnZ = math.log(Z) + log_P + law.n_sites * (log_T.max() + math.log(step) - beta * law.constant)
    return lnZ, dict(energy=action / beta + law.constant, phi2=phi2, phi4=phi4)


BROKEN = [(Phi4((L,), kappa, lam), beta) for L, kappa, lam in ((2, 1.0, 0.02), (3, 1.0, 0.02), (8, 1.0, 0.1), (6, -1.0, 0.05), (3, 2.0, 0.02),
                                                               (3, 1.0, 100.0)) for beta in (1.0, 2.0, 4.0)]


@pytest.mark.parametrize("law, beta", BROKEN + [(Phi4.from_mass((4,), -3.0, 0.1), 2.0), (Phi4((3,), -1.0, 0.1), 2.0)])
def test_layers_reach_as_far_as_strong_hopping_carries_the_field(law, beta):
    "Wells up to hundreds deep, where a lone site has no weight at all: a grid that ends too early changes no more when refined."
    exact, (lnZ, averages) = layered_field(law, beta), ring_on_a_plain_grid(law, beta)
    assert abs(exact.lnZ - lnZ) < 2e-8 * max(1, abs(lnZ))
    for name, value in averages.items():
        assert abs(exact.averages[name] - value) < 2e-8 * max(1, abs(value)), name
    assert abs(schwinger_dyson(law, exact, beta)) * beta < 1e-7


def test_rings_and_layers_agree_in_the_broken_phase():
    for law, beta in ((Phi4((3,), 1.0, 0.02), 1.0), (Phi4((4,), -0.8, 0.1), 2.0), (Phi4((3,), -0.7, 0.1), 1.0), (Phi4((2, 2), 0.4, 0.1), 2.0)):
        ring, layers = ring_field(law, beta), layered_field(law, beta)
        assert abs(ring.lnZ - layers.lnZ) < 1e-8 * max(1, abs(ring.lnZ))
        for name in MOMENTS:
            assert abs(ring.averages[name] - layers.averages[name]) < 2e-8 * max(1, abs(ring.averages[name])), name


@pytest.mark.parametrize("lam, beta", [(0.5, 1.0), (0.1, 1.0), (0.02, 1.0), (0.005, 1.0), (0.02, 2.0), (0.02, 4.0)])
def test_the_broken_phase_in_two_dimensions(lam, beta):
    law = Phi4((2, 3), 0.6, lam)
    exact = exact_field(law, beta)
    assert abs(schwinger_dyson(law, exact, beta)) * beta < 1e-7
    a = exact.averages
    well = (2 * law.hopping - law.quadratic) / (2 * lam)  # φ² of a uniform field at the bottom of its well
    if beta * lam * well**2 > 20:  # deep: the field stands there, up to waves of order 1/β: φ⁴ = (φ²)², nearly, and m² = φ², nearly
        assert abs(a["phi2"] / well - 1) < 0.1 and abs(a["phi4"] / a["phi2"] ** 2 - 1) < 0.1 and 0.9 < a["m2"] / a["phi2"] < 1


def test_a_weight_that_is_too_sharp_is_refused_with_advice_that_helps():
    for law, beta, way in ((Phi4((4, 4), 0.6, 0.02), 1.0, "larger lam"), (Phi4((4,), 0.3, 1e9), 1.0, "smaller lam"),
                           (Phi4.from_mass((4, 4), -2.0, 1e-9), 1.0, "larger lam, a larger m2")):
        with pytest.raises(ValueError, match=rf"^lam={law.lam}, (kappa|m2)=.*, beta={beta}: .*must be a {way}"):
            exact_field(law, beta)


def test_a_ring_is_found_in_the_free_propagator():
    law = Phi4((24,), 0.47, 0)
    assert np.allclose(ring_two_point(law, 0.9), np.fft.ifft(free_propagator(law, 0.9)).real, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(5,), (2, 2), (3, 3)])
def test_ising_limit(shape):
    # moments at λ and 2λ: the difference to spins halves, and the extrapolated one falls to a quarter, up to relative orders of 1/λ
    kappa, strengths = 0.2, (100.0, 200.0, 400.0)
    if len(shape) == 1:  # the ring of spins by its 2x2 matrix
        states = np.array(list(itertools.product((-1, 1), repeat=shape[0])))
        weight = np.exp(2 * kappa * (states * np.roll(states, 1, 1)).sum(1))
        spins = {k: weight @ states.mean(1) ** int(k[1]) / weight.sum() for k in ("m2", "m4")}
    else:
        spins = enumerate_states(Ising(shape), 2 * kappa).averages
    fields = [exact_field(Phi4(shape, kappa, lam)).averages for lam in strengths]
    for name in ("m2", "m4"):
        far, near, nearer = (f[name] - spins[name] for f in fields)
        assert abs(near / nearer - 2) < 0.02
        assert abs((2 * near - far) / (2 * nearer - near) - 4) < 0.3
        assert abs(2 * nearer - near) < 2e-5


def test_both_conventions_have_one_truth():
    law = Phi4.from_mass((3, 3), -1.0, 1.5)
    twin, factor = law.other_convention()
    one, two = layered_field(law), layered_field(twin)
    for name, power in (("m2", 2), ("m4", 4), ("phi2", 2), ("phi4", 4)):
        assert abs(two.averages[name] - factor**power * one.averages[name]) < 1e-7
    assert abs(two.averages["energy"] - twin.constant - one.averages["energy"]) < 1e-7


@pytest.mark.parametrize("shape", [(2, 2, 3), (3, 3, 2)])
def test_3d_ising_counts_double_bonds(shape):
    # every state by hand, bonds listed one by one: of length 2 each bond is listed twice
    number = np.arange(math.prod(shape)).reshape(shape)
    pairs = [(number.ravel(), np.roll(number, -1, axis).ravel()) for axis in range(3)]
    i, j = (np.concatenate(part) for part in zip(*pairs))
    assert len(i) == 3 * math.prod(shape)
    bits = np.arange(2 ** math.prod(shape))[:, None] >> np.arange(math.prod(shape)) & 1
    s = 2 * bits.astype(np.int8) - 1
    E = -(s[:, i] * s[:, j]).sum(1, dtype=float)
    for beta in (0.15, 0.2216546):
        weight = np.exp(-beta * E)
        exact = enumerate_states(Ising(shape), beta)
        assert abs(exact.lnZ - math.log(weight.sum())) < 1e-11
        assert abs(exact.averages["energy"] - weight @ E / weight.sum() / math.prod(shape)) < 1e-12
        assert abs(exact.averages["m2"] - weight @ s.mean(1) ** 2 / weight.sum()) < 1e-12
