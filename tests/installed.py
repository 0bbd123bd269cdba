"""What `tox -e wheel` runs: the installed wheel, away from the clone, on a tiny matrix.

The folder that it runs in has plain folders called `tasks` and `reports`, as users have.
"""

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import bench
from bench.models.tiny import save_tiny
from tasks.ioi import IOI

MATRIX = """
models: [tiny]
tasks: [ioi]
methods: [grad_scalar]
prompts: {train: 2, test: 2, shifted: 2}
controls: {draws: 1}
agreement: {resamples: 20}
output: out
"""


def main() -> None:
    """Raises AssertionError where something is not as it should be."""
    home = Path.cwd()
    clone = Path(__file__).resolve().parents[1]
    assert Path(bench.__file__).resolve().parents[1] != clone, "the wheel is what is tried"
    for name in ("tasks", "reports"):
        (home / name).mkdir(exist_ok=True)
        (home / name / "note.txt").write_text("mine")
    task = IOI()
    pairs = [
        pair
        for split in ("train", "test", "shifted")
        for pair in islice(task.candidates(split, list(task.entities()), 0), 400)
    ]
    save_tiny(home / "tiny", texts=[text for p in pairs for text in (p.clean + p.answer, p.foil)])
    (home / "my.yaml").write_text(MATRIX)

    assert "quick" in answer("attribution-bench", "list")
    assert "would run, about" in answer("attribution-bench", "plan", "paper")
    answer("attribution-bench", "run", "my.yaml")
    page = home / "out" / "report" / "index.html"
    assert "grad_scalar" in page.read_text("utf-8")
    assert answer(sys.executable, "-m", "bench", "status", "out")

    package = home / "ahead" / "tasks"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    named = answer(sys.executable, "-c", "import bench", path=package.parent, code=1)
    assert f"its own package 'tasks', but Python finds {package}" in named, named
    print("The installed wheel works here.")


def answer(*command: str, path: Path | None = None, code: int = 0) -> str:
    """What a command says, once it has ended with this exit code."""
    environment = {**os.environ, "PYTHONPATH": str(path)} if path else {**os.environ}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


main()
