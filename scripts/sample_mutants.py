"""Names of a random sample of mutmut's mutants, without those of texts: `mutmut run $(scripts/sample_mutants.py 90)`.

A run over all mutants of the core takes hours. A sample of 90 gives the share killed to about ten points. Mutants of
texts (error messages) are left out: tests match messages in part. So are mutants that replace an argument or a value
by None: they fail at once and tell little.
"""

import argparse
import difflib
import random
import re
from pathlib import Path

FUNCTION = re.compile(r"^(\s*)(?:async )?def (x\S*?__mutmut_(?:orig|\d+))\(")


def mutants(root: Path) -> dict[str, tuple[str, list[str]]]:
    """Mutant's name -> (name of the original, the changed lines)."""
    found = {}
    for path in sorted((root / "src").rglob("*.py")):
        module = ".".join(path.relative_to(root / "src").with_suffix("").parts).removesuffix(".__init__")
        bodies: dict[str, list[str]] = {}
        name = ""
        for line in path.read_text().splitlines():
            if match := FUNCTION.match(line):
                name = match[2]
                bodies[name] = []
            elif name and re.match(r"\s*(mutants_x|x\S*__mutmut_)", line):
                name = ""
            elif name:
                bodies[name].append(line.strip())
        for name, body in bodies.items():
            original = re.sub(r"__mutmut_\d+$", "__mutmut_orig", name)
            if name != original and original in bodies:
                changed = [line for line in difflib.ndiff(bodies[original], body) if line[0] in "+-"]
                found[f"{module}.{name}"] = changed
    return found


def is_telling(changed: list[str]) -> bool:
    """Whether a mutant is of the kind that a tired engineer writes."""
    new = [line for line in changed if line.startswith("+")]
    old = [line for line in changed if line.startswith("-")]
    if len(new) != 1 or len(old) != 1:
        return bool(old) and not new
    if new[0].count("None") > old[0].count("None"):
        return False
    texts = [re.findall(r"\"[^\"]*\"", line[0]) for line in (new, old)]
    return texts[0] == texts[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--of", default="", help="a part of the module's name: system2, runtime, ...")
    parser.add_argument("--root", type=Path, default=Path("mutants"))
    options = parser.parse_args()
    names = [n for n, changed in mutants(options.root).items() if options.of in n and is_telling(changed)]
    print("\n".join(random.Random(options.seed).sample(names, min(options.count, len(names)))))


if __name__ == "__main__":
    main()
