"""Reading the pages that the library writes, and names that try to break them."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = (
    "<script>alert(1)</script>.jpg",
    '"><img src=x onerror=alert(1)>.jpg',
    "' onload='alert(1).jpg",
    "{{ 7 * 7 }}{% raw %}.jpg",
    "caf\udce9.jpg",
    "up\u202egpj.exe",
    "new\nline\x00\x1b[31m.jpg",
    "&lt;already&gt;.jpg",
)
VOID = {"img", "meta", "br", "input"}


class Page(HTMLParser):
    """Checks that tags are balanced, and keeps them and the text, joined where lines may break."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "wbr":
            return
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        """The text with single blanks."""
        return " ".join("".join(self.text).split())

    def find(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all tags of a name."""
        return [attrs for name, attrs in self.tags if name == tag]
