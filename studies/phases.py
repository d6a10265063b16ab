"""T_c and ν of the Ising model from a phase classifier, at study scale; notebook 212_phases shows the results.

    python studies/phases.py

Each repetition samples its own training and test configurations, trains its own networks for L = 10, 20, 30, 40, and
measures T_c and ν on the square and, with the same networks, on the triangular lattice. Both cases, the label at T_c and at
2.20, use the same seeds: repetition k of one and of the other share initial weights and the seeds of their configurations.

Finished repetitions are kept in results/phases/ with the settings that made them, so that an interrupted study continues where
it stopped; a file made with other settings is refused, one without settings is made again. The summary goes to studies/phases.json.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from uqphys.exact import BETA_C
from uqphys.models import Ising
from uqphys.phases import TRIANGULAR_T_C, PhaseClassifier, TriangularIsing, crossing_temperature, output_curve, phase_samples, train_classifier
from uqphys.sampling import one_thread
from uqphys.scaling import collapse, shifted_peaks

SIZES, T_C = (10, 20, 30, 40), 1 / BETA_C
LABELS = {"label at T_c": T_C, "label at 2.20": 2.20}
TRAINING = {"half": 1.245, "temperatures": 166, "draws": 80, "epochs": 5}  # half the range of T; per chain of four, at each T and L
TEST = {"square": {"centre": 2.27, "stretch": 1.0, "draws": 300, "chains": 4, "thin": 8},
        "triangular": {"centre": 3.64, "stretch": 1.7, "draws": 40, "chains": 16, "thin": 4}}  # T = centre + stretch x / L
X = {"from": -3, "to": 4, "points": 12}


def settings(case, seed):
    "All that a repetition depends on, as it is kept with its results."
    return {"case": case, "seed": seed, "sizes": list(SIZES), "label": LABELS[case], "training": TRAINING, "test": TEST, "x": X}


def training_temperatures(label):
    "Equal steps, the label in the middle of one of them: the boundary of the classes is where the label says."
    half, n = TRAINING["half"], TRAINING["temperatures"]
    return label + 2 * half / n * (np.arange(n) - (n - 1) / 2)


def networks(case, seed):
    "One trained network for each size, and what its training said."
    nets, said = {}, {}
    for L in SIZES:
        label = LABELS[case]
        run = phase_samples(Ising((L, L)), training_temperatures(label), draws=TRAINING["draws"], seed=1000 * seed + L)
        nets[L] = PhaseClassifier((L, L), seed=seed)
        history = train_classifier(nets[L], run, label, seed=seed, epochs=TRAINING["epochs"])
        said[L] = {"training": history.training[history.best_epoch], "validation": history.validation[history.best_epoch]}
    return nets, said


def measure(curves):
    "T_c and ν by collapse, and T_c from the places where the output is 1/2."
    found, points = collapse(pd.concat(curves), known={"exponent": 0.0}), [crossing_temperature(c) for c in curves]
    line = shifted_peaks(SIZES, points, nu=1.0)
    return {"t_c": found.t_c.value, "t_c_error": found.t_c.error, "nu": found.nu.value, "nu_error": found.nu.error,
            "crossings": [p.value for p in points], "extrapolated": line["t_c"].value, "extrapolated_error": line["t_c"].error,
            "curves": [json.loads(c.round(6).to_json(orient="values")) for c in curves]}


def test_configurations(lattice, L, seed):
    "Fresh ensembles around the transition of a lattice."
    t, x = TEST[lattice], np.linspace(X["from"], X["to"], X["points"])
    model = {"square": Ising, "triangular": TriangularIsing}[lattice]((L, L))
    return phase_samples(model, t["centre"] + t["stretch"] * x / L, draws=t["draws"], chains=t["chains"], thin=t["thin"], seed=seed)


def kept(file, wanted):
    "A finished repetition, or None; exits if it was made with other settings."
    if not file.exists():
        return None
    found = json.loads(file.read_text())
    if "settings" in found and found["settings"] != wanted:
        differ = sorted(k for k in {*wanted, *found["settings"]} if found["settings"].get(k) != wanted.get(k))
        raise SystemExit(f"{file}: made with other settings ({', '.join(differ)}); expected those of this study: give another --folder, or remove the file")
    return found if "settings" in found else None


def repetition(case, seed):
    "One walk: networks, curves on fresh configurations of both lattices, what they say."
    start = time.perf_counter()
    nets, said = networks(case, seed)
    out = {"case": case, "seed": seed, "settings": settings(case, seed), "losses": said}
    out["square"] = measure([output_curve(nets[L], test_configurations("square", L, 1000 * seed + 100 + L)) for L in SIZES])
    if case == "label at T_c":
        out["triangular"] = measure([output_curve(nets[L], test_configurations("triangular", L, 1000 * seed + 200 + L)) for L in SIZES])
    return out | {"seconds": time.perf_counter() - start}


def mean_and_error(values):
    "Mean over repetitions and its standard error from their scatter."
    return {"value": float(np.mean(values)), "error": float(np.std(values, ddof=1) / len(values) ** 0.5), "scatter": float(np.std(values, ddof=1))}


def summary(walks):
    "What the notebook shows."
    out = {"sizes": SIZES, "t_c": T_C, "triangular_t_c": TRIANGULAR_T_C, "seconds": sum(w["seconds"] for w in walks), "cases": {}}
    for case in LABELS:
        chosen = [w for w in walks if w["case"] == case]
        told = {"repetitions": len(chosen)}
        for lattice in ("square", "triangular"):
            if chosen and lattice in chosen[0]:
                seen = [w[lattice] for w in chosen]
                told[lattice] = {name: mean_and_error([s[name] for s in seen]) for name in ("t_c", "nu", "extrapolated")}
                told[lattice]["errors_claimed"] = {name: float(np.median([s[name + "_error"] for s in seen])) for name in ("t_c", "nu", "extrapolated")}
                told[lattice]["crossings"] = [mean_and_error(values) for values in zip(*(s["crossings"] for s in seen))]
                told[lattice]["curves"] = average(seen)
        out["cases"][case] = told
    return out


def average(seen):
    "Curves averaged over repetitions: rows (L, T, value, error), the error from the scatter."
    curves = np.array([np.concatenate([np.array(c) for c in s["curves"]]) for s in seen])
    error = curves[:, :, 2].std(0, ddof=1) / len(seen) ** 0.5
    return [[int(L), round(T, 6), round(v, 5), round(max(e, 1e-4), 5)] for L, T, v, e in zip(*curves[0, :, :2].T, curves[:, :, 2].mean(0), error)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--wrong", type=int, default=2, help="repetitions with the label at 2.20")
    parser.add_argument("--folder", type=Path, default=Path("results/phases"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    jobs = [("label at T_c", s) for s in range(options.repetitions)] + [("label at 2.20", s) for s in range(options.wrong)]
    walks = []
    for case, seed in tqdm(jobs, desc="repetitions"):
        file = options.folder / f"{case.replace(' ', '-')}-{seed:03d}.json"
        if kept(file, settings(case, seed)) is None:
            with one_thread():
                done = repetition(case, seed)
            part = file.with_suffix(".part")
            part.write_text(json.dumps(done))
            part.replace(file)
        walks.append(json.loads(file.read_text()))
    told = summary(walks)
    options.out.write_text(json.dumps(told, indent=1) + "\n")
    for case, found in told["cases"].items():
        for lattice in ("square", "triangular"):
            if lattice in found:
                print(case, lattice, {k: {n: round(v, 4) for n, v in found[lattice][k].items()} for k in ("t_c", "nu", "extrapolated")})


if __name__ == "__main__":
    main()
