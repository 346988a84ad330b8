"""Light-PEFT: a short estimation, then base model and adapter are pruned and training goes on with what is left.

Gu et al., ACL 2024 Findings (arXiv 2406.03792), as its public code does it. For `estimation` of the steps
masks of 1 on attention heads and feed-forward units train with the adapter, the loss plus l1 * sum |mask|.
Then, by the masks as they stand (signed), `heads` of the heads of each layer and `units` of all
feed-forward units go out of the base; by the scores of `ranking`, averaged over the second half of the
estimation, `modules` of all adapter modules, then `ranks` of all ranks of those that stay. The adapter's
weights are kept, the optimiser starts anew. Each layer keeps a head and a unit, the adapter a module.

Here both stages lie in the one schedule of the trial; masks are not decayed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from autopeft import updates
from autopeft.layerwise import LayerStrategy, register
from autopeft.layerwise.base_files import FOLDER, save_base
from autopeft.layerwise.drawing import layer_of
from autopeft.layerwise.masks import Masks
from autopeft.layerwise.padding import save_padded
from autopeft.layerwise.ranking import Spot, Watch, find_spots, lowest, second_half
from autopeft.layerwise.structure import Pruned, Pruning, plain, save_pruning
from autopeft.training import Run, make_optimizer
from autopeft.trial import IMPORTANCE, Measurement
from autopeft_searchspace.tuners.composition import ComposedLayer, CompositionConfig
from autopeft_searchspace.tuners.narrowing import drop_idle_taps, narrow

if TYPE_CHECKING:
    from autopeft.models.head import TaskModel

MASKS = "light_peft_masks"


@register
class LightPeft(LayerStrategy):
    name = "light_peft"
    prunes = True

    def attach(self, model: TaskModel) -> None:
        self.model = model
        self.base: Any = model.backbone.get_base_model().base_model
        self.roles = {m.path: role for role, modules in self.shape.modules.items() for m in modules}
        self.spots = find_spots(self.base, self.roles)
        self.masks: Masks | None = Masks(self.base, self.shape)
        model.add_module(MASKS, self.masks)
        self.watch = Watch(model, self.spots)
        self.pruned: Pruned | None = None
        self.pruning: Pruning | None = None
        self.counts: list[int] = []
        self.scores: dict[str, float] = {}

    def before_step(self, run: Run) -> None:
        if self.masks is not None and run.step >= estimation_steps(float(self.settings["estimation"]), run.recipe.total_steps):
            self.prune()
            run.parameters = [p for p in run.model.parameters() if p.requires_grad]
            group = run.optimizer.param_groups[0]
            run.optimizer = make_optimizer(run.parameters, group["lr"], run.recipe.weight_decay)
            updates.prepare(run.optimizer, run.model, self.configuration.optimizer, run.recipe.total_steps)
        self.counts.append(sum(p.numel() for p in self.model.adapter_parameters()))

    def after_backward(self, run: Run) -> None:
        if self.masks is not None:
            self.masks.penalise(float(self.settings["l1"]))
            self.watch.after_backward()

    def prune(self) -> None:
        """Make the base and the adapter smaller by what was learnt so far."""
        assert self.masks is not None
        self.pruning = self._by_masks(self.masks)
        self.scores = {f"{s.path}|{s.type}": _mean(second_half(s.changes)) for s in self.spots}
        self.forget_masks()
        self.pruned = Pruned(self.base, self.shape, self.pruning)
        self._prune_adapter()

    def _by_masks(self, masks: Masks) -> Pruning:
        heads: dict[int, tuple[int, ...]] = {}
        for layer, mask in enumerate(masks.heads):
            gone = lowest(mask.tolist(), float(self.settings["heads"]))
            heads[layer] = tuple(i for i in range(mask.numel()) if i not in gone) or (int(mask.argmax()),)
        values = [(float(v), layer, i) for layer, mask in enumerate(masks.units) for i, v in enumerate(mask.tolist())]
        gone = lowest([value for value, _, _ in values], float(self.settings["units"]))
        units: dict[int, list[int]] = {layer: [] for layer in range(self.shape.layers)}
        for position, (_, layer, i) in enumerate(values):
            if position not in gone:
                units[layer].append(i)
        return Pruning(heads, {layer: tuple(kept) or (int(masks.units[layer].argmax()),) for layer, kept in units.items()})

    def _prune_adapter(self) -> None:
        scores = [_mean(second_half(spot.changes)) for spot in self.spots]
        gone = lowest(scores, float(self.settings["modules"]))
        if len(gone) == len(self.spots):
            gone.discard(max(gone, key=lambda i: scores[i]))
        stay = [spot for i, spot in enumerate(self.spots) if i not in gone]
        ranks = [sum(second_half(spot.ranks)) / max(1, len(second_half(spot.ranks))) for spot in stay]
        every = [(float(v), s, r) for s, values in enumerate(ranks) for r, v in enumerate(values)]
        out = lowest([value for value, _, _ in every], float(self.settings["ranks"]))
        kept: list[list[int]] = [[] for _ in stay]
        for position, (_, s, r) in enumerate(every):
            if position not in out:
                kept[s].append(r)
        best = max(range(len(every)), key=lambda i: every[i][0])
        if not any(kept):
            kept[every[best][1]].append(every[best][2])
        sizes = {id(spot): kept[i] for i, spot in enumerate(stay)}
        for spot in self.spots:
            if chosen := sizes.get(id(spot)):
                narrow(spot.part, chosen)
            else:
                self._remove(spot)
        self._write_config({(spot.path, spot.type): len(sizes.get(id(spot), ())) for spot in self.spots})

    def _remove(self, spot: Spot) -> None:
        """Take a module of the adapter away."""
        if spot.type:
            for parts in spot.owner.composed_parts.values():
                del parts[spot.type]
            drop_idle_taps([parts for m in self.base.modules() if isinstance(m, ComposedLayer) for parts in m.composed_parts.values()])
            return
        parent, _, leaf = spot.path.rpartition(".")
        setattr(self.base.get_submodule(parent), leaf, plain(spot.owner))

    def _write_config(self, sizes: dict[tuple[str, str], int]) -> None:
        """What the adapter saves must say which modules and ranks are left."""
        config: Any = self.model.backbone.peft_config["default"]
        if isinstance(config, CompositionConfig):
            config.sizes = {}
            for (path, kind), size in sizes.items():
                config.sizes.setdefault(path, {})[kind] = size
            return
        kept = {path: size for (path, _), size in sizes.items() if size}
        scaling = {spot.path: spot.part.scaling["default"] for spot in self.spots}
        rooted = bool(config.use_rslora)
        config.target_modules = set(kept)
        config.rank_pattern = kept
        config.alpha_pattern = {path: scaling[path] * (size**0.5 if rooted else size) for path, size in kept.items()}

    def forget_masks(self) -> None:
        if self.masks is not None:
            self.masks.remove()
            self.watch.remove()
            delattr(self.model, MASKS)
            self.masks = None

    def open_peak(self) -> int:
        """The estimation takes most: the whole base, the whole adapter, and the masks' inputs."""
        return 0

    def measurements(self) -> dict[str, Measurement]:
        """Weights of the pruned base, of the adapter on average and at the end; importance of layers and roles."""
        base = sum(p.numel() for p in self.base.parameters()) - sum(p.numel() for p in self.model.adapter_parameters())
        found = {
            "base_parameters": Measurement(float(base), "parameters"),
            "mean_trained_parameters": Measurement(_mean(self.counts), "parameters"),
            "most_trained_parameters": Measurement(float(max(self.counts, default=0)), "parameters"),
            "kept_parameters": Measurement(float(self.counts[-1] if self.counts else 0), "parameters"),
        }
        by_layer: dict[int, list[float]] = {}
        for key, score in self.scores.items():
            path = key.partition("|")[0]
            layer = layer_of(path, self.shape)
            if layer is not None:
                found[f"{IMPORTANCE}.{layer}.{self.roles[path]}"] = Measurement(score)
                by_layer.setdefault(layer, []).append(score)
        return found | {f"{IMPORTANCE}.{layer}": Measurement(_mean(scores)) for layer, scores in sorted(by_layer.items())}

    def save(self, folder: Path) -> None:
        save_base(self.model.backbone, folder / FOLDER)
        if self.pruning is not None:
            save_pruning(folder / FOLDER, self.pruning)
            save_padded(folder, self.shape, self.pruning)

    def undo(self) -> None:
        self.forget_masks()
        if self.pruned is not None:
            self.pruned.undo()


def estimation_steps(share: float, total_steps: int) -> int:
    """Steps of the estimation: at least two, and at least one is left after it."""
    return max(1, min(max(2, round(share * total_steps)), total_steps - 1))


def _mean(values: Any) -> float:
    return float(sum(values) / len(values)) if len(values) else 0.0
