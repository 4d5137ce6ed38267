"""The worked example of docs/data.md, as it stands there, under the real `lerobot`: from its recording to a policy that
acts.

    python tests/interop/lerobot_worked_example.py FOLDER           two demonstrations, five steps: that it runs
    python tests/interop/lerobot_worked_example.py FOLDER --full    with the numbers of the text

Takes the code and the commands out of section "Start to end" and runs them in FOLDER, in the virtual environment that
it runs in.
"""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "data.md"


def example() -> tuple[str, list[list[str]]]:
    """The code that records, and the words of the commands that follow."""
    section = DOCUMENT.read_text().partition("## Start to end")[2].partition("\n## ")[0]
    (code,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return code, [shlex.split(line) for block in blocks for line in block.splitlines()]


def main(folder: Path, full: bool) -> None:
    code, commands = example()
    if not full:
        assert "EPISODES = 100" in code
        code = code.replace("EPISODES = 100", "EPISODES = 2")
    if version("metaworld") < "3.1":  # lerobot 0.6.1 asks for 3.0.0, which lacks the default view
        code = code.replace('"metaworld:push-v3")', '"metaworld:push-v3", ("corner3", "gripperPOV"))')
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    Path("record.py").write_text(code)
    runpy.run_path("record.py", run_name="__main__")
    print(f"recorded: {', '.join(sorted(path.name for path in Path('data').iterdir()))}")
    assert len(commands) == 5
    for words in commands:
        program = str(Path(sys.executable).parent / words[0])
        if not full:
            words = ["2" if word == "25" else word for word in words]
            words += ["--num-steps", "5", "--warmup-steps", "1"] if words[1].startswith("train") else []
        print("$", shlex.join(words), flush=True)
        subprocess.run([program, *words[1:]], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), "--full" in sys.argv[2:])
