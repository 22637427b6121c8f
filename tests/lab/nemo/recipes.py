"""What upstream's own code makes of our recipes, as one JSON document. Arguments: folder of recipes, rows, tokenizer
directory.

Runs with NeMo's folder first on the path (NEMO_SITE); nothing is trained.
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.environ["NEMO_SITE"])

import yaml
from nemo_automodel.components._peft.module_matcher import ModuleMatcher
from nemo_automodel.components.config.loader import ConfigNode
from nemo_automodel.components.datasets.llm.neat_packing import greedy_knapsack
from nemo_automodel.recipes._dist_utils import parse_distributed_section
from nemo_automodel.recipes._typed_config import RecipeConfig
from torch.nn import Linear
from transformers import AutoTokenizer

LENGTHS = [(i * 7919) % 900 + 20 for i in range(400)]


def read(file):
    """Every section through upstream's typed config, which raises for what it does not take."""
    cfg = RecipeConfig(ConfigNode(yaml.safe_load(file.read_text())))
    seen = {
        "steps": cfg.step_scheduler.max_steps,
        "recent": cfg.checkpoint.max_recent_checkpoints,
        "decay": cfg.lr_scheduler.lr_decay_steps,
        "packing": type(cfg.dataloader.packing).__name__,
        "drops": cfg.dataloader.packing.drop_long_samples,
        "seed": cfg.dataloader.seed,
        "validation": list(cfg.validation_dataloaders),
        "loss": type(cfg.loss_fn.build()).__name__,
        "optimizer": type(cfg.optimizer).__name__,
    }
    ways = parse_distributed_section(cfg.distributed.to_dict())
    seen |= {
        "strategy": type(ways["strategy_config"]).__name__,
        "recompute": ways["activation_checkpointing"],
        "experts": ways["ep_size"],
    }
    if cfg.get("peft", None):
        matcher = ModuleMatcher(cfg.get("peft").instantiate().target_modules)
        names = [f"model.layers.0.{part}" for part in ("self_attn.q_proj", "mlp.down_proj", "mlp.experts")]
        seen["adapted"] = [name for name in names if matcher.match(Linear(1, 1), name)]
    if cfg.get("model.backend", None):
        seen["attention"] = cfg.model.backend.instantiate().attn
    return seen


def samples(recipe, rows, tokenizer):
    """Inputs and learnt tokens of each row, by upstream's own dataset under the recipe's settings."""
    section = yaml.safe_load(recipe.read_text())["dataset"] | {"path_or_dataset_id": rows}
    data = RecipeConfig(ConfigNode({"dataset": section})).dataloader.dataset_config.build(tokenizer=tokenizer)
    chosen = [data[i] for i in range(len(data))]
    return [{"inputs": s["input_ids"], "learnt": [t for t in s["labels"] if t != -100]} for s in chosen]


def main(folder, rows, tokenizer):
    """What NeMo's own code makes of every recipe in `folder`, of rows and of packs."""
    recipes = sorted(Path(folder).glob("*.yaml"))
    return {
        "recipes": {file.stem: read(file) for file in recipes},
        "samples": samples(recipes[0], rows, AutoTokenizer.from_pretrained(tokenizer)),
        "bare": bool(ModuleMatcher(["q_proj"]).match(Linear(1, 1), "model.layers.0.self_attn.q_proj")),
        "lengths": LENGTHS,
        "packs": {size: len(greedy_knapsack(LENGTHS, size)) for size in (1024, 2048, 8192)},
    }


sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
