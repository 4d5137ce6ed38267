"""Which files of a dataset may be read and written: a dataset can come from a stranger, and it names its own files.

Reading follows links, because the Hub's cache and large disks need them; a name never leads out of the folder. Writing
follows none: a folder that holds a link is not recorded into.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from video2act.files.fetched import fetched_dataset, named_repo

CODEBASE_VERSION = "v3.0"
"""of the format; LeRobot tags repos with it"""
MAX_INDEX = 10**6
"""above every chunk and file number"""
MAX_VALUES_PER_BYTE = 100
"""of a column of a parquet file that declares no size; equal values take almost no bytes"""
SPARE = 10**5
"""rows or values above what is expected that are read, so that the error can name the one that is wrong"""
SPARE_TEXT_BYTES = 2**26
NONE: Mapping[str, int] = {}

_FIELD = re.compile(r"\{(\w+)(?::0([1-9])d)?\}")
_POINTER = b"version https://git-lfs"


FILMS = (".mp4", ".mov", ".mkv", ".avi", ".webm")

COPY = "copy the dataset again"
RECORD = "copy the file again or record its episodes again"
RESTORE = "restore the file from a copy or record the dataset again"
"""remedies of files that are damaged"""


class DatasetError(ValueError):
    """A dataset on disk that cannot be used as it is.

    Args:
        problem: which file, and what is wrong.
        remedy: what to do.
    """

    def __init__(self, problem: str, remedy: str = ""):
        super().__init__(f"{problem}; {remedy}" if remedy else problem)


def locate_dataset(source: Path | str) -> Path:
    """A folder as it is, or the folder into which a dataset repo `owner/name` is fetched. Raises FileNotFoundError:
    there is neither such a folder nor a repo that can be reached."""
    repo = named_repo(source)
    return fetched_dataset(repo, CODEBASE_VERSION) if repo else Path(source).expanduser()


def film_hint(path: Path) -> str:
    """What to do with films, for the end of an error; empty where a path is no film and no folder that holds one."""
    names = [path.name, *(entry.name for entry in path.iterdir())] if path.is_dir() else [path.name]
    is_film = any(name.lower().endswith(FILMS) for name in names)
    return "; films become a dataset without actions by a few lines of Python (docs/data.md, Films)" if is_film else ""


def check_template(value: object, name: str, *, places: tuple[str, ...]) -> str:
    """A path of `info.json` such as `data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet`. Raises ValueError: it
    has other places than `places`, a format other than `0Nd`, or may leave the dataset's folder."""
    expected = ", ".join(f"{{{place}}}" for place in places)
    text = value if isinstance(value, str) else "{"
    unknown = [place for place, _ in _FIELD.findall(text) if place not in places]
    plain = _FIELD.sub("0", text)
    if len(text) > 300 or unknown or "{" in plain or "}" in plain or "{video_key:" in text:
        raise ValueError(
            f"{name} must be a path in which only {expected} may be filled in (numbers may be padded, as in "
            f"{{episode_index:03d}}), got {str(value)[:100]!r}"
        )
    check_relative(plain, name)
    return text


def check_relative(path: str, name: str) -> None:
    """Raise ValueError where a path may lead out of its folder."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or any(letter in path for letter in "\\\0"):
        raise ValueError(f"{name} must be a path inside the dataset's folder, without .. and \\, got {path[:100]!r}")


def check_no_links(root: Path) -> None:
    """Raise DatasetError if a folder that will be written holds a link, which may lead out of it."""
    link = next((path for path in root.rglob("*") if path.is_symlink()), None)
    if link is not None:
        problem = f"{link} is a link, and recording through links could change files elsewhere"
        raise DatasetError(problem, "copy the dataset (cp -rL), or record into a new folder")


def is_hidden(path: Path) -> bool:
    """Whether a file is of a file browser (`.DS_Store`), of a Mac's copying (`._*`) or unfinished: not data."""
    return path.name.startswith(".")


def episode_files(root: Path) -> list[Path]:
    """The tables of `meta/episodes`, in their order."""
    found = (root / "meta" / "episodes").glob("*/*.parquet")
    return sorted(path for path in found if not is_hidden(path) and not is_hidden(path.parent))


def check_exists(path: Path) -> None:
    """Raise FileNotFoundError where there is no such file, DatasetError where git-lfs left a pointer in its place."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; the dataset is incomplete: copy it again")
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            problem = f"{path} is a pointer of Git LFS, not the file itself"
            raise DatasetError(problem, "run `git lfs pull` where the dataset was cloned")


def open_parquet(
    path: Path, columns: Collection[str] | None = None, *, max_rows: int | None = None, sizes: Mapping[str, int] = NONE
) -> pq.ParquetFile:
    """A parquet file, of which only the footer is read.

    Args:
        columns: those that will be read; None: all.
        max_rows: what `meta/info.json` allows for.
        sizes: numbers in a row of a column, as declared.
    Raises:
        FileNotFoundError: no such file.
        DatasetError: not parquet, cut short, or with far more rows or numbers than it may have.
    """
    check_exists(path)
    try:
        file = pq.ParquetFile(path, pre_buffer=False)  # files are many and small: reading ahead takes longer
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    metadata, most = file.metadata, path.stat().st_size * MAX_VALUES_PER_BYTE
    names = file.schema_arrow.names
    if twice := next((name for name in names if (columns is None or name in columns) and names.count(name) > 1), None):
        file.close()
        raise DatasetError(f"{path} has the column {twice} twice", "remove one of them")
    counts, texts = {"rows": (metadata.num_rows, most if max_rows is None else max_rows)}, []
    text_bytes = most_written = 0
    for i, (name, *_) in enumerate(file.reader.column_paths):  # behind the name: what lists hold
        if columns is None or name in columns:
            chunks = [metadata.row_group(k).column(i) for k in range(metadata.num_row_groups)]
            count = sum(chunk.num_values for chunk in chunks)
            if metadata.schema.column(i).physical_type == "BYTE_ARRAY":
                texts.append(metadata.schema.column(i).path)
                text_bytes += sum(chunk.total_uncompressed_size for chunk in chunks)
                most_written += sum(chunk.total_uncompressed_size * chunk.num_values for chunk in chunks)
            allowed = most if max_rows is None or name not in sizes else max_rows * sizes[name]
            counts[f"values of {name}"] = (count, allowed)
    for what, (count, allowed) in counts.items():
        if count > allowed + SPARE:
            file.close()
            raise DatasetError(
                f"{path} holds {count} {what}, far more than meta/info.json and its size allow for", COPY
            )
    try:
        _check_text(path, text_bytes)
    except DatasetError:
        file.close()
        raise
    if most_written < SPARE_TEXT_BYTES:  # also if every cell shared the whole of them
        return file
    # cells that share a text are read as one text and its numbers: written out they may not fit into memory
    file.close()
    return pq.ParquetFile(path, pre_buffer=False, metadata=metadata, read_dictionary=texts)


def read_groups(
    path: Path, file: pq.ParquetFile, columns: Collection[str] | None, *, groups: Sequence[int], use_threads: bool
) -> pa.Table:
    """Row groups of a file of `open_parquet`, with each text in its cell. Raises DatasetError: these would take far
    more than the file's size allows for."""
    # pyarrow cannot join the texts in lists of several groups; the files of numbers, which may have many, have none
    has_texts = any("dictionary" in str(kind) for kind in file.schema_arrow.types)
    parts = [[group] for group in groups] if has_texts and groups else [list(groups)]
    table = pa.concat_tables([file.read_row_groups(part, columns, use_threads=use_threads) for part in parts])
    _check_text(path, sum(_text_bytes(chunk) for column in table.columns for chunk in column.chunks))
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field.name, table[field.name].cast(field.type.value_type))
    return table


def _check_text(path: Path, size: int) -> None:
    if size > path.stat().st_size * MAX_VALUES_PER_BYTE + SPARE_TEXT_BYTES:
        raise DatasetError(f"{path} holds {size} bytes of texts or pictures, far more than its size allows for", COPY)


def _text_bytes(values: pa.Array) -> int:
    """Bytes of the texts and pictures in an array, written out."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    kind = values.type
    if pa.types.is_dictionary(kind):
        lengths = pc.call_function("binary_length", [values.dictionary]).cast(pa.int64())
        return pc.call_function("sum", [lengths.take(values.indices)]).as_py() or 0
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _text_bytes(values.flatten())
    if pa.types.is_struct(kind):
        return sum(_text_bytes(part) for part in values.flatten())
    return 0


def unreadable(path: Path, error: Exception) -> DatasetError:
    """A file that pyarrow cannot read."""
    return DatasetError(f"{path} is not a readable parquet file ({error})", "it is damaged: copy it again")
