"""NeMo AutoModel on a machine without a GPU: its own code as it is, CUDA's bookkeeping stubbed.

NEMO_SITE is the folder that infra/lab/nemo/up filled. Stubbed are the torch.cuda calls that measure, reset or name the
device, and the count of devices that the launcher asks for; none of them has an effect on what is computed.
"""

import os
import sys
import types

sys.path.insert(0, os.environ["NEMO_SITE"])

import torch
import torch.distributed.run

CPU = torch.device("cpu")
torch.cuda.reset_peak_memory_stats = lambda *_: None
torch.cuda.max_memory_allocated = lambda *_: 0
torch.cuda.empty_cache = lambda: None
torch.cuda.current_device = lambda: CPU
torch.distributed.run.determine_local_world_size = lambda nproc_per_node: 1


class OnlyCpu(types.ModuleType):
    """torch, for the one module that writes `torch.device("cuda", torch.cuda.current_device())`."""

    def __getattr__(self, name):
        return getattr(torch, name)

    @staticmethod
    def device(*_):
        """The CPU, whatever device is asked for."""
        return CPU


from nemo_automodel._transformers import auto_model  # noqa: E402

auto_model.torch = OnlyCpu("torch")
