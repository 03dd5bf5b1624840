"""The page as one HTML file that needs nothing else: Markdown in, pictures embedded, no script, no network."""

import base64
import html
import mimetypes
import re
from pathlib import Path

from markdown_it import MarkdownIt

from telepath.files import read

STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --faint: #666; --line: #d8d8d8; --shade: #f4f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --paper: #16181c; --faint: #a0a0a0; --line: #3a3d44; --shade: #22252b; }
}
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }
main { max-width: 52rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; }
h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
img { display: block; max-width: 100%; height: auto; margin: 1.5rem auto 0.3rem; background: #fff; border-radius: 6px; }
em { color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.92rem; overflow-wrap: normal; }
th, td { padding: 0.3rem 0.7rem; border-bottom: 1px solid var(--line); text-align: left; }
td[style*="right"] { white-space: nowrap; }
code, pre { background: var(--shade); border-radius: 4px; font-size: 0.9em; }
code { padding: 0.1em 0.3em; }
pre { padding: 0.7rem; overflow-x: auto; }
pre code { padding: 0; }
@media (min-width: 40rem) { td:first-child { white-space: nowrap; } }
@media (max-width: 40rem) {
  td:last-child:not(:nth-child(-n + 3)) { min-width: 13rem; }
  .wide > img { width: 36rem; max-width: none; }
}
"""


def self_contained(markdown: str, folder: Path) -> str:
    """A whole HTML page; the pictures that ``markdown`` shows lie under ``folder``.

    HTML in the Markdown is shown as text. A picture that is not there is a ``UserError`` that names it.
    """
    title = re.search(r"^# (.+)$", markdown, re.MULTILINE)
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    body = re.sub(
        r'<img src="([^"]+)"',
        lambda found: f'<img src="{data_uri(folder / html.unescape(found[1]))}"',
        parser.render(markdown),
    )
    # What is too wide for a phone moves within a frame of its own: tables, and pictures, whose words would be small.
    body = body.replace("<p><img", '<p class="wide"><img')
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title[1] if title else 'Report')}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def data_uri(path: Path) -> str:
    """The content of a picture as an address."""
    kind = mimetypes.guess_type(path.name)[0]
    return f"data:{kind};base64,{base64.b64encode(read(path)).decode()}"
