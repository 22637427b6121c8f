"""From names on a command line to a checked recipe: rows of `conf/`, the config they resolve to, the rendered
recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.config.load import Config, load_config
from slipway.errors import ConfigError
from slipway.planning.fit import Fit, gpu_room
from slipway.planning.model_shape import check_shape
from slipway.planning.parallelism import parallelism
from slipway.planning.training_memory import memory_plan, training_fit
from slipway.system.nearest import did_you_mean
from slipway.training.nemo.recipe import RecipePaths, container_paths, render
from slipway.training.nemo.rules import check_rules
from slipway.training.nemo.schema import check_recipe

METHODS = ("qlora", "lora", "sft")


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe, the config it came from, and the train row that was chosen."""

    config: Config
    row: str
    recipe: dict[str, Any]

    def summary(self) -> str:
        """Train row, GPUs and planned memory in one line."""
        config = self.config
        gpus = parallelism(config.train, config.target)
        plan, fitting = memory_plan(config.model, config.train, config.target), self.fitting()
        limit = f" of {fitting.room / 1e9:.0f}" if fitting else ""
        memory = f"about {plan.needed / 1e9:.0f}{limit} GB on each"
        if fitting and fitting.unknown:
            memory = f"memory: {fitting}; {fitting.way_out}"
        return f"train/{self.row} on {gpus.world} GPU(s) of {config.target.name}: {memory}"

    def fitting(self) -> Fit | None:
        """Whether it fits one GPU of the target; None for a target without GPU memory."""
        return training_fit(self.config.model, self.config.train, self.config.target)

    def to_json(self) -> dict[str, Any]:
        """Train row, planned memory in GB (one step, loading, what a GPU has) and the recipe."""
        plan, fitting = memory_plan(self.config.model, self.config.train, self.config.target), self.fitting()
        memory = {"step": plan.step, "loading": plan.loading, "room": gpu_room(self.config.target)}
        if unknown := fitting.unknown if fitting else "":
            memory |= {"step": None, "loading": None}
        return {
            "train_row": self.row,
            "memory_gb": {k: v and round(v / 1e9, 2) for k, v in memory.items()},
            **({"cannot_tell": unknown} if unknown else {}),
            "recipe": self.recipe,
        }


def resolve_recipe(
    conf: Path, model: str, method: str | None, target: str, row: str | None, overrides: Sequence[str]
) -> ResolvedRecipe:
    """The recipe of a row of `conf/models`, a method (qlora, lora, sft) and a row of `conf/targets`.

    `row` names a row of `conf/train`; None chooses the one for method and target. Raises ConfigError for a name without
    a row, listing the rows there are, and for a recipe that breaks a rule.
    """
    layers = [
        f"layers.model=models/{_known(conf, 'models', model)}",
        f"layers.target=targets/{_known(conf, 'targets', target)}",
    ]
    if row is None:
        wanted = method or "qlora"
        if wanted not in METHODS:
            raise _unknown("--method", wanted, METHODS)
        # Overrides of the section `train` belong to the row that is still to be chosen
        others = [word for word in overrides if not word.startswith("train.")]
        row = choose_row(conf, wanted, load_config(conf, [*layers, *others]))
    layers.append(f"layers.train=train/{_known(conf, 'train', row)}")
    config = load_config(conf, [*layers, *overrides])
    if method and config.train.method != method:
        raise ConfigError(
            "--method",
            method,
            f"{config.train.method}, the method of train/{row}",
            "leave one of --method and --train out",
        )
    return ResolvedRecipe(config, row, checked_recipe(config))


def checked_recipe(config: Config) -> dict[str, Any]:
    """The recipe of a config whose data are not counted. Raises ConfigError when it breaks a rule, or when the model
    directory that the config names has another shape."""
    check_rules(config.model, config.train, config.target, None)
    if config.model.directory:
        check_shape(config.model, Path(config.model.directory))
    recipe = render(config.model, config.train, config.target, _paths(config), steps=None)
    check_recipe(recipe)
    return recipe


def choose_row(conf: Path, method: str, config: Config) -> str:
    """Name of the row of `conf/train` for a method: `nemo-METHOD`, or its variant for a mixture of experts or for
    several GPUs where `conf` has one."""
    several = parallelism(config.train, config.target).world > 1
    suffix = "-moe" if config.model.experts else {"qlora": "-ddp", "lora": "-fsdp2"}.get(method, "") if several else ""
    special = f"nemo-{method}{suffix}"
    return special if (conf / "train" / f"{special}.yaml").is_file() else f"nemo-{method}"


def _paths(config: Config) -> RecipePaths:
    if config.target.in_container:
        return container_paths(config.model.name)
    model = config.model.directory or f"models/{config.model.name}"
    return RecipePaths(model, "data/train.jsonl", "data/val.jsonl", "checkpoints")


def _known(conf: Path, folder: str, name: str) -> str:
    names = sorted(path.stem for path in (conf / folder).glob("*.yaml"))
    if name not in names:
        raise _unknown(f"row of {conf / folder}", name, names)
    return name


def _unknown(thing: str, value: str, names: Sequence[str]) -> ConfigError:
    return ConfigError(
        thing,
        value,
        f"one of {', '.join(names) or 'none'}",
        did_you_mean(value, names, "choose one of them"),
    )
