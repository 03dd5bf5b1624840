from html.parser import HTMLParser
from pathlib import Path

import pytest

from telepath.errors import UserError
from telepath.evaluation.html import self_contained

PAGE = """# A run & its <end>

**Yes.** See `dvc repro`.

| agent | return |
| --- | ---: |
| **Telepath** | 941 |

![A "film" of them](film/film.gif)

*A caption.*

- one
- two

```sh
dvc repro
```
"""


class Page(HTMLParser):
    """Collects what a page would have a browser fetch, and checks that tags close in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "action")]
        if tag not in ("meta", "img", "br", "hr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "film").mkdir()
    (tmp_path / "film" / "film.gif").write_bytes(b"GIF89a")
    return tmp_path


def test_the_page_needs_nothing_else(folder: Path) -> None:
    text = self_contained(PAGE, folder)
    page = Page(text)
    assert page.addresses == ["data:image/gif;base64,R0lGODlh"]
    assert not {"script", "link", "iframe", "object"} & set(page.seen)
    assert not any(word in text for word in ("http:", "https:", "//", "url(", "@import"))
    assert text == self_contained(PAGE, folder)


def test_it_says_what_the_markdown_says(folder: Path) -> None:
    text = self_contained(PAGE, folder)
    assert "<title>A run &amp; its &lt;end&gt;</title>" in text
    assert "<strong>Telepath</strong>" in text
    assert 'alt="A &quot;film&quot; of them"' in text
    assert '<code class="language-sh">dvc repro\n</code>' in text
    assert text.count("<li>") == 2


def test_it_can_be_read_on_a_phone_and_in_the_dark(folder: Path) -> None:
    text = self_contained(PAGE, folder)
    assert 'name="viewport" content="width=device-width' in text
    assert "prefers-color-scheme: dark" in text
    assert '<div class="wide"><table>' in text


def test_a_picture_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"film.gif: no such file"):
        self_contained(PAGE, tmp_path)


def test_other_pages_are_left_alone_and_markup_is_text(tmp_path: Path) -> None:
    assert "&lt;script&gt;" in self_contained("# T\n\n<script>alert(1)</script>", tmp_path)
