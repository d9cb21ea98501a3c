"""How far the standard deviation of an ensemble tells its error, from the seeds of a study.

    python -m benchmarks.ensembles STUDY/finetuned/conformers STUDY/scratch [--out ensembles.json]

Each folder holds finished runs ``seed_0``, ``seed_1``, … of one training; their predictions for the
test set are taken together. Nothing is computed anew.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.inference.results import calibration
from benchmarks.rows import write_result


def measure(folder: Path) -> dict[str, Any]:
    """Force errors of the members and of their mean, beside the standard deviation, meV/Å."""
    files = sorted(folder.glob("seed_*/predictions/*.npz"))
    if len(files) < 2:
        raise SystemExit(f"{folder}: fewer than two seeds with predictions")
    members = []
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            members.append(arrays["forces_predicted"])
            true = arrays["forces_true"]
    forces = np.array(members)
    errors, deviations = forces.mean(axis=0) - true, forces.std(axis=0, ddof=1)
    lengths = [np.linalg.norm(vectors, axis=1) for vectors in (errors, deviations)]
    bins = calibration(errors, deviations)
    return {
        "run": folder.name,
        "members": len(files),
        "trained_on": json.loads((files[0].parents[1] / "results.json").read_text())["structures"],
        "atoms": len(true),
        "force_mae_of_members": [1e3 * float(np.abs(one - true).mean()) for one in forces],
        "force_mae_of_mean": 1e3 * float(np.abs(errors).mean()),
        "root_mean_square_error": 1e3 * float(np.sqrt(np.mean(errors**2))),
        "root_mean_square_deviation": 1e3 * float(np.sqrt(np.mean(deviations**2))),
        "correlation": float(np.corrcoef(*lengths)[0, 1]),
        "deviation_of_tenths": (1e3 * bins[0]).tolist(),
        "error_of_tenths": (1e3 * bins[1]).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="folders of seeds")
    parser.add_argument("--out", type=Path, help="results as JSON")
    options = parser.parse_args()
    (made,) = json.loads((options.folders[0] / "seed_0" / "versions.json").read_text())[:1]
    results = {
        "command": "python -m benchmarks.ensembles STUDY/finetuned/... STUDY/scratch",
        "machine": f"{made['device']}, jax {made['jax']}, Python {made['python']}",
        "ensembles": [measure(folder) for folder in options.folders],
    }
    print(json.dumps(results, indent=2))
    if options.out is not None:
        write_result(options.out, results)


if __name__ == "__main__":
    main()
