"""Any OpenAI-compatible endpoint measured on its own: its model, prompts to ask, and the document of its figures."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slipway.config.base import check_authority
from slipway.errors import ConfigError, DataError, ResourceError
from slipway.evaluation.load_client import LoadClient
from slipway.evaluation.speed import CLIENT, Messages, measure
from slipway.planning.roofline import figures, roof
from slipway.system.progress import Progress
from slipway.system.redact import has_credentials

MOST_CALLERS = 4096
OWN_PROMPTS = 512
WORDS_EACH = 96
_WORDS = (
    "river stone window garden letter morning engine copper island winter music harbor paper silver forest bridge "
    "market planet candle thunder meadow pocket ladder mirror valley anchor pepper orange castle desert velvet signal "
    "basket hammer feather cotton marble lantern compass shelter"
)


@dataclass(frozen=True)
class ServedModel:
    """What is known of the model behind an endpoint: its directory, the memory bandwidth of a GPU that serves it, GB/s,
    and the GPUs that share it."""

    directory: Path
    bandwidth_gb_s: float
    gpus: int = 1


def bench(
    url: str,
    model: str | None,
    concurrency: Sequence[int],
    requests: int,
    output_tokens: tuple[int, int],
    prompts: Sequence[Messages],
    timeout_s: float,
    key: str | None,
    progress: Progress,
    served: ServedModel | None = None,
) -> dict[str, Any]:
    """The figures of the endpoint at `url` at every concurrency, as a document; of a model that is `served` from a
    known directory with their share of the bandwidth roofline.

    Raises ConfigError for a URL that is none and a model that must be chosen, ResourceError when nobody answers,
    EngineError when the endpoint does not answer as the API says.
    """
    base = endpoint_base(url)
    model = model or only_model(base, timeout_s, key)
    runs = measure(LoadClient(base, model, timeout_s, key), prompts, concurrency, requests, progress, output_tokens)
    if served:
        runs = [_with_roof(run, served) for run in runs]
    return {"url": base, "model": model, "client": CLIENT, "runs": runs}


def _with_roof(run: dict[str, Any], served: ServedModel) -> dict[str, Any]:
    """Tokens of a request in the middle of its answer: its prompt and half of the answer."""
    context = run["prompt_tokens"] + sum(run["output_tokens"]) // 4
    above = roof(served.directory, served.bandwidth_gb_s, run["concurrency"], max(1, context), gpus=served.gpus)
    return figures(run, above)


def endpoint_base(url: str) -> str:
    """The API's base: `/v1` is added to an address without a path. Raises ConfigError for what is no http(s) URL."""
    try:
        parts = urlsplit(url)
        authority, valid = parts.netloc, parts.scheme in ("http", "https") and bool(parts.hostname)
        check_authority(authority)
    except ValueError:
        authority, valid = "", False
    if not valid or "@" in authority or has_credentials(url):
        shown = "a URL with credentials" if "@" in url or has_credentials(url) else url
        raise ConfigError("URL", shown, "http://HOST:PORT or https://HOST/v1", "give a key by --key-variable NAME")
    return url.rstrip("/") + ("/v1" if not parts.path.strip("/") else "")


def only_model(base: str, timeout_s: float, key: str | None) -> str:
    """The one model that the endpoint serves. Raises ConfigError when there are several, ResourceError when nobody
    answers."""
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.get(f"{base}/models", headers=headers, timeout=timeout_s, trust_env=False)
        answer.raise_for_status()
        names = [str(entry["id"]) for entry in answer.json()["data"]]
    except (httpx.HTTPError, httpx.InvalidURL) as err:
        raise ResourceError(
            f"endpoint {base}", f"{type(err).__name__}: {err}", "a running server", "start it, or check the URL"
        ) from err
    except (ValueError, KeyError, TypeError) as err:
        raise ConfigError(f"endpoint {base}/models", answer.text[:200], "a list of models", "give --model") from err
    if len(names) != 1:
        raise ConfigError(f"models of {base}", ", ".join(names[:20]) or "none", "one", "choose by --model NAME")
    return names[0]


def own_prompts(seed: int = 0) -> list[Messages]:
    """Texts of `WORDS_EACH` words that share no beginning, so that no cache of prefixes makes them fast."""
    words = random.Random(seed)  # noqa: S311 (a load, no secret)
    return [
        [{"role": "user", "content": f"{number}: continue. {' '.join(words.choices(_WORDS.split(), k=WORDS_EACH))}"}]
        for number in range(OWN_PROMPTS)
    ]


def read_prompts(path: Path) -> list[Messages]:
    """The prompts of a JSONL file: `messages` (an assistant's message at the end is left out), `prompt` or `text`.

    Raises ConfigError for a file that is not there, DataError naming the first line that is none of these.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as err:
        raise ConfigError(f"prompts {path}", err.strerror, "a readable JSONL file", "check the path") from err
    prompts = [_prompt(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise DataError(f"prompts {path}", "no line", "a prompt on each line", "see `slipway bench --help`")
    return prompts


def _prompt(path: Path, number: int, line: bytes) -> Messages:
    try:
        row = json.loads(line)
        messages = row["messages"] if "messages" in row else [{"role": "user", "content": _text(row)}]
        while messages and messages[-1]["role"] == "assistant":
            messages = messages[:-1]
        if messages and all(isinstance(message, dict) and isinstance(message["role"], str) for message in messages):
            return list(messages)
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise DataError(
        f"{path}, line {number}",
        line[:200].decode(errors="replace"),
        "JSON with `messages`, `prompt` or `text`",
        "mend the line",
    )


def _text(row: dict[str, Any]) -> str:
    text = row["prompt"] if "prompt" in row else row["text"]
    if not isinstance(text, str) or not text:
        raise KeyError("prompt")
    return text


def parse_levels(text: str) -> list[int]:
    """`1,8,64` as numbers of callers. Raises ConfigError."""
    parts = text.split(",")
    if all(part.strip().isdecimal() and len(part) < 8 and 1 <= int(part) <= MOST_CALLERS for part in parts):
        return [int(part) for part in parts]
    raise ConfigError("--concurrency", text, f"numbers from 1 to {MOST_CALLERS}, as 1,8,64", "give such a list")


def parse_lengths(text: str) -> tuple[int, int]:
    """`48-64` or `64` as (least, most) tokens of an answer. Raises ConfigError."""
    parts = text.split("-")
    if len(parts) <= 2 and all(part.strip().isdecimal() and len(part) < 8 for part in parts):
        low, high = int(parts[0]), int(parts[-1])
        if 2 <= low <= high:
            return low, high
    raise ConfigError("--output-tokens", text, "a range of at least 2 tokens, as 48-64", "give such a range")
