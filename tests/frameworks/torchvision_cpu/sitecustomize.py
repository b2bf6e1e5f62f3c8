"""Let PyPI's torchvision, which is built for CUDA, be imported beside a CPU build of torch.

Its compiled operators want a CUDA library, and without them `import torchvision` ends with
"operator torchvision::nms does not exist". This file stands in for that one operator, written in
Python, just before torchvision is imported. It is a means of test machines without a GPU build of
torch: `scripts/frameworks.py` puts it into a project only after that very import has failed there.
Python runs a `sitecustomize` that it finds on PYTHONPATH by itself.
"""

import importlib.abc
import importlib.machinery
import sys

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def nms(boxes, scores, threshold):
    """Non-maximum suppression: indices of the boxes that no better one covers, best first."""
    import torch

    kept, order = [], scores.argsort(descending=True)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    while order.numel():
        first, rest = order[0], order[1:]
        kept.append(first)
        low = torch.max(boxes[first, :2], boxes[rest, :2])
        high = torch.min(boxes[first, 2:], boxes[rest, 2:])
        width, height = (high - low).clamp(min=0).unbind(1)
        shared = width * height
        order = rest[shared / (areas[first] + areas[rest] - shared) <= threshold]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.long)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, _target=None):
        if name != "torchvision":
            return None
        sys.meta_path.remove(self)
        import torch

        self.library = torch.library.Library("torchvision", "DEF")
        self.library.define("nms" + _SIGNATURE)
        self.library.define("qnms" + _SIGNATURE)
        self.library.impl("nms", nms, "CPU")
        sys.torchvision_library = self.library  # lives as long as the process
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            module.extension._has_ops = lambda: True

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Finder())
