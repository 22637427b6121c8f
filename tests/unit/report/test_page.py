"""The HTML page: what the Markdown says, drawn plots, and no markup that a run brought along."""

from __future__ import annotations

from slipway.report.page import html_page


def test_tables_headings_and_plots_are_rendered() -> None:
    page = html_page("Run", "# Run\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n![q](q.png)\n", {"q.png": "<svg>Q</svg>"})
    assert "<h1>Run</h1>" in page and "<td>1</td>" in page and "<figure><svg>Q</svg></figure>" in page
    assert "prefers-color-scheme: dark" in page and "@media print" in page


def test_names_and_answers_bring_no_markup_along() -> None:
    page = html_page("<b>", "# a <script>alert(1)</script>\n\n[x](javascript:alert(1))\n", {})
    assert "<script" not in page and 'href="javascript' not in page and "<title>&lt;b&gt;</title>" in page


def test_a_plot_that_is_not_there_is_left_out() -> None:
    assert "<img" not in html_page("Run", "![q](q.png)", {})


def test_outcomes_are_in_their_colour_in_cells_alone() -> None:
    page = html_page("Run", "pass\n\n| a | b |\n|---|---|\n| pass | fail to pass |\n| inconclusive | fail |\n", {})
    assert '<td class="pass">pass</td>' in page and '<td class="fail">fail</td>' in page
    assert '<td class="inconclusive">' in page and "<p>pass</p>" in page and "<td>fail to pass</td>" in page
