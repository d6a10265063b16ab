"""A sweep on a cluster with SLURM: the script that runs on a laptop, and one object more.

    python studies/sweep_slurm.py studies/transition.toml --jobs 16 --queue normal --out /shared/me/transition
    python studies/sweep_slurm.py studies/transition.toml --local --out results/transition     no SLURM: two processes here
    python studies/sweep_slurm.py studies/transition.toml --show                               print the job, submit nothing

Run it where jobs may be submitted, on the login node, in a terminal that stays (tmux, screen), or as a small job itself.
It needs `pip install "uqphys[cluster]"` in an environment that all nodes see, and an --out that all nodes see. Stop it, or
let SLURM stop it: the same line goes on where it was.
"""
import argparse
import sys

from dask.distributed import Client, LocalCluster
from dask_jobqueue import SLURMCluster

from uqphys.cli import aligned, read_sweep, sweep_rows
from uqphys.sweeps import sweep, tabulate


def slurm(queue: str, account: str | None, walltime: str) -> SLURMCluster:
    "What one job is: a worker with one core, as a point uses one thread beside others."
    hours, minutes, _ = map(int, walltime.split(":"))
    life = max(1, int(0.85 * (60 * hours + minutes)))  # minutes; the worker leaves before SLURM ends the job
    return SLURMCluster(queue=queue, account=account, walltime=walltime, cores=1, processes=1, memory="2GB",
                        worker_extra_args=["--lifetime", f"{life}m", "--lifetime-stagger", f"{max(1, life // 10)}m"],
                        job_extra_directives=["--requeue"], local_directory="$TMPDIR", log_directory="slurm-logs")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="a sweep file, see uqphys sweep --help")
    parser.add_argument("--out", help="folder for the results, seen by all nodes")
    parser.add_argument("--jobs", type=int, default=8, help="at most so many jobs at once")
    parser.add_argument("--queue", default="normal", help="the partition")
    parser.add_argument("--account", help="who pays")
    parser.add_argument("--walltime", default="01:00:00", help="of one job, as hours:minutes:seconds")
    parser.add_argument("--local", action="store_true", help="two processes on this machine instead of jobs")
    parser.add_argument("--show", action="store_true", help="print the job script and stop")
    options = parser.parse_args()
    wanted = read_sweep(options.file)
    if not (options.show or options.out):
        parser.error("--out is needed: a folder that all nodes see")
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) if options.local else \
        slurm(options.queue, options.account, options.walltime)
    with cluster, Client(cluster) as client:
        if options.show:
            print(cluster.job_script())
            return 0
        if not options.local:
            cluster.adapt(maximum_jobs=options.jobs)  # jobs come while there is work, and go when it is done
        table = sweep(wanted.models, wanted.betas, options.out, executor=client.get_executor(), seed=wanted.seed, **wanted.run)
    print(aligned(sweep_rows(tabulate(table))))
    for _, row in table[table.state == "failed"].iterrows():
        print(f"failed: {row['model']} {row['shape']} at beta = {row['beta']:.6g}: {row['error']}", file=sys.stderr)
    return int((table.state == "failed").any())


if __name__ == "__main__":
    sys.exit(main())
