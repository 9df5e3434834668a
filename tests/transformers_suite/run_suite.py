"""Run transformers' own model tests on this model: `make test-transformers`.

The tests are transformers', of the version that is installed, and none of them is kept here: pip fetches the source
archive into `build/` (or SOURCE names a checkout). The archive on the index holds the mixins for models, training,
tensor parallelism and configs, but not the folders that they import helpers from; `stand_ins.py` takes the place of
these. With a whole checkout, of the release that is installed, nothing is stood in for, and the generation mixin runs
too. transformers' CausalLMModelTest, which puts the mixins together for models inside transformers, is not used.
"""

import argparse
import importlib.metadata
import os
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "transformers-suite"
# Where the tests import something that the archive lacks, and what stands in for it.
STOOD_IN = {
    "generation/test_utils.py": "GenerationTesterMixin",
    "exporters/test_export.py": "ExportTesterMixin",
    "distributed_testing_utils.py": "run_distributed",
    "utils/test_configuration_utils.py": "config_common_kwargs",
}


def pip(*arguments: str) -> bool:
    """Whether pip did it; what it says goes to the terminal."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    return subprocess.run(command, check=False).returncode == 0


def fetched_source(version: str) -> Path | None:
    """transformers' source archive, unpacked below `build/`; None where no index can be asked."""
    folder = BUILD / f"transformers-{version}"
    if not folder.is_dir():
        # No build isolation: pip looks at an archive's metadata, for which setuptools is here already.
        options = ("--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--dest", str(BUILD))
        if not pip("download", *options, f"transformers=={version}"):
            return None
        with tarfile.open(BUILD / f"transformers-{version}.tar.gz") as archive:
            archive.extractall(BUILD, filter="data")
    return folder


def stand_in(tests: Path) -> list[str]:
    """Write, below an unpacked archive, a module for each that it lacks; returns those that are stood in for."""
    for path, name in STOOD_IN.items():
        module = tests / path
        if not module.exists():
            module.parent.mkdir(exist_ok=True)
            module.write_text(f"from stand_ins import {name}\n\n__all__ = ['{name}']\n")
    for folder in {tests, *((tests / path).parent for path in STOOD_IN)}:
        (folder / "__init__.py").touch()
    return [path for path in STOOD_IN if "from stand_ins" in (tests / path).read_text()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="a checkout of transformers, in place of what pip fetches")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    arguments = parser.parse_args()
    version = importlib.metadata.version("transformers")
    packages = BUILD / "site-packages"
    if not (packages / "parameterized").is_dir() and not pip(
        "install", "--no-deps", "--target", str(packages), "parameterized==0.9.0"
    ):
        print("skipped: no package index to fetch `parameterized` from, which transformers' tests import.")
        return 0
    source = arguments.source or fetched_source(version)
    if source is None:
        print(f"skipped: no package index to fetch the source of transformers {version} from.")
        return 0
    if arguments.source is None:
        missing = stand_in(source / "tests")
        print(f"transformers {version} from its source archive; not in it, so not run: {', '.join(missing)}")
    paths = [source, HERE, packages, HERE.parents[1], *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "HF_HUB_OFFLINE": "1",
        "RUN_TRAINING_TESTS": "1",
        "RUN_TENSOR_PARALLEL_TESTS": "1",
    }
    # Not this project's pytest settings and fixtures: the tests bring their own marks.
    options = [
        "-c",
        os.devnull,
        "--rootdir",
        str(HERE),
        "--confcutdir",
        str(HERE),
        "-p",
        "no:cacheprovider",
        "-q",
        "--timeout=900",
    ]
    command = [sys.executable, "-m", "pytest", *options, str(HERE / "yulanmini_suite.py"), *arguments.pytest]
    return subprocess.run(command, cwd=HERE, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
