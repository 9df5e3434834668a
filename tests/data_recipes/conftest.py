"""Stand-ins for a cluster's commands."""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SBATCH = '''#!{python}
"""Runs the tasks of the job's array at once, as far as what it depends on has gone well."""
import os, re, subprocess, sys
from pathlib import Path
home = Path(os.environ["FAKE_SLURM"])
script = Path(sys.argv[-1]).read_text()
number = len(list(home.glob("job-*.sh"))) + 1
(home / f"job-{{number}}.sh").write_text(script)
(home / f"job-{{number}}.arguments").write_text(" ".join(sys.argv[1:-1]))
needed = re.search(r"--dependency=afterok:(\\d+)", " ".join(sys.argv) + script)
failed = needed is not None and (home / f"failed-{{needed[1]}}").exists()
tasks = int(re.search(r"--array=0-(\\d+)", script)[1]) + 1
for task in [] if failed else range(tasks):
    ids = {{"SLURM_ARRAY_TASK_ID": str(task), "SLURM_JOB_ID": str(number), "SLURM_NODELIST": "node"}}
    environment = {{**os.environ, **ids}}
    ended = subprocess.run(["bash", str(home / f"job-{{number}}.sh")], env=environment, capture_output=True, text=True)
    failed = failed or ended.returncode != 0
    (home / f"output-{{number}}-{{task}}").write_text(ended.stdout + ended.stderr)
if failed:
    (home / f"failed-{{number}}").touch()
print("Submitted batch job", number)
'''


@pytest.fixture
def tests_importable(monkeypatch):
    """Other processes find the modules beside the tests."""
    places = [HERE, HERE / "cleaning", *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", ":".join(map(str, places)))


@pytest.fixture
def slurm(tmp_path, monkeypatch, tests_importable):
    """The folder of a stand-in for Slurm, whose commands are first in PATH."""
    home, commands = tmp_path / "slurm", tmp_path / "bin"
    home.mkdir()
    commands.mkdir()
    scripts = {
        "sbatch": SBATCH.format(python=sys.executable),
        "srun": '#!/bin/bash\nwhile [[ $1 != launch* ]]; do shift; done\nexec "$@"\n',
        "scontrol": "#!/bin/bash\necho node\n",
        "squeue": '#!/bin/bash\ncat "$FAKE_SLURM/queue" 2>/dev/null\n',
    }
    for name, text in scripts.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(home))
    return home
