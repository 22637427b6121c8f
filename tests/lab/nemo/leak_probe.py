"""Whether a document of a pack sees another: `leak_probe.py RECIPE.yaml` prints one JSON line.

The real recipe is set up, its first packed batch goes through its own forward step twice, the second time with other
tokens in the first document. `moved`: the largest change of a logit in the other documents; 0 where nothing leaks.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import on_cpu  # noqa: F401 (before NeMo is imported)
import torch
from nemo_automodel.components.config.loader import load_yaml_config
from nemo_automodel.recipes.llm.train_ft import TrainFinetuneRecipeForNextTokenPrediction


def logits(recipe, batch):
    """[tokens, vocabulary] of the batch's first sequence, by the recipe's own training step."""
    kept = []
    head = recipe.model_parts[0].get_output_embeddings()
    hook = head.register_forward_hook(lambda module, given, out: kept.append(out.detach().float()))
    copy = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    recipe._forward_backward_step(0, copy, loss_buffer=[], num_label_tokens=1, num_batches=1)
    hook.remove()
    return kept[0].reshape(-1, kept[0].shape[-1])


def main():
    """Change the first document of a packed batch and print how far the second one's logits move."""
    recipe = TrainFinetuneRecipeForNextTokenPrediction(load_yaml_config(sys.argv[1]))
    recipe.setup()
    recipe.model_parts[0].train()
    batch = next(iter(recipe.dataloader))
    starts = (batch["position_ids"].reshape(-1) == 0).nonzero().reshape(-1).tolist()
    second = next(n for n in starts if n > 4)  # padding restarts at every token; the first document is longer
    before = logits(recipe, batch)
    batch["input_ids"].view(-1)[1 : second - 1] += 1
    moved = (logits(recipe, batch) - before).abs()
    end = next((n for n in starts if n > second + 4), len(before))
    outcome = {"moved": moved[second:end].max().item(), "first": moved[:second].max().item(), "second": [second, end]}
    outcome["keys"] = sorted(batch)
    print(json.dumps(outcome))


main()
