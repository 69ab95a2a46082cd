#!/usr/bin/env bash
#
# torchmetrics 1.9.0, PanopticQuality: a prediction that finds 1 pixel of 100 scores PQ 1.0.
#
# Expected: void of the TRUTH is left out of the union (Kirillov et al., 2019; panopticapi). Pixels that the
#   PREDICTION leaves unlabeled are missed pixels: IoU is 1/100, no match, PQ 0.
# Instead: the area where the prediction is unlabeled is taken out of the area of the true segment, too. Its union
#   shrinks to what was predicted, and IoU is 1.
# Your data: the fewer pixels a model is sure of, the better it scores; a higher score threshold raises PQ. It happens
#   with `allow_unknown_preds_category=True`, which every model that leaves pixels unlabeled needs.
# What to do: give unlabeled pixels a stuff class of their own that the truth never has (PQ of the classes is then
#   right; leave that class out of the mean), or use panopticapi.
#
# Exit code: 0 while this is so, 1 if it changed, 2 if the packages could not be installed.
set -uo pipefail
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
python3 -m venv venv || exit 2
venv/bin/pip install -q "torchmetrics==1.9.0" "torch==2.13.0" "numpy==2.4.6" || exit 2
venv/bin/python - <<'EOF'
import sys

import torch
import torchmetrics
from torchmetrics.detection import PanopticQuality

CAR, ROAD, UNLABELED = 1, 2, 255


def car_quality(found: int, stuffs: set[int]) -> float:
    """PQ of the class car: the truth is one car of 100 pixels, of which `found` are predicted."""
    truth = torch.ones(1, 10, 10, 2, dtype=torch.long)  # (category, instance) of each pixel
    prediction = torch.full_like(truth, UNLABELED)
    prediction.view(-1, 2)[:found] = torch.tensor([CAR, 1])
    metric = PanopticQuality(things={CAR}, stuffs=stuffs, allow_unknown_preds_category=True, return_per_class=True)
    return float(metric(prediction, truth)[0, 0])


print("torchmetrics", torchmetrics.__version__)
as_stated = True
for found in (1, 60, 100):
    expected = found / 100 if found > 50 else 0.0
    unlabeled = car_quality(found, {ROAD})
    as_class = car_quality(found, {ROAD, UNLABELED})
    print(f"{found} of 100 pixels found: by hand {expected:.2f}, unlabeled {unlabeled:.2f}, as a class {as_class:.2f}")
    as_stated &= round(unlabeled, 3) == 1.0 and round(as_class, 3) == expected

print("as stated" if as_stated else "CHANGED")
sys.exit(not as_stated)
EOF
