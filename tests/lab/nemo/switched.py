"""Says, as JSON, whether a recipe whose settings were changed in place is the one that was set up with them.

`python switched.py RECIPE.json`: for each mode of recomputation one recipe is set up with it; then it goes through the
other modes and back. Compared are the module tree, `use_cache`, the loss, and every gradient, bit for bit.
"""

import copy
import json
import sys
from pathlib import Path

import on_cpu  # noqa: F401
import torch

from slipway.training.tuning.probe_recipe import MODES, ProbeRecipe

LOSS = {"_target_": "nemo_automodel.components.loss.masked_ce.MaskedCrossEntropy"}


def setting(mode, document):
    """A probe request with this mode of recomputation, of the recipe's own pack length."""
    size = document["packed_sequence"]["packed_sequence_size"]
    return {
        "checkpointing": mode,
        "pack_length": size,
        "micro_batch": 1,
        "attention": "sdpa",
        "loss": LOSS,
        "accumulate": 1,
        "limit_bytes": 1 << 40,
    }


def tree(probe):
    """Every module's name, class and checkpointing flag, and whether the model keeps a key cache."""
    modules = [
        (name, type(m).__name__, getattr(m, "gradient_checkpointing", None)) for name, m in probe._model.named_modules()
    ]
    return modules, probe._model.config.use_cache


def step(probe):
    """Loss and gradients of one batch."""
    batch, losses = next(probe._batches)[0], []
    torch.manual_seed(1)
    probe._recipe._forward_backward_step(0, dict(batch), loss_buffer=losses, num_label_tokens=100, num_batches=1)
    names = {name.replace("_checkpoint_wrapped_module.", ""): p for name, p in probe._model.named_parameters()}
    grads = {name: p.grad.clone() for name, p in names.items() if p.grad is not None}
    probe.release()
    return losses[0], grads


def compare(mode, document):
    """Whether a model switched to `mode` from every other equals a fresh one: modules, loss and gradients, bit for
    bit."""
    document = copy.deepcopy(document)
    document["distributed"]["activation_checkpointing"] = MODES[mode]
    probe = ProbeRecipe(document, 10**12)
    fresh_tree = tree(probe)
    probe._data(setting(mode, document))
    fresh_loss, fresh = step(probe)
    for other in (*(m for m in MODES if m != mode), mode):
        probe.apply(setting(other, document))
        if other != mode:
            step(probe)
    loss, grads = step(probe)
    wrapped = sum(kind == "CheckpointWrapper" for _, kind, _ in fresh_tree[0])
    return {
        "tree": tree(probe) == fresh_tree,
        "loss": torch.equal(loss, fresh_loss),
        "gradients": len(grads),
        "wrapped": wrapped,
        "same": grads.keys() == fresh.keys() and all(torch.equal(grads[n], fresh[n]) for n in grads),
        "recomputes": any(flag for _, _, flag in fresh_tree[0]),
    }


if __name__ == "__main__":
    document = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps({mode: compare(mode, document) for mode in MODES}))
