"""Command line: draw more samples from a finished or interrupted run."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from framework.cli import exit_codes
from framework.imports import import_without_gc
from framework.paths import register_bundle, work_in

KINDS = ("prior", "posterior", "predictive")


def main() -> None:
    """Parse the arguments and draw."""
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
trust=true calls whatever code the directory names; say so only if you know who has written it.
Samples are written to <run_dir>/samples/posterior-2/, -3/, ..., one .npz for each node, with the data, checkpoint and
seed that they are of in source.json; nothing there is overwritten.""",
    )
    parser.add_argument("run_dir", help="the directory of the run, such as outputs/two_moons")
    parser.add_argument("kind", nargs="?", default="posterior", choices=KINDS, help="default: posterior")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="what differs from the run's own configuration"
    )
    arguments = parser.parse_args()
    with exit_codes():
        import_without_gc(
            "framework.inference.resample"
        )  # torch, too; only now, so that --help and typing mistakes answer at once
        from framework.inference.resample import resample

        print(f"samples: {resample(arguments.run_dir, arguments.kind, arguments.overrides)}")


if __name__ == "__main__":
    main()
