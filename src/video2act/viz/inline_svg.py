"""An SVG as a part of an HTML page: its elements alone, without the head of its file, comments and instructions.

It is read as XML and written again, so a browser gets what was checked here. What could run, load or lead elsewhere is
refused: elements and attributes count, the text between them does not. Entities cannot be declared: that stands before
the first element, which is cut off.
"""

import io
import re
from xml.sax import SAXException, parseString
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

ACTIVE = ("script", "foreignobject", "iframe", "frame", "object", "embed", "meta", "base", "link", "form", "set")
ACTIVE += ("animate",)
"""elements that run, load or lead elsewhere, or change an attribute later; in lower case, as a browser reads them"""
ADDRESSES = ("href", "src", "srcset", "data", "action", "formaction")
OUTSIDE = re.compile(r"url\((?!\s*[\"']?#)|@import", re.IGNORECASE)
"""an address in a style that is not of the picture itself"""
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""characters that XML has not; a browser shows none of them either"""


def inline_svg(svg: str) -> str:
    """The picture for a page.

    Raises:
        ValueError: it is no SVG, is not well-formed, or holds a script or an address.
    """
    begin = svg.find("<svg")
    if begin < 0:
        raise ValueError("a figure on a page is PNG or SVG; got other content")
    written = io.StringIO()
    try:
        parseString(NOT_XML.sub("", svg[begin:]), _Checked(written))
    except SAXException as error:
        raise ValueError(f"an SVG on a page must be well-formed: {error}; write it again") from error
    return written.getvalue()


class _Checked(XMLGenerator):
    """Writes the elements that it reads. The parser has no handler for comments, and passes over them."""

    def __init__(self, out: io.StringIO):
        super().__init__(out, encoding="utf-8", short_empty_elements=True)
        self._style: list[str] | None = None
        """text of the style that is open"""

    def startDocument(self) -> None:  # noqa: N802
        """Without the head of an XML file."""

    def processingInstruction(self, target: str, data: str) -> None:  # noqa: N802
        """Left out."""

    def startElement(self, name: str, attrs: AttributesImpl) -> None:  # noqa: N802
        element = _local(name)
        _check(element not in ACTIVE, f"<{name}>")
        for key, value in attrs.items():
            attribute = _local(key)
            is_address = attribute in ADDRESSES and not value.strip().startswith("#")
            _check(not (attribute.startswith("on") or is_address or OUTSIDE.search(value)), f'{key}="{value}"')
        if element == "style":
            self._style = []
        super().startElement(name, attrs)

    def endElement(self, name: str) -> None:  # noqa: N802
        if self._style is not None and _local(name) == "style":
            found = OUTSIDE.search("".join(self._style))
            _check(found is None, found[0] if found else "")
            self._style = None
        super().endElement(name)

    def characters(self, content: str) -> None:
        if self._style is not None:
            self._style.append(content)
        super().characters(content)


def _local(name: str) -> str:
    """Without the prefix of a namespace."""
    return name.rpartition(":")[2].lower()


def _check(is_harmless: bool, what: str) -> None:
    if not is_harmless:
        raise ValueError(f"an SVG on a page may hold no script and no address, but it has {what[:80]}")
