"""A clone of the released code's repository on disk."""

from pathlib import Path

MAIN = "models/action_core/model.py"


def find_checkout(checkout: Path) -> Path:
    """The folder with the released code's package `models`. Raises FileNotFoundError: there is none."""
    for root in (checkout, checkout / "policy" / "video2act"):
        if (root / MAIN).is_file():
            return root
    problem = f"{checkout} is no checkout of the released code: it has neither {MAIN} nor policy/video2act/{MAIN}"
    raise FileNotFoundError(f"{problem}; clone its repository and name the folder")
