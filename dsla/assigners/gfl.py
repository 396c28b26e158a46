"""GFL's assignment: ATSS decides who teaches a point, the IoU of the box predicted there how strongly.

Li et al., "Generalized focal loss", NeurIPS 2020.
"""

from .atss import ATSS


class GFL(ATSS):
    """The points of `ATSS` with label 1; the classification is taught the IoU of the predicted box.

    The IoU comes in through the coupling, so that boxes weigh 1 and not their IoU: a positive whose prediction
    misses its box is taught as background, and its box is still learnt.
    """

    name = "ATSS + IoU label"
    default_coupling = "iou-only"
