import subprocess
import sys


def test_import_loads_neither_matplotlib_nor_ipywidgets_nor_a_framework_nor_a_downloader():
    code = (
        "import sys, revlearn; heavy = {'matplotlib', 'ipywidgets', 'pooch', 'tqdm', 'joblib', "
        "'PIL', 'scipy', 'requests', 'jax', 'torch'}; print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_all_public_names_exist():
    import revlearn as rl

    assert all(hasattr(rl, name) for name in rl.__all__)
    assert len(set(rl.__all__)) == len(rl.__all__)
