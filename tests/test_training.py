"""Training: the same bits whatever interrupts it, chains kept apart, files that hold nothing but data."""
import itertools

import numpy as np
import pytest
import torch

from uqphys import datasets
from uqphys.architectures import MLP, LocalEnergyNet, Network, pair_network
from uqphys.datasets import Samples, samples, split_by_chain, stream
from uqphys.ensembles import save
from uqphys.models import Ising, Phi4, random_spins
from uqphys.sampling import sample
from uqphys.training import labelled, load_network, load_state, save_network, save_state, train

LAW = Ising((6, 6), J2=0.1, K=0.2)
DATA = labelled(LAW, 0.38, 120, seed=1)
WAYS = {"adamw": dict(epochs=12, batch_size=32), "decay": dict(epochs=12, batch_size=32, weight_decay=0.1, schedule="warmup"),
        "plateau": dict(epochs=12, schedule="plateau"), "lbfgs": dict(epochs=5, optimiser="lbfgs"),
        "own loss": dict(epochs=8, batch_size=48, loss=lambda outputs, y: (outputs - y).abs().mean(-1)),
        "no held-out part": dict(epochs=6, validation=0)}


class Stop(Exception):
    "What interrupts a training here."


def stopping(net, after):
    "A network that raises at its n-th evaluation."
    calls = itertools.count(1)

    def hook(module, inputs, output):
        if next(calls) == after:
            raise Stop

    return net.register_forward_hook(hook)


@pytest.mark.parametrize("way", WAYS)
def test_interrupting_anywhere_gives_the_same_bits(way, tmp_path):
    options = dict(seed=3, progress=False, checkpoint_every=2, **WAYS[way])
    whole = LocalEnergyNet(hidden=(6,), seed=2)
    history = train(whole, *DATA, **options)
    for after in (1, 2, 7, 19, 30):
        path, parts = tmp_path / f"{after}.checkpoint", LocalEnergyNet(hidden=(6,), seed=2)
        handle = stopping(parts, after)
        try:
            train(parts, *DATA, checkpoint=path, **options)
        except Stop:
            pass
        handle.remove()
        again = LocalEnergyNet(hidden=(6,), seed=2)  # a new process would make the network anew
        resumed = train(again, *DATA, checkpoint=path, **options)
        assert resumed == history
        assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values()))
        finished = LocalEnergyNet(hidden=(6,), seed=2)
        assert train(finished, *DATA, checkpoint=path, **options) == history  # nothing is left to do
        assert torch.equal(finished.head.weight, whole.head.weight)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / "checkpoint"
    options = dict(seed=0, epochs=4, checkpoint=path, progress=False)
    train(LocalEnergyNet(hidden=(6,)), *DATA, **options)
    before = path.read_bytes()
    for network, data, changes, named in ((LocalEnergyNet(hidden=(7,)), DATA, {}, "config"), (MLP((6, 6)), DATA, {}, "architecture"),
                                          (LocalEnergyNet(hidden=(6,)), (DATA.x, 2 * DATA.y), {}, "data"),
                                          (LocalEnergyNet(hidden=(6,)), DATA, dict(seed=1), "seed"),
                                          (LocalEnergyNet(hidden=(6,)), DATA, dict(optimiser="lbfgs"), "optimiser|learning_rate")):
        with pytest.raises(ValueError, match=f"another training.*({named})"):
            train(network, *data, **options | changes)
        assert path.read_bytes() == before
    for cut in (0, 7, 100, len(before) // 2, len(before) - 1):
        path.write_bytes(before[:cut])
        with pytest.raises(ValueError, match="truncated or damaged"):
            train(LocalEnergyNet(hidden=(6,)), *DATA, **options)


def test_every_flipped_bit_of_a_file_is_noticed(tmp_path):
    net, path = LocalEnergyNet(hidden=(3,)), tmp_path / "net"
    save_network(path, net)
    sound = path.read_bytes()
    for place in range(0, len(sound), 7):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 16]) + sound[place + 1 :])
        with pytest.raises(ValueError, match="damaged|holds something else"):
            load_network(path)


def test_whole_chains_are_held_out():
    runs = [sample(LAW, beta, draws=30, chains=6, burn_in=20, seed=k, progress=False) for k, beta in enumerate((0.3, 0.4))]
    data = samples(runs)
    for seed in range(20):
        parts = split_by_chain(data, (0.5, 0.3, 0.2), seed=seed)
        chains = [set(data.chain[part].tolist()) for part in parts]
        assert sorted(c for part in chains for c in part) == list(range(12)) and sum(map(len, parts)) == len(data)
        assert [len(c) for c in chains] == [6, 4, 2] and all(set(data.run[part].tolist()) == {0, 1} for part in parts)


@pytest.mark.parametrize("given", ("samples", "groups", "rows"))
def test_gradients_see_whole_chains_and_never_those_held_out(given):
    chain = np.repeat(np.arange(6), 10)  # the inputs say which row of which chain they are
    x, y = np.column_stack([chain, np.tile(np.arange(10), 6)]).astype(float), np.random.default_rng(0).random((60, 1))
    data, groups = ((Samples(x, y, chain, 0 * chain),), None) if given == "samples" else ((x, y), chain if given == "groups" else None)
    net, seen = MLP((2,), hidden=(4,)), set()
    net.register_forward_pre_hook(lambda net, x: seen.update(map(tuple, x[0].tolist())) if torch.is_grad_enabled() else None)
    net.register_forward_pre_hook(lambda net, x: (torch.as_tensor(x[0]),))
    train(net, *data, groups=groups, seed=0, epochs=3, batch_size=7, validation=0.3, progress=False)
    chains = [sum(row[0] == c for row in seen) for c in range(6)]
    if given == "rows":
        assert sum(chains) == 42 and set(chains) != {0, 10}
    else:
        assert sorted(chains) == [0, 0, 10, 10, 10, 10]


def test_a_stream_teaches_what_memory_teaches(tmp_path):
    runs = [sample(LAW, beta, draws=40, chains=5, burn_in=20, seed=k, progress=False) for k, beta in enumerate((0.3, 0.4))]
    for k, run in enumerate(runs):
        save(run, tmp_path / f"{k}.zarr")
    data, stored = samples(runs), stream([str(tmp_path / f"{k}.zarr") for k in range(2)], block=7)
    for index in (np.arange(len(data)), np.random.default_rng(0).permutation(len(data))[:50]):
        assert all(np.array_equal(a, b) for a, b in zip(data.rows(index), stored.rows(index)))
    order = stored.shuffled(np.arange(len(stored)), np.random.default_rng(0))
    assert np.array_equal(np.sort(order), np.arange(len(stored)))
    heads = []
    for examples in (data, stored):
        net = LocalEnergyNet(hidden=(8,), seed=1)
        train(net, examples, seed=0, epochs=15, optimiser="lbfgs", progress=False)
        with torch.no_grad():
            heads.append(net(DATA.x).numpy())
    np.testing.assert_allclose(heads[0], heads[1], atol=2e-2 * DATA.y.std())


def test_a_stream_keeps_few_blocks_in_memory(tmp_path):
    save(sample(LAW, 0.3, draws=200, chains=2, burn_in=20, seed=0, progress=False), tmp_path / "run.zarr")
    stored = stream(tmp_path / "run.zarr", block=10, together=2)
    train(pair_network(), stored, seed=0, epochs=2, batch_size=20, validation=0.5, progress=False)
    assert 1 <= len(stored.kept) <= 4


def test_an_epoch_reads_every_block_of_a_stream_once_in_each_pass(tmp_path, monkeypatch):
    save(sample(LAW, 0.3, draws=100, chains=5, burn_in=20, seed=0, progress=False), tmp_path / "run.zarr")
    stored, read = stream(tmp_path / "run.zarr", block=10, together=1), []
    load = datasets.load
    monkeypatch.setattr(datasets, "load", lambda path, draws: read.append(draws.start) or load(path, draws=draws))
    everything = stored.in_order(np.arange(len(stored)))
    for part in np.array_split(everything, 13):
        stored.rows(part)
    assert read == list(range(0, 100, 10))
    read.clear()
    for part in np.array_split(stored.shuffled(everything, np.random.default_rng(0)), 13):
        stored.rows(part)
    assert sorted(read) == list(range(0, 100, 10))


def test_two_functions_of_one_name_are_two_targets(tmp_path):
    save(sample(LAW, 0.3, draws=20, chains=3, burn_in=20, seed=0, progress=False), tmp_path / "run.zarr")
    prints = {stream(tmp_path / "run.zarr", target).fingerprint() for target in (lambda run: run["m2"].values, lambda run: run["m4"].values, "m2", "m4")}
    assert len(prints) == 4


def test_units_of_the_data_live_in_the_network():
    x, y = DATA
    net = LocalEnergyNet(hidden=(8,), seed=0)
    train(net, x, y, seed=0, epochs=60, progress=False)
    scaled = LocalEnergyNet(hidden=(8,), seed=0)
    train(scaled, x, 1e6 * y + 36e7, seed=0, epochs=60, progress=False)  # 36 sites
    with torch.no_grad():
        np.testing.assert_allclose((scaled(x).numpy() - 36e7) / 1e6, net(x).numpy(), atol=1e-3)


def test_500_small_lattices_teach_the_energy_of_a_large_one():
    small, large = Ising((8, 8), J2=0.1, K=0.2), Ising((64, 64), J2=0.1, K=0.2)
    net = LocalEnergyNet(hidden=(16,), seed=0)
    train(net, *labelled(small, 1 / 2.6, 500, seed=1), seed=0, epochs=60, optimiser="lbfgs", progress=False)
    x, y = labelled(large, 1 / 2.6, 40, seed=7)
    with torch.no_grad():
        error = float(np.sqrt(np.mean((net(x).numpy() - y) ** 2))) / 64**2
    assert error < 1e-3


def test_a_field_network_learns_the_action():
    law = Phi4.from_mass((6, 6), m2=-1.0, lam=1.0)
    run = sample(law, draws=100, chains=4, burn_in=50, seed=0, progress=False)
    net = LocalEnergyNet(hidden=(16,), shells=1, plaquettes=False, values="real", window=0, seed=0)
    history = train(net, samples(run), seed=0, epochs=40, optimiser="lbfgs", progress=False)
    assert min(history.validation) < 0.02 * samples(run).y.std() / 36


def test_all_networks_come_back_from_their_files(tmp_path):
    x = random_spins((6, 6), 3, seed=0)
    nets = [LocalEnergyNet(window=1, linear=True, seed=4), MLP((6, 6), hidden=(5, 4), activation="silu", dtype="float32", seed=3), pair_network()]
    for k, net in enumerate(nets):
        save_network(tmp_path / str(k), net)
        again = load_network(tmp_path / str(k), type(net))
        assert isinstance(again, Network) and again.config == net.config and torch.equal(again(x), net(x))
    with pytest.raises(ValueError, match="holds a LocalEnergyNet; expected a MLP"):
        load_network(tmp_path / "0", MLP)
    state = load_state(tmp_path / "0", "network")
    for change in (dict(name="os"), dict(config=state["config"] | {"hidden": (99,)}), dict(config={"size": 3})):
        save_state(tmp_path / "bad", state | change)
        with pytest.raises(ValueError, match="bad"):
            load_network(tmp_path / "bad")


def test_training_leaves_global_state_alone():
    torch_state, numpy_state, dtype = torch.random.get_rng_state(), np.random.get_state()[1].copy(), torch.get_default_dtype()
    train(LocalEnergyNet(hidden=(4,)), *DATA, seed=0, epochs=3, progress=False)
    assert torch.equal(torch_state, torch.random.get_rng_state()) and np.array_equal(numpy_state, np.random.get_state()[1])
    assert torch.get_default_dtype() == dtype
