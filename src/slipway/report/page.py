"""One HTML page out of a report's Markdown: self-contained, readable in a light and a dark browser, printable.

The page says what the Markdown says and nothing else: it is rendered from it by markdown-it, in which raw HTML is off,
so that no name or answer of a run can bring markup along. Images become the SVG elements given for them.
"""

from __future__ import annotations

import html
from collections.abc import Mapping

OUTCOMES = ("pass", "fail", "inconclusive")  # cells that say one are in its colour
STYLE = """
:root { color-scheme: light dark; --line: #d7dbe0; --ink: #1f2329; --page: #ffffff; --accent: #2f6fb0;
  --faint: #626a75; --good: #22783f; --bad: #b3401f; --open: #8a5a00; --tile: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a4048; --ink: #e3e6ea; --page: #16191d; --accent: #6ea8e0;
    --faint: #9aa3ae; --good: #6cc48a; --bad: #f08a66; --open: #e0b050; --tile: #1e2227; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 68rem; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
.wide { overflow-x: auto; margin: .8rem 0 1.2rem; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .32rem .8rem .32rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th, td:not(:last-child) { white-space: nowrap; }
td:first-child:not(:last-child) { white-space: normal; min-width: 9rem; }
th { font-weight: 600; color: var(--faint); }
tr:last-child td { border-bottom: 0; }
.pass { color: var(--good); font-weight: 600; } .fail { color: var(--bad); font-weight: 600; }
.inconclusive { color: var(--open); font-weight: 600; }
h1 + .wide { background: var(--tile); border-radius: .5rem; padding: .8rem 1rem; }
h1 + .wide table, h1 + .wide tbody { display: block; }
h1 + .wide thead { display: none; }
h1 + .wide tbody { display: flex; flex-wrap: wrap; gap: .7rem 2.2rem; }
h1 + .wide tr { display: flex; flex-direction: column; }
h1 + .wide td { padding: 0; border: 0; white-space: normal; overflow-wrap: anywhere; }
h1 + .wide td:first-child { min-width: 0; font-size: .8rem; color: var(--faint); }
h1 + .wide td:last-child { font-size: 1.05rem; font-weight: 600; }
code { font: .85em ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
a { color: var(--accent); }
figure { margin: .8rem 0 1.2rem; }
svg { max-width: 100%; height: auto; color: var(--ink); font-family: inherit; }
svg text { font-family: inherit !important; }
@media print {
  :root { --line: #bbbbbb; --ink: #000000; --page: #ffffff; --accent: #2f6fb0;
    --faint: #444444; --good: #22783f; --bad: #b3401f; --open: #8a5a00; --tile: #ffffff; }
  td:not(:last-child), th { white-space: normal; } table { font-size: 8.5pt; }
  h1 + .wide { padding: 0 0 .6rem; border-radius: 0; }
  td code { font-size: 7pt; }
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
    for outcome in OUTCOMES:
        body = body.replace(f"<td>{outcome}</td>", f'<td class="{outcome}">{outcome}</td>')
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n{body}</body>\n</html>\n"
    )
