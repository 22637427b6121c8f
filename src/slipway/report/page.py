"""One HTML page out of a report's Markdown: self-contained, readable in a light and a dark browser, printable.

The page says what the Markdown says and nothing else: it is rendered from it by markdown-it, in which raw HTML is off,
so that no name or answer of a run can bring markup along. Images become the SVG elements given for them.
"""

from __future__ import annotations

import html
from collections.abc import Mapping

STYLE = """
:root { color-scheme: light dark; --line: #d7dbe0; --ink: #1f2329; --page: #ffffff; --accent: #2f6fb0; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a4048; --ink: #e3e6ea; --page: #16191d; --accent: #6ea8e0; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 68rem; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
.wide { overflow-x: auto; margin: .8rem 0 1.2rem; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .32rem .8rem .32rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; white-space: nowrap; }
code { font: .85em ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
a { color: var(--accent); }
figure { margin: .8rem 0 1.2rem; }
svg { max-width: 100%; height: auto; color: var(--ink); font-family: inherit; }
svg text { font-family: inherit !important; }
@media print {
  :root { --line: #bbbbbb; --ink: #000000; --page: #ffffff; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  h2 { break-after: avoid; } tr, figure { break-inside: avoid; } .wide { overflow: visible; }
}
"""


def html_page(title: str, markdown_text: str, plots: Mapping[str, str]) -> str:
    """A whole HTML document. `plots`: image name as the Markdown has it -> SVG element; an image that is not among them
    is left out."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown_text)
    for token in tokens:
        for child in token.children or []:
            if child.type == "image":
                name = str(child.attrGet("src") or "")
                child.type, child.content = "html_inline", f"<figure>{plots[name]}</figure>" if name in plots else ""
    body = parser.renderer.render(tokens, parser.options, {})
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n{body}</body>\n</html>\n"
    )
