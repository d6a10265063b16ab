"""What a mover hands out is all that it remembers: others that are given it go on with the same bits, wherever a run is cut."""
import io
import json
import re
from functools import cache

import numpy as np
import pytest

from uqphys import tempering
from uqphys.models import CustomModel, Ising, Phi4
from uqphys.sampling import (METHODS, _freeze, _generator_state, _generators, _measure, _record, _report, _root, _Run, _set_generator,
                             _skip, _starts, _thaw, find_method, sample)


def plane_energy(x):
    "Squares and neighbours of a field in two dimensions, in NumPy or torch."
    return (0.3 * x**4 + x**2 - 0.4 * x * (x.roll(1, 1) + x.roll(1, 2))).sum((1, 2))


def bond_energy(x):
    return -(x * np.roll(x, 1, 1) + x * np.roll(x, 1, 2)).sum(axis=(1, 2))


def line_energy(x):
    return ((x**2 - 1) ** 2 - 0.3 * x * np.roll(x, 1, 1)).sum(axis=1)


HMC, WIDTH, WOLFF = dict(step_size=0.2, steps=5), dict(width=0.9), dict(clusters=3)
LADDER = dict(betas=[0.3, 0.35, 0.4], around="metropolis", inner=[{}] * 3)
TORCH = CustomModel((4, 5), plane_energy, values="real", uses_torch=True)


def ladder(around, **told):
    return LADDER | dict(around=around, inner=[told] * 3)


CASES = {  # method, model, beta, settings, chains
    "metropolis even": ("metropolis", Ising((6, 4)), 0.4, {}, 2),
    "metropolis odd": ("metropolis", Ising((5, 7)), 0.4, {}, 2),
    "metropolis 3d": ("metropolis", Ising((4, 3, 5)), 0.2, {}, 2),
    "metropolis all couplings": ("metropolis", Ising((6, 6), J2=0.3, K=-0.2, h=0.1), 0.3, {}, 2),
    "metropolis odd, squares": ("metropolis", Ising((3, 5), K=0.4), 0.3, {}, 2),
    "checkerboard": ("checkerboard", Ising((6, 6), h=0.2), 0.4, {}, 2),
    "heatbath": ("heatbath", Ising((6, 5), J2=-0.2, h=0.1), 0.4, {}, 2),
    "heatbath 3d": ("heatbath", Ising((4, 4, 4)), 0.2, {}, 2),
    "local": ("local", Ising((6, 5), J2=0.2, K=0.3, h=0.1), 0.3, {}, 2),
    "batched whole": ("batched", CustomModel((4, 4), bond_energy), 0.4, {}, 3),
    "batched Ising": ("batched", Ising((3, 4), K=0.2), 0.4, {}, 2),
    "batched windowed": ("batched", CustomModel((6, 6), bond_energy, interaction_range=1), 0.4, {}, 3),
    "multispin sites": ("multispin", Ising((128, 4)), 0.44, {}, 2),
    "multispin 3d": ("multispin", Ising((128, 4, 4)), 0.22, {}, 1),
    "multispin few": ("multispin", Ising((6, 4), J=-1.0), 0.4, {}, 3),
    "multispin replicas": ("multispin-replicas", Ising((6, 4)), 0.4, {}, 70),
    "wolff plain": ("wolff", Ising((7, 6)), 0.44, WOLFF, 2),
    "wolff 3d": ("wolff", Ising((4, 4, 3)), 0.2, WOLFF, 2),
    "wolff field": ("wolff", Ising((6, 6), h=0.05), 0.3, WOLFF, 2),
    "wolff diagonals": ("wolff", Ising((6, 6), J2=0.3), 0.2, WOLFF, 2),
    "wolff frustrated": ("wolff", Ising((5, 4), J=-1.0, J2=-0.3), 0.2, WOLFF, 2),
    "swendsen-wang": ("swendsen-wang", Ising((7, 6)), 0.44, {}, 2),
    "swendsen-wang 3d": ("swendsen-wang", Ising((4, 4, 3)), 0.2, {}, 2),
    "swendsen-wang field": ("swendsen-wang", Ising((6, 6), J2=0.2, h=0.1), 0.3, {}, 2),
    "hmc 1d": ("hmc", Phi4((9,), 0.2, 0.5), 1.0, HMC, 2),
    "hmc 2d": ("hmc", Phi4((4, 6), 0.2, 0.5), 1.0, HMC, 2),
    "hmc 3d": ("hmc", Phi4((4, 3, 4), 0.15, 0.5), 1.0, HMC, 2),
    "hmc gradient": ("hmc", TORCH, 1.0, dict(step_size=0.3, steps=2), 3),
    "field metropolis": ("metropolis", Phi4((4, 5), 0.2, 0.5), 1.0, WIDTH, 2),
    "field clusters": ("cluster-phi4", Phi4((6, 5), 0.25, 0.5), 1.0, WIDTH, 2),
    "field clusters 3d": ("cluster-phi4", Phi4((3, 4, 4), 0.2, 0.5), 1.0, WIDTH, 2),
    "field batched": ("batched", CustomModel((7,), line_energy, values="real"), 1.0, WIDTH, 3),
    "field windowed": ("batched", CustomModel((8,), line_energy, values="real", interaction_range=1), 1.0, WIDTH, 3),
    "tempering metropolis": ("tempering", Ising((6, 5)), 0.4, LADDER, 2),
    "tempering wolff": ("tempering", Ising((6, 5)), 0.4, ladder("wolff", clusters=2), 2),
    "tempering swendsen-wang": ("tempering", Ising((6, 5)), 0.4, ladder("swendsen-wang"), 2),
    "tempering local": ("tempering", Ising((6, 5)), 0.4, ladder("local"), 2),
    "tempering batched": ("tempering", CustomModel((4, 4), bond_energy), 0.4, ladder("batched"), 2),
    "tempering hmc": ("tempering", Phi4((4, 4), 0.2, 0.5), 0.4, ladder("hmc", **HMC), 2),
    "tempering hmc gradient": ("tempering", TORCH, 0.4, dict(betas=[0.25, 0.4], around="hmc", inner=[dict(step_size=0.4, steps=1)] * 2), 1),
    "tempering field clusters": ("tempering", Phi4((4, 4), 0.2, 0.5), 0.4, ladder("cluster-phi4", **WIDTH), 2),
}
cases = pytest.mark.parametrize("case", CASES)


class Bar:
    "A progress bar that shows nothing."
    update = staticmethod(lambda sweeps: None)


class Here:
    "A pool that works at once."
    map = staticmethod(map)


def movers_of(case, seed=0):
    method, model, beta, settings, chains = CASES[case]
    generators = _generators(_root(seed, model, beta, method), chains)
    return find_method(model, method).movers(model, beta, _starts(model, generators), generators, **settings)


def advance(case, movers, draws, thin=1):
    "Configurations and observables of the next draws, and the reports after them, as one list of (name, array)."
    model, found = CASES[case][1], []
    for k, move in enumerate(movers):
        x, values = move(draws, thin)
        values = _measure(model, x) if values is None else values
        found += [(f"{k}/config", x), *((f"{k}/{name}", v) for name, v in values.items())]
    return found


def reports(movers):
    return [(k, name, float(value)) for k, move in enumerate(movers) if hasattr(move, "report") for name, value in move.report().items()]


def same(one, two):
    "Are they equal bit for bit?"
    return [name for name, _ in one] == [name for name, _ in two] and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for (_, a), (_, b) in zip(one, two))


def joined(parts):
    "Blocks one after the other."
    return [(rows[0][0], np.concatenate([values for _, values in rows], axis=1)) for rows in zip(*parts)]


def thawed(case, frozen, seed=1):
    "New movers, of other dice, that have gone another way; then they are given the memory."
    movers = movers_of(case, seed)
    advance(case, movers, 2)
    for move, told in zip(movers, frozen, strict=True):
        _thaw(move, told)
    return movers


def picture(move):
    "All that a mover remembers, as bytes."
    return [(name, part.tobytes(), part.shape, part.dtype) for name, part in _freeze(move).items()]


@cache
def half_way(case):
    "What movers remember after five sweeps, and what they do then."
    movers = movers_of(case)
    advance(case, movers, 5)
    frozen = [_freeze(move) for move in movers]
    before = reports(movers)
    return frozen, before, advance(case, movers, 6, 2), reports(movers)


def test_cases_are_complete():
    "No method is left out, and the cases are what they are called."
    assert {case[0] for case in CASES.values()} == set(METHODS[1:])
    names = lambda case: {move.__name__ + move.__qualname__ for move in movers_of(case) if hasattr(move, "__name__")}
    assert names("batched whole") != names("batched windowed")
    assert len(movers_of("multispin replicas")) == 2
    assert not movers_of("multispin sites")[0](1, 1)[0].shape[0] > 1 and len(movers_of("multispin sites")) == 2
    assert movers_of("wolff plain")[0].growth.digits.size and not movers_of("wolff field")[0].growth.digits.size
    assert not movers_of("wolff diagonals")[0].growth.digits.size
    for case, (_, _, _, _, chains) in CASES.items():
        assert sum(len(values) for name, values in half_way(case)[2] if name.endswith("config")) == chains


@cases
def test_what_is_handed_out_is_all(case):
    "Movers from another seed that are given the memory go on as the first would, to the bit, and report the same."
    frozen, before, after, told = half_way(case)
    movers = thawed(case, frozen)
    assert reports(movers) == before
    assert same(advance(case, movers, 6, 2), after)
    assert reports(movers) == told
    assert not same(advance(case, movers_of(case, 1), 6, 2), after)  # other dice are other dice


@cases
def test_a_file_keeps_it(case):
    "np.savez and np.load without pickle keep names, types and bits."
    frozen, _, after, told = half_way(case)
    read = []
    for memory in frozen:
        buffer = io.BytesIO()
        np.savez(buffer, **memory)
        with np.load(io.BytesIO(buffer.getvalue()), allow_pickle=False) as file:
            read.append({name: file[name] for name in file.files})
        assert all(isinstance(name, str) and "\\" not in name and not name.startswith("/") for name in memory)
        assert list(read[-1]) == list(memory) and all(read[-1][n].dtype == v.dtype for n, v in memory.items())
    movers = thawed(case, read)
    assert same(advance(case, movers, 6, 2), after) and reports(movers) == told


@cases
def test_memory_is_a_copy(case):
    "What was frozen does not change when the movers go on, theirs or those that were given it."
    movers = movers_of(case)
    frozen = [_freeze(move) for move in movers]
    kept = [{name: part.copy() for name, part in memory.items()} for memory in frozen]
    advance(case, movers, 2)
    advance(case, thawed(case, frozen), 2)
    assert all(part.tobytes() == memory[name].tobytes() for memory, old in zip(frozen, kept) for name, part in old.items())


def idle(case, name):
    "Parts that decide nothing: the general kernel of Wolff throws no dice; what movers inside a ladder count is not reported."
    general = case in ("wolff field", "wolff diagonals", "wolff frustrated") and name in ("dice", "cursor")
    return general or case.startswith("tempering") and (name.endswith(("counts", "sums")) and "/" in name or name in ("label", "way"))


def outcome(case, movers, draws):
    return reports(movers), advance(case, movers, draws), reports(movers)


def kind(name):
    "The name of a part, the same for all movers inside a ladder."
    return re.sub(r"movers/\d+", "movers/all", name)


def misses(case, first, others, left_out, draws):
    "Do movers go on otherwise than the first, if they are given all but this part?"
    before, values, told = first
    for move, memory in zip(others, half_way(case)[0]):
        _thaw(move, memory | {name: part for name, part in _freeze(move).items() if kind(name) == left_out})
    return not (reports(others) == before and same(advance(case, others, draws), values) and reports(others) == told)


@cases
def test_every_part_matters(case):
    "Movers that are given all but one part do not go on as the first did: each part is one that cannot be left out."
    frozen = half_way(case)[0]
    others, first = movers_of(case, 1), outcome(case, thawed(case, frozen), 12)
    advance(case, others, 2)
    own = [_freeze(move) for move in others]
    for name in dict.fromkeys(map(kind, frozen[0])):
        for move, memory in zip(others, own):
            _thaw(move, memory)
        assert idle(case, name) or misses(case, first, others, name, 12), name


def test_round_trips_are_counted_on():
    "Who is who in a ladder decides nothing but the count of round trips, which takes longer to tell."
    case = "tempering metropolis"
    movers, others = movers_of(case), movers_of(case, 1)
    advance(case, movers, 5)
    first = outcome(case, movers, 200)
    assert first[2][2][1] == "round_trips" and first[2][2][2] > 3
    again = outcome(case, thawed(case, half_way(case)[0]), 200)
    assert again[0] == first[0] and same(again[1], first[1]) and again[2] == first[2]
    start = [_freeze(move) for move in others]
    for name in ("label", "way", "counts"):
        for move, memory in zip(others, start):
            _thaw(move, memory)
        advance(case, others, 4)
        assert misses(case, first, others, name, 200), name


def test_half_a_word_is_remembered():
    "A generator that was asked for 32 bits keeps the other half of its word for the next time."
    one, other = np.random.default_rng(0), np.random.default_rng(1)
    one.integers(2**32, dtype=np.uint32)
    assert one.bit_generator.state["has_uint32"] == 1
    _set_generator(other, _generator_state(one))
    assert other.bit_generator.state == one.bit_generator.state
    assert other.integers(2**32, size=5, dtype=np.uint32).tolist() == one.integers(2**32, size=5, dtype=np.uint32).tolist()


def spoilt(memory):
    "Memories that are not like it: (what is wrong with it, memory)."
    first, last = list(memory)[0], list(memory)[-1]
    yield "nothing", {}
    yield "a part is missing", {n: v for n, v in memory.items() if n != last}
    yield "a part too many", memory | {"more": np.zeros(1)}
    yield "another name", {n if n != first else f"{n}x": v for n, v in memory.items()}
    for name, part in memory.items():
        yield "longer", memory | {name: np.concatenate([part, part])}
        yield "empty", memory | {name: part[:0]}
        yield "one more axis", memory | {name: part[None]}
        for dtype in {"float64", "int64", "uint64", "int8", "float32", "bool", "U9", "object"} - {str(part.dtype)}:
            yield dtype, memory | {name: part.astype(dtype)}


@pytest.mark.parametrize("case", ["metropolis odd", "local", "batched whole", "batched windowed", "multispin sites", "multispin replicas",
                                  "wolff plain", "wolff field", "swendsen-wang", "hmc 2d", "hmc gradient", "field clusters",
                                  "field batched", "tempering metropolis", "tempering hmc"])
def test_what_does_not_fit_is_refused(case):
    "Wrong names, shapes and types: a ValueError that says what is accepted, and nothing is changed, not even by parts that fit."
    frozen = half_way(case)[0]
    movers = movers_of(case, 1)
    advance(case, movers, 1)
    before, said = [picture(move) for move in movers], reports(movers)
    for move, memory in zip(movers, frozen):
        for what, bad in spoilt(memory):
            with pytest.raises(ValueError, match="frozen.*must be") as caught:
                _thaw(move, bad)
            assert "\n" not in str(caught.value), what
    assert [picture(move) for move in movers] == before and reports(movers) == said
    assert same(advance(case, movers, 3), advance_anew(case, 1, 3))


def advance_anew(case, before, draws):
    "The same movers, never disturbed."
    movers = movers_of(case, 1)
    advance(case, movers, before)
    return advance(case, movers, draws)


@cases
def test_memory_of_another_lattice_is_refused(case):
    "What a mover of one size remembers, a mover of another does not take."
    others = {"metropolis even": "metropolis odd", "hmc 2d": "hmc 1d", "wolff plain": "wolff field"}
    other = others.get(case, next(c for c in CASES if CASES[c][1].shape != CASES[case][1].shape or CASES[c][0] != CASES[case][0]))
    move, before = movers_of(case)[0], picture(movers_of(case)[0])
    with pytest.raises(ValueError, match="frozen.*must be"):
        _thaw(move, half_way(other)[0][0])
    assert picture(move) == before


CUTS = ([7], [1, 6], [4, 1, 2])


@cases
def test_cuts_do_not_matter(case):
    "However many draws are asked for at once: the same configurations, observables, reports, and the same memory."
    found = []
    for cut in CUTS:
        movers = movers_of(case)
        parts = [advance(case, movers, size, 2) for size in cut]
        found.append((joined(parts), reports(movers), [picture(move) for move in movers]))
    for values, told, memory in found[1:]:
        assert same(values, found[0][0]) and told == found[0][1] and memory == found[0][2]


@cases
def test_sweeps_that_nobody_sees(case):
    "Sweeps that are not looked at are sweeps all the same, however they are cut; forget() forgets, and moves nothing."
    memories = []
    for cut in ((12,), (5, 7), (1, 1, 10)):
        movers = movers_of(case)
        for move in movers:
            for sweeps in cut:
                move(1, sweeps, False)
        memories.append(([picture(move) for move in movers], reports(movers)))
    seen = movers_of(case)
    advance(case, seen, 12)
    memories.append(([picture(move) for move in seen], reports(seen)))
    assert all(memory == memories[0] for memory in memories)
    run = _Run(CASES[case][1], seen, Here, Bar)
    _skip(run, 0)
    assert sum(abs(value) for _, name, value in reports(seen) if np.isfinite(value) and name != "round_trip_time") == 0
    assert same(advance(case, seen, 3), advance(case, movers, 3))


@cases
def test_a_recording_is_cut_by_draws_only(case, monkeypatch):
    "_record in one go, in two, and with blocks of another size: series, configurations and report are the same."
    found = []
    for cut, block in (((9,), 2**16), ((4, 5), 2**16), ((1, 8), 3)):
        monkeypatch.setattr("uqphys.sampling._block", lambda model, thin=1: block)
        run = _Run(CASES[case][1], movers_of(case), Here, Bar)
        _skip(run, 3)
        parts = [_record(run, size, 2, True) for size in cut]
        series = {name: np.concatenate([p[0][name] for p in parts], axis=1) for name in parts[0][0]}
        found.append(([*series.items(), ("config", np.concatenate([p[1] for p in parts], axis=1))], _report(run)))
    assert all(same(values, found[0][0]) and told == found[0][1] for values, told in found[1:])


def rebuilt(attrs, chains):
    "The generators of a run, from nothing but what its attributes say."
    told = json.loads(attrs["random_state"])
    assert told["bit_generator"] == "PCG64" and told["spawn_key"] == ["chain"] and set(told) == {"bit_generator", "entropy", "spawn_key"}
    seeds = [np.random.SeedSequence(told["entropy"], spawn_key=(chain,)) for chain in range(chains)]
    return [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]


@pytest.mark.parametrize("case", [c for c in CASES if not c.startswith("tempering") and c not in ("multispin 3d", "metropolis 3d")])
def test_the_attributes_tell_the_dice(case):
    "random_state of an ensemble gives the generators of its chains, and these the ensemble, to the bit."
    method, model, beta, settings, chains = CASES[case]
    found = sample(model, beta, draws=4, chains=chains, burn_in=3, thin=2, method=method, settings=settings, seed=12345, progress=False)
    generators = rebuilt(found.attrs, chains)
    mine = _generators(_root(12345, model, float(beta), method), chains)
    assert [g.bit_generator.state for g in generators] == [g.bit_generator.state for g in mine]
    assert len({str(g.bit_generator.state) for g in generators}) == chains
    movers = find_method(model, method).movers(model, beta, _starts(model, generators), generators, **json.loads(found.settings))
    run = _Run(model, movers, Here, Bar)
    _skip(run, found.attrs["burn_in"])
    series, configs = _record(run, 4, found.attrs["thin"], True)
    assert configs.tobytes() == found.config.values.tobytes()
    assert all(values.tobytes() == found[name].values.tobytes() for name, values in series.items())
    assert all(found.attrs[name] == value for name, value in _report(run).items())


def test_the_attributes_of_a_ladder_tell_the_dice():
    "The same for all temperatures at once."
    model, betas = Ising((6, 5)), [0.1, 0.25, 0.4]
    found = tempering.temper(model, betas, draws=4, chains=2, burn_in=3, thin=2, seed=7, keep="configs", progress=False)
    generators = rebuilt(found.attrs, 2)
    assert [g.bit_generator.state for g in generators] == [g.bit_generator.state for g in _generators(_root(7, model, betas, "tempering"), 2)]
    series, configs, _ = tempering._record_all(model, json.loads(found.settings), generators, 3, 4, 2, "configs", Bar)
    assert np.moveaxis(configs, 2, 0).tobytes() == np.ascontiguousarray(found.config.values).tobytes()


def test_chains_have_their_own_dice_whatever_their_number():
    "Chain 2 of three has the generator of chain 2 of five; another seed, law or method has other ones."
    model = Ising((4, 4))
    attrs = lambda **changes: sample(**{"model": model, "beta": 0.4, "draws": 2, "burn_in": 0, "seed": 1, "method": "metropolis",
                                        "progress": False} | changes).attrs
    states = lambda attrs, n: [str(g.bit_generator.state) for g in rebuilt(attrs, n)]
    assert states(attrs(chains=3), 3) == states(attrs(chains=5), 5)[:3]
    assert states(attrs(), 3) == states(attrs(draws=3, thin=2, burn_in=5, keep="observables"), 3)
    others = [attrs(), attrs(seed=2), attrs(beta=0.41), attrs(method="heatbath"), attrs(model=Ising((4, 6))), attrs(model=Ising((4, 4), h=0.1))]
    assert len({states(told, 1)[0] for told in others}) == len(others)
