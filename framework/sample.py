"""Command line: draw more samples from a finished or interrupted run."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from framework.cli import exit_codes
from framework.imports import import_without_gc
from framework.paths import register_bundle, work_in

KINDS = ("prior", "posterior", "predictive")


def main() -> None:
    """Parse the arguments and draw samples."""
    register_bundle()
    work_in(Path.cwd())
    parser = ArgumentParser(
        prog="python -m framework.sample",
        formatter_class=RawDescriptionHelpFormatter,
        description="Draw from a run's prior, posterior or posterior predictive, with its best weights so far.",
        epilog="""\
examples:
  python -m framework.sample outputs/two_moons posterior inference.num_samples=100000
  python -m framework.sample outputs/two_moons posterior graph.x.observed=new_data.npz
  python -m framework.sample outputs/two_moons predictive seed=1

keys: inference.num_samples, inference.batch_size, inference.num_predictive, seed, device, graph.<node>.observed
trust=true runs any code that the directory names; use it only if you trust its author.
Samples are written to <run_dir>/samples/posterior-2/, -3/, ..., one .npz for each node; source.json records their
data, checkpoint and seed. Existing samples are never overwritten.""",
    )
    parser.add_argument("run_dir", help="the directory of the run, such as outputs/two_moons")
    parser.add_argument("kind", nargs="?", default="posterior", choices=KINDS, help="default: posterior")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="changes to the run's configuration")
    arguments = parser.parse_args()
    with exit_codes():
        # imports torch: only now, so that --help and typing mistakes respond quickly
        import_without_gc("framework.inference.resample")
        from framework.inference.resample import resample

        print(f"samples: {resample(arguments.run_dir, arguments.kind, arguments.overrides)}")


if __name__ == "__main__":
    main()
