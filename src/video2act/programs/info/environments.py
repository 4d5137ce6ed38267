"""Every environment by name, and which of them have a scripted expert."""

from rich.table import Table

from video2act.envs import list_environments
from video2act.envs.choices import ranges
from video2act.envs.registry import has_expert
from video2act.programs.info.tables import as_text

WORD = "environments"
"""what `video2act info` calls them"""


def describe_environments() -> str:
    """The names of each family; plain text. Needs no simulator."""
    families: dict[str, list[str]] = {}
    for name in list_environments():
        families.setdefault(name.partition(":")[0], []).append(name)
    table = Table("family", "tasks", "expert", "names", box=None)
    for family, names in families.items():
        shown = " ".join(name.partition(":")[2] for name in ranges(names))
        table.add_row(f"{family}:", str(len(names)), str(sum(map(has_expert, names))), shown)
    return as_text(table, " A name is FAMILY:NAME. A Gymnasium id, or module:function of your own, is one, too.")
