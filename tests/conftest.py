"""Every call in a test run is shape-checked: jaxtyping's import hook wraps the library's annotated functions and dataclasses."""

from jaxtyping import install_import_hook

install_import_hook("video2act", "beartype.beartype")
