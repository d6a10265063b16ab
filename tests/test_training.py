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


def cubed(outputs, y):
    return (outputs - y).abs().sum(-1) ** 3


def test_other_losses_lattices_and_orders_are_other_trainings(tmp_path):
    options = dict(seed=0, epochs=2, progress=False)
    for k, (first, second) in enumerate([(lambda o, y: (o - y).abs().sum(-1), lambda o, y: (o - y).square().sum(-1)), (cubed, lambda o, y: cubed(o, 2 * y))]):
        second.__qualname__ = first.__qualname__
        train(LocalEnergyNet(), *DATA, **options, loss=first, checkpoint=tmp_path / f"loss{k}")
        with pytest.raises(ValueError, match="another training.*values of the loss"):
            train(LocalEnergyNet(), *DATA, **options, loss=second, checkpoint=tmp_path / f"loss{k}")
    train(LocalEnergyNet(), *DATA, **options, checkpoint=tmp_path / "shape")
    with pytest.raises(ValueError, match="another training.*data"):
        train(LocalEnergyNet(), DATA.x.reshape(-1, 4, 9), DATA.y, **options, checkpoint=tmp_path / "shape")
    save(sample(LAW, 0.3, draws=40, chains=3, burn_in=20, seed=1, progress=False), tmp_path / "run")
    train(LocalEnergyNet(), stream(tmp_path / "run", block=10), **options, checkpoint=tmp_path / "order")
    with pytest.raises(ValueError, match="another training.*data"):
        train(LocalEnergyNet(), stream(tmp_path / "run", block=20, together=1), **options, checkpoint=tmp_path / "order")


def test_a_network_handed_in_again_is_taken_from_the_checkpoint(tmp_path):
    "Interrupted before the first epoch ends, and resumed with the very same, half-changed network."
    whole, again, calls = LocalEnergyNet(seed=3), LocalEnergyNet(seed=3), [0]
    train(whole, *DATA, seed=0, epochs=5, batch_size=20, progress=False)

    def interrupt(*_):
        calls[0] += 1
        if calls[0] == 4:
            raise KeyboardInterrupt

    handle = again.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(again, *DATA, seed=0, epochs=5, batch_size=20, checkpoint=tmp_path / "state", progress=False)
    handle.remove()
    assert abs(again(DATA.x).detach().numpy() - DATA.y).mean() < abs(DATA.y).mean()  # interrupted, it still speaks in the units of the data
    train(again, *DATA, seed=0, epochs=5, batch_size=20, checkpoint=tmp_path / "state", progress=False)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values()))


class Free(torch.nn.Module):
    "Not one of ours: features and a head."

    def __init__(self, first=1.0, bias=False):
        super().__init__()
        self.inner, self.head, self.first, self.extensive = torch.nn.Linear(36, 5).double(), torch.nn.Linear(6, 1, bias=bias).double(), first, False

    def features(self, x):
        u = torch.tanh(self.inner(torch.as_tensor(x).double().flatten(1)))
        return torch.cat([torch.full_like(u[:, :1], self.first), u], -1)

    def forward(self, x):
        return self.head(self.features(x))


def test_modules_of_ones_own_train_and_resume_or_are_refused(tmp_path):
    whole, parts = Free(), Free()
    parts.load_state_dict(whole.state_dict())
    history = train(whole, *DATA, seed=0, epochs=6, progress=False)
    train(parts, *DATA, seed=0, epochs=6, checkpoint=tmp_path / "state", progress=False)
    parts = Free()
    train(parts, *DATA, seed=0, epochs=6, checkpoint=tmp_path / "state", progress=False)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters()))
    with torch.no_grad():
        error = np.sqrt(np.mean((whole(DATA.x).numpy() - DATA.y) ** 2))
    assert min(history.training) * 0.5 < error < 2 * max(history.validation)
    for wrong, named in ((Free(first=2.0), "network.features"), (Free(bias=True), "network.head"), (Free().float(), "network.head")):
        with pytest.raises(ValueError, match=named):
            train(wrong, *DATA, seed=0, epochs=1, progress=False)


def test_losses_must_give_a_finite_value_for_each_example(tmp_path):
    for loss in (torch.nn.functional.mse_loss, lambda o, y: (o[:, 0] - y) ** 2, lambda o, y: None):
        with pytest.raises(ValueError, match="loss=.*must give a tensor"):
            train(LocalEnergyNet(), *DATA, seed=0, epochs=1, loss=loss, progress=False)
    with pytest.raises(ValueError, match="loss=.*nan"):
        train(LocalEnergyNet(), *DATA, seed=0, epochs=1, loss=lambda o, y: (o - y).sum(-1) * np.nan, progress=False)
    save(sample(LAW, 0.3, draws=40, chains=3, burn_in=20, seed=1, progress=False), tmp_path / "run")
    with pytest.raises(ValueError, match="y=-.*probabilities"):
        train(MLP((6, 6)), stream(tmp_path / "run", "energy"), seed=0, epochs=1, loss="cross_entropy", progress=False)


def test_a_small_share_still_holds_something_out():
    history = train(MLP((6, 6), hidden=(20,)), DATA.x[:30], DATA.y[:30], seed=0, epochs=3, validation=0.01, progress=False)
    assert history.validation != history.training


def test_inputs_are_standardised_over_all_runs():
    net, x = MLP((1,), hidden=(4,)), np.repeat([0.0, 50.0], 9000)[:, None]
    train(net, Samples(x, x, np.repeat(np.arange(10), 1800), np.repeat([0, 1], 9000)), seed=0, epochs=1, progress=False)
    assert abs(net.offset.item() - 25) < 1 and abs(net.scale.item() - 25) < 1


def test_a_class_of_the_same_name_is_not_the_same_class(tmp_path):
    def make(module):
        class Mine(LocalEnergyNet):
            __module__ = module
        return Mine

    save_network(tmp_path / "net", make("first")())
    make("second")
    with pytest.raises(ValueError, match="holds a Mine of first"):
        load_network(tmp_path / "net")
    del Network.kinds["Mine"]


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


def test_targets_are_one_row_for_each_draw():
    run = sample(LAW, 0.3, draws=12, chains=12, burn_in=20, seed=1, progress=False)
    turned = run.transpose("draw", "chain", ...)
    for target in ("total_energy", ("m2", "m4"), lambda r: r["m2"], lambda r: r["m2"].transpose("draw", "chain")):
        assert np.array_equal(samples(turned, target).y, samples(run, target).y) and np.array_equal(samples(turned).x, samples(run).x)
    assert np.array_equal(samples(run, lambda r: r["m2"] - r["m2"].mean(), every=3).y, samples(run, lambda r: r["m2"] - r["m2"].mean()).y[::3])
    for wrong in (lambda r: r["config"].values, lambda r: r["m2"].mean("chain"), lambda r: "3", lambda r: 1j, lambda r: np.ones((12, 12, 0)), lambda r: None):
        with pytest.raises(ValueError, match="target="):
            samples(run, wrong)


def test_chains_may_have_any_whole_numbers():
    chain = np.repeat([-1, 2, 10**15, 7], 5)
    parts = split_by_chain(Samples(np.zeros((20, 2)), np.zeros((20, 1)), chain, np.zeros(20, int)), (0.5, 0.5), seed=0)
    assert sorted(np.concatenate(parts)) == list(range(20)) and not set(chain[parts[0]]) & set(chain[parts[1]])
    dealt = [frozenset(chain[split_by_chain(Samples(chain, chain, chain, chain * 0), (0.5, 0.5), seed=k)[0]]) for k in range(40)]
    assert len(set(dealt)) == 6  # every pair of the four
    for wrong in (3, None, Samples(chain, chain, chain / 2, chain * 0)):
        with pytest.raises(ValueError, match="data="):
            split_by_chain(wrong, seed=0)
    with pytest.raises(ValueError, match="samples with.*chain of shape"):
        Samples(np.zeros((20, 2)), np.zeros((20, 1)), np.arange(10), np.zeros(20, int))


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


def test_views_of_tensors_are_written_as_what_they_show(tmp_path):
    "A part of a tensor, with strides of the whole, also of one element."
    whole = torch.arange(12.0, dtype=torch.float64).reshape(3, 4)
    parts = dict(column=whole[:, 1], one=whole[:1, 3], turned=whole.mT, single=whole.as_strided((1,), (3,)))
    save_state(tmp_path / "parts", dict(kind="parts", **parts))
    again = load_state(tmp_path / "parts", "parts")
    assert all(torch.equal(again[name], part) for name, part in parts.items())
