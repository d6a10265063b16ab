"The longest files come first, so that no worker is left alone with one of them at the end."

LONG = ("test_maps.py", "test_survival.py", "test_gp.py", "test_lattice_kernels.py", "test_bias_coverage.py", "test_bias_maps.py", "test_sparse_gp.py",
        "test_pathwise.py", "test_hmc.py", "test_penalty.py", "test_variational.py", "test_last_layer.py", "test_deep_kernel.py", "test_mdn.py", "test_disorder.py", "test_training.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
