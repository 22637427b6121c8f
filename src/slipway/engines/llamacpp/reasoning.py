"""Whether llama-server asks a model to reason: as the model's chat template does where nobody says.

llama-server always gives the template a value of `enable_thinking`, by what it makes of the template's text; the
libraries that train, and the other engines, give none. So the prompt could be another than the one learnt with: a
closed empty block of reasoning more, or one less. `--reasoning` is set to the value that writes what none writes.
"""

from __future__ import annotations

from pathlib import Path

VARIABLE = "enable_thinking"
_FILES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")


def reasoning_options(model: Path) -> list[str]:
    """Options of llama-server for a model directory: none where its template does not ask for the variable, or no value
    of it writes the prompt that the template writes without one."""
    files = [model / name for name in _FILES]
    if not any(VARIABLE in file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file()):
        return []
    from slipway.data.problems import RowProblem
    from slipway.data.tokens import chat_template

    template, asked = chat_template(model), [{"role": "user", "content": "a"}]
    try:
        default = template.render(asked, prompt=True)
        on, off = (template.render(asked, prompt=True, **{VARIABLE: value}) for value in (True, False))
    except RowProblem:
        return []
    if on == off or default not in (on, off):
        return []
    return ["--reasoning", "on" if default == on else "off"]
