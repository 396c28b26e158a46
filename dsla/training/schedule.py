"""What happens at which step, as functions of the step alone, so that resuming cannot get it wrong."""

import math

import torch
from torch import nn

from ..coco.problems import some
from ..recipes.recipe import Recipe


def total_steps(recipe: Recipe, images: int) -> int:
    """Steps of a run over a training set of so many images."""
    return recipe.steps or math.ceil((recipe.epochs or 1) * images / recipe.batch_size)


def learning_rate(recipe: Recipe, step: int, total: int, images: int) -> float:
    """Rate of a step (from 0).

    images: in the training set, which turns the milestones' epochs into steps.
    """
    rate = recipe.lr
    if recipe.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / total))
    else:
        epoch = step * recipe.batch_size / max(images, 1)
        rate *= 0.1 ** sum(epoch >= m for m in recipe.milestones)
    if step < recipe.warmup_steps:
        share = step / recipe.warmup_steps if recipe.warmup == "linear" else 0.0
        rate *= recipe.warmup_from + (1 - recipe.warmup_from) * share
    return rate


def falls(recipe: Recipe, images: int) -> list[int]:
    """The steps at which milestones divide the rate by ten."""
    return [math.ceil(m * images / recipe.batch_size) for m in recipe.milestones] if recipe.schedule == "step" else []


def rates(recipe: Recipe, images: int) -> dict[int, float]:
    """Step → rate, where the rate is another: first step, end of the warm-up, milestones, last step."""
    total = total_steps(recipe, images)
    steps = sorted({s for s in (0, recipe.warmup_steps, *falls(recipe, images), total - 1) if s < total})
    return {s: float(f"{learning_rate(recipe, s, total, images):.6g}") for s in steps}


def due(every: float | None, step: int, recipe: Recipe, images: int) -> bool:
    """Whether with this step another `every` epochs are over."""
    before, now = (int(s * recipe.batch_size / images / every + 1e-9) if every else 0 for s in (step - 1, step))
    return before < now


def spacing(recipe: Recipe, images: int) -> float:
    """Epochs between checkpoints, and between evaluations from the shell: one, or those of 500 steps if more."""
    return max(1.0, 500 * recipe.batch_size / max(images, 1))


def scaled(recipe: Recipe, batch_size: int) -> Recipe:
    """The recipe at another number of images a step, its learning rate scaled linearly.

    Source: Goyal et al., "Accurate, large minibatch SGD", arXiv 1706.02677.
    """
    return recipe.replace(batch_size=batch_size, lr=recipe.lr * batch_size / recipe.batch_size)


def plan(recipe: Recipe, images: int, ranks: int = 1, accumulate: int = 1) -> str:
    """One line: how long, how many images a step and where they go, at what rate."""
    steps = total_steps(recipe, images)
    where = [f"{ranks} processes"] * (ranks > 1) + [f"{accumulate} parts one after another"] * (accumulate > 1)
    spread = f", spread over {' and '.join(where)}" if where else ""
    notes, milestones = "", falls(recipe, images)
    if steps <= recipe.warmup_steps:
        notes = ", which the run does not reach: set warmup_steps lower"
    elif early := [s for s in milestones if s <= recipe.warmup_steps]:
        tops = *(max(s - 1, 0) for s in early), recipe.warmup_steps
        highest = max(learning_rate(recipe, s, steps, images) for s in tops)
        notes = f", but milestones divide it at {some(early)}, before that: it is at most {highest:.4g}; "
        notes += "set warmup_steps lower"
    if late := [s for s in milestones if s >= steps]:
        notes += f"; milestones at {some(late)} lie behind the last step"
    return (
        f"{steps} steps ({steps * recipe.batch_size / images:.4g} epochs) of {recipe.batch_size} images{spread}; "
        f"{recipe.optimizer}, learning rate {recipe.lr:.4g} after {recipe.warmup_steps} steps of warm-up{notes}"
    )


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD or AdamW with the recipe's rules for biases and norms; each group keeps its factor of the rate.

    Where the model lies on a GPU a step is one kernel for all parameters of a group.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for place, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            table = name == "relative_position_bias_table"  # Swin's, which goes with the norms
            norm = table or isinstance(module, nn.GroupNorm | nn.BatchNorm2d | nn.LayerNorm)
            offsets = place.endswith("conv_offset")  # of deformable convolutions: mmcv's rule passes them over
            bias = name == "bias" and not norm and not offsets
            decays = recipe.norm_decay if norm else recipe.bias_decay if bias else True
            key = (recipe.bias_lr_factor if bias else 1.0, recipe.weight_decay if decays else 0.0)
            groups.setdefault(key, []).append(parameter)
    settings = [{"params": p, "weight_decay": wd, "factor": f, "lr": 0.0} for (f, wd), p in groups.items()]
    fused = next(model.parameters()).device.type == "cuda" or None
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(settings, fused=fused)
    return torch.optim.SGD(settings, momentum=recipe.momentum, fused=fused)
