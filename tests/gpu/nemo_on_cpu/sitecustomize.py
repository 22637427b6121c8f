"""On PYTHONPATH of a dry run without a GPU: the torch.cuda calls of NeMo's recipe that only measure, reset or name the device."""

import sys

import torch
import torch.distributed.run

CPU = torch.device("cpu")


def current_device():
    """NeMo writes `torch.device("cuda", torch.cuda.current_device())` in from_pretrained, and uses the value as a device elsewhere."""
    return 0 if sys._getframe(1).f_code.co_name == "from_pretrained" else CPU


torch.cuda.reset_peak_memory_stats = lambda *_: None
torch.cuda.max_memory_allocated = lambda *_: 0
torch.cuda.empty_cache = lambda: None
torch.cuda.current_device = current_device
torch.distributed.run.determine_local_world_size = lambda nproc_per_node: 1
