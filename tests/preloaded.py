"Imported once by the server from which test_survival forks: its children find everything imported, and the kernels they call compiled."
import dask.array  # noqa: F401  (xarray asks for it, which takes seconds)
from tqdm import tqdm

from tests.test_survival import BETA, RUNS
from uqphys.sampling import sample

for model, how in RUNS.values():
    named = {name: value for name, value in how.items() if name in ("method", "chains", "settings", "keep")}
    sample(model, BETA, draws=4, burn_in=2, seed=1, progress=False, **named)
tqdm.get_lock()  # now all children share one: see the test of it
