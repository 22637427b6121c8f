"""One look at what serves at a target: test rows asked again, captured prompts compared, the tests, the record.

Requests go to the serving engine's own address as the target gives it, not through its proxy: what the watch asks must
not be captured as if it were a client's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slipway.agent.engine_key import access_of
from slipway.config.load import Config
from slipway.data.reasoning import parted
from slipway.deployment.releases import Release
from slipway.deployment.state import as_release
from slipway.deployment.target import TargetClient, session, status_of
from slipway.engines.chat_client import Answer, ChatClient
from slipway.errors import ConfigError, ResourceError, StateError
from slipway.watch.baseline import Baseline, baseline_of
from slipway.watch.checks import INPUTS, Check, Inputs, judge
from slipway.watch.look_record import LookRecord, PastLook
from slipway.watch.replay import Replayed, asked, in_order, replay
from slipway.watch.spending import DAY_S, LookLevel, look_level, week_of
from slipway.watch.traffic import Prompt, Traffic, evaluated_prompts, traffic_of

MOST_CAPTURED = 1000  # records that a target shows at once
RETRIES = 1
NO_CLASS = "(no class)"
Note = Callable[[str], None]
Document = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """One look. `document`: everything as JSON values; `past`: earlier looks at this target, oldest first."""

    document: Document
    checks: Sequence[Check]
    past: Sequence[PastLook]

    @property
    def alarms(self) -> list[Check]:
        """Checks that are alarms."""
        return [check for check in self.checks if check.outcome == "alarm"]


def look(config: Config, *, note: Note = lambda _: None, clock: Callable[[], float] = time.time) -> Look:
    """Look at `deploy.target` and record it. `clock`: seconds since the epoch.

    Raises ResourceError when nothing serves there, another look is taken or another release was promoted meanwhile,
    StateError when the release's evaluation is not in this store, EngineError when no row is answered.
    """
    record, target_name = LookRecord(Path(config.store.root), config.deploy.target), config.deploy.target
    begin = time.monotonic()
    with record.open(), session(config.deploy) as target:
        release, endpoint = _serving(target, target_name)
        baseline = baseline_of(release, config)
        now, past = clock(), record.looks()
        earlier = [one for one in past if (one.release, one.created) == (release.name, release.created)]
        level = _level([one.at_s for one in earlier], now, config)
        seed = f"{release.name} {release.created} {level.week}.{level.number}"
        note(
            f"{release.name}: {min(config.watch.items, len(baseline.rows))} of {len(baseline.rows)} test rows are asked"
        )
        access, model = access_of(endpoint), str(endpoint["model"])
        with (
            target.reach(endpoint) as url,
            ChatClient(url, model, config.watch.timeout_s, RETRIES, access.key or None, access.context()) as client,
        ):
            replayed = replay(baseline, client, config.watch.items, seed, config.watch.at_once)
            traffic, why_none = _traffic(target, target_name, config, now, seed)
            note(why_none or f"{len(traffic.prompts)} of {traffic.captured} captured prompts are compared")
            inputs = None if why_none else _inputs(baseline, traffic, client, config, seed)
        _require_same(target, release, target_name)
        ways = {scorer.metric.name: scorer.metric.direction for scorer in baseline.measures}
        checks = judge(replayed, ways, inputs, why_none, config.watch, level.level)
        document = _document(target_name, release, level, now, config)
        document |= _seen(replayed, traffic, baseline, checks, level, _notes(level, record, earlier))
        document |= {"seconds": round(time.monotonic() - begin, 2)}
        record.add(document)
    return Look(document, checks, past)


def _serving(target: TargetClient, name: str) -> tuple[Release, Mapping[str, Any]]:
    """The serving release and its endpoint."""
    status, next_step = status_of(target), f"`slipway start {name}`, or `slipway promote` a first release"
    if status["current"] is None:
        raise ResourceError(f"target {name}", "nothing was released there", "a release that serves", next_step)
    release = as_release(status["current"])
    if status["endpoint"] is None or not status["healthy"]:
        state = "does not run" if status["endpoint"] is None else f"does not answer at {status['url']}"
        raise ResourceError(f"release {release.name} at target {name}", state, "an engine that answers", next_step)
    return release, status["endpoint"]


def _require_same(target: TargetClient, release: Release, name: str) -> None:
    """What was asked must be one release from the first row to the last."""
    serving = status_of(target)["current"]
    if serving is None or serving["name"] != release.name:
        now = "nothing" if serving is None else serving["name"]
        expected = f"{release.name} from the first row to the last"
        raise ResourceError(f"look at target {name}", f"{now} serves now", expected, f"`slipway watch {name}` again")


def _level(earlier: Sequence[float], now: float, config: Config) -> LookLevel:
    params = config.watch
    return look_level(now, earlier, alpha=params.alpha, weeks=params.weeks, planned=params.looks_a_week)


def _traffic(target: TargetClient, name: str, config: Config, now: float, seed: str) -> tuple[Traffic, str]:
    """The sample of captured prompts; and why there is none."""
    nothing = Traffic((), 0)
    try:
        shown = target.call("capture", {"do": "show", "most": MOST_CAPTURED})
    except (ConfigError, StateError) as err:
        return nothing, f"captured prompts cannot be read: {err.thing}: {err.value}; {err.next_step}"
    params = config.watch
    traffic = traffic_of(shown["prompts"], now=now, days=params.days, most=params.prompts, seed=seed)
    if not traffic.prompts:
        left = "".join(f"; {count} {reason}" for reason, count in traffic.left_out.items())
        state = f"is on, and of {params.days:g} days there is nothing to compare{left}"
        return traffic, f"capture {state}" if shown["status"]["on"] else f"capture is off: `slipway capture on {name}`"
    return traffic, ""


def _inputs(baseline: Baseline, traffic: Traffic, client: ChatClient, config: Config, seed: str) -> Inputs:
    """Both samples, with the classes that were answered where the task has them."""
    evaluated = evaluated_prompts(baseline, config.watch.prompts, seed)
    texts, captured = [text for text, _ in evaluated], [prompt.text for prompt in traffic.prompts]
    if (class_of := baseline.class_of) is None:
        return Inputs(texts, captured)

    def ask(prompt: Prompt) -> Answer | str:
        most = min(prompt.max_tokens or baseline.max_new_tokens, baseline.max_new_tokens)
        return asked(lambda: client.ask([dict(one) for one in prompt.messages], most, tools=prompt.tools))

    plain = [prompt for prompt in traffic.prompts if not any(one.get("tool_calls") for one in prompt.messages)]
    answers = [one for one in in_order(ask, plain, config.watch.at_once) if isinstance(one, Answer)]
    then = [class_of(answer) or NO_CLASS for _, answer in evaluated]
    return Inputs(texts, captured, then, [class_of(parted(one.text)[1]) or NO_CLASS for one in answers])


def _document(target: str, release: Release, level: LookLevel, now: float, config: Config) -> Document:
    return {
        "target": target,
        "release": release.name,
        "created": release.created,
        "line": release.model,
        "engine": release.digests["engine"],
        "at": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "at_s": now,
        "week": level.week,
        "look": level.number,
        "level": level.level,
        "alpha": config.watch.alpha,
        "weeks": config.watch.weeks,
    }


def _seen(
    replayed: Replayed,
    traffic: Traffic,
    baseline: Baseline,
    checks: Sequence[Check],
    level: LookLevel,
    notes: Sequence[str],
) -> Document:
    return {
        "outcome": outcome_of(checks),
        "checks": [check.document() for check in checks],
        "rows": {"asked": replayed.asked, "answered": len(replayed.answered), "of": len(baseline.rows)},
        "traffic": {"captured": traffic.captured, "compared": len(traffic.prompts), "left_out": dict(traffic.left_out)},
        "not_judged": dict(baseline.left_out),
        "notes": notes,
        "spending": asdict(level),
    }


def outcome_of(checks: Sequence[Check]) -> str:
    """`drift` for any alarm; `ok` where every check of the answers could be made, `cannot_tell` elsewhere: the inputs
    are not looked at where nobody turned capture on."""
    if any(check.outcome == "alarm" for check in checks):
        return "drift"
    answers = [check for check in checks if check.name not in INPUTS]
    return "ok" if all(check.outcome == "ok" for check in answers) else "cannot_tell"


def _notes(level: LookLevel, record: LookRecord, earlier: Sequence[PastLook]) -> list[str]:
    notes = []
    if level.clock_back_s:
        days = level.clock_back_s / DAY_S
        notes.append(
            f"the clock stands {days:.1f} days before the last look of this release: this look counts in that one's "
            f"week, as number {level.number}; where that look's time is wrong, delete its line in {record.file}"
        )
    drifted = [one for one in earlier if week_of(one.at_s) == level.week and one.document.get("outcome") == "drift"]
    if drifted:
        at = drifted[-1].document.get("at")
        notes.append(f"the look at {at}, of the same week and release, was drift: what it said holds")
    return notes
