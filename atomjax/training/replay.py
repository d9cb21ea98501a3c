"""Replay: structures of the upstream set in every batch, so that a finetuning does not forget them.

They train the head that the checkpoint had for them, on their own labels or on what the checkpoint
predicts for them, and their test part is tested like that of the task.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from atomjax.batching import BatchLoader, GraphDataset
from atomjax.data.fingerprint import fingerprint
from atomjax.data.graphs import BaseGraphs
from atomjax.data.load import DataSplits, load_datasets
from atomjax.data.settings import DataSettings
from atomjax.data.store_view import make_dataset
from atomjax.graphs import GraphConfig
from atomjax.models import HeadConfig, build_model, find_backbone, predict
from atomjax.runtime.code import code_digest
from atomjax.runtime.config import ConfigError, nearest
from atomjax.runtime.files import replacing_folder
from atomjax.runtime.run import Run
from atomjax.structures import References, Structure
from atomjax.structures.store import Store, write_store
from atomjax.training.basis import checkpoint_graph
from atomjax.training.from_settings import make_task
from atomjax.training.head_source import source_references
from atomjax.training.running.checkpoint import load_checkpoint
from atomjax.training.running.evaluate import Evaluator, make_evaluation_step
from atomjax.training.running.leaves import digest
from atomjax.training.running.results import StructureResult
from atomjax.training.settings import GroupSettings, ReplaySettings, RunSettings
from atomjax.training.update.state import data_mesh, own_rows, place
from atomjax.training.update.tasks import Task

# What makes predictions of a checkpoint.
CODE = ("atomjax.graphs", "atomjax.ops", "atomjax.models")


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The replay of one training."""

    settings: ReplaySettings  # data set, share and labels
    source: str  # name of the head in the checkpoint
    head: HeadConfig  # head that goes on, under the name of the data set
    references: References  # references that it was trained with
    graph: GraphConfig  # graphs that it was trained on
    backbone: Mapping[str, Any]  # config of the model

    @property
    def name(self) -> str:
        """Name of the data set, and of its head here."""
        return self.settings.dataset.name

    @property
    def frozen(self) -> tuple[GroupSettings, ...]:
        """The group of the head where nothing trains it."""
        pattern = f"^head_{self.name}/"
        return () if self.settings.share else (GroupSettings(pattern=pattern, multiplier=0.0),)

    def task(self, settings: RunSettings) -> Task:
        """Its part of the loss."""
        return make_task(settings, self.settings.dataset, self.head, self.references)

    def per_batch(self, batch_size: int) -> int:
        """Structures of every batch that are replayed.

        Raises:
            ConfigError: a share that is not zero makes none, or leaves none for the task.
        """
        share = self.settings.share
        count = round(share * batch_size)
        if share == 0 or 0 < count < batch_size:
            return count
        ways = []
        if batch_size > 1:
            ways.append(f"write share={(1 if count == 0 else batch_size - 1) / batch_size:.3g}")
        if share < 1:
            least = math.floor(0.5 / min(share, 1 - share)) + 1
            ways.append(f"raise train.batching.batch_size to {least}")
        raise ConfigError(
            f"finetune.replay.share={share:g} of batch_size={batch_size} is {share * batch_size:g} "
            f"structures, {'none' if count == 0 else 'all'} of every batch; {' or '.join(ways)}"
        )


def find_replay(settings: ReplaySettings, metadata: Mapping[str, Any], *, resumed: bool) -> Replay:
    """The replay of a training, by the checkpoint that it goes on from.

    Args:
        settings: settings of the replay.
        metadata: metadata of the checkpoint.
        resumed: whether that is one of this training, whose head has the name of the data set.

    Raises:
        ConfigError: the checkpoint has no such head, or one that predicts other quantities.
    """
    name = settings.dataset.name
    source = name if resumed else _source(settings, metadata)
    heads = {head["name"]: head for head in metadata["heads"]}
    head = HeadConfig.from_dict(heads[source])
    if head.kind == "scalar" or head.targets:
        raise ConfigError(
            f"finetune.replay: head {source!r} of the checkpoint predicts properties; replay is for"
            " heads of energies and forces"
        )
    return Replay(
        settings=settings,
        source=source,
        head=replace(head, name=name),
        references=source_references(metadata, source),
        graph=GraphConfig.from_dict({**metadata["graphs"][source], "edge_dropout": 0.0})
        if source in metadata["graphs"]
        else checkpoint_graph(metadata),
        backbone=metadata["model"],
    )


def _source(settings: ReplaySettings, metadata: Mapping[str, Any]) -> str:
    """Name of the head that goes on, in the checkpoint of a training that is gone on from."""
    name, heads = settings.dataset.name, [head["name"] for head in metadata["heads"]]
    source = settings.head_from or (name if name in heads else None)
    if source is None and len(heads) == 1:
        source = heads[0]
    if source is None or source not in heads:
        raise ConfigError(
            f"finetune.replay.head_from={settings.head_from!r}: the checkpoint has the heads "
            f"{', '.join(heads)}; name the one that goes on.{nearest(source or name, heads)}"
        )
    return source


def load_replay(replay: Replay, settings: RunSettings, run: Run, index: int) -> DataSplits:
    """The training and the test part of the upstream set.

    Raises:
        ConfigError: there is no test part, or the data cannot be read as declared.
    """
    real, head = replay.settings.labels == "real", replay.head
    base = BaseGraphs(replay.graph, find_backbone(replay.backbone).published_graph)
    splits = load_datasets(
        DataSettings(
            train=(replay.settings.dataset,),
            max_test=settings.data.max_test,
            cache_dir=settings.data.cache_dir,
            workers=settings.data.workers,
        ),
        run,
        conservative=head.forces == "conservative",
        forces=real and head.kind == "energy_forces",
        energies=real,
        stress=real and head.stress,
        edge_dropout=settings.train.regularization.edge_dropout,
        fit=lambda *_: replay.references,
        graphs=[base],
    )
    if not splits.test:
        raise ConfigError(
            f'finetune.replay.dataset "{replay.name}" has no test part, by which forgetting is '
            "judged; give its split one"
        )
    splits.validation.clear()
    for part in (splits.train, splits.test):
        structures = part[0].structures if real else _labelled(replay, part[0], settings, run)
        part[0] = make_dataset(
            replay.name,
            structures,
            part[0].graph_config,
            run=run,
            workers=settings.data.workers,
            references=replay.references,
            stress=head.stress,
            fixed_atoms=settings.train.loss.fixed_atoms and part is splits.train,
            index=index,
        )
    if not real:
        splits.origins[0] += f"; labels are predictions of {settings.start.checkpoint}"
    return splits


def _labelled(replay: Replay, dataset: GraphDataset, settings: RunSettings, run: Run) -> Store:
    """The structures with the checkpoint's predictions as labels, kept on disk."""
    start = settings.start
    assert start.checkpoint is not None
    variables, metadata = load_checkpoint(start.checkpoint, start.which, averaged=start.averaged)
    order = fingerprint(dataset.structures)["order"]
    # Of a training that is resumed, too, in whose own checkpoints the head has another name.
    source = _source(replay.settings, metadata)
    facts = [order, source, metadata["model"], replay.graph.cache_key(), code_digest(*CODE)]
    cache = Path(settings.data.cache_dir) if settings.data.cache_dir else run.root / "data"
    folder = cache / f"{replay.name}-predicted-{digest(facts, variables)[:16]}"
    if not folder.exists():
        run.say(f"{replay.name}: labelling {len(dataset):,} structures by {start.checkpoint}")
        # All processes compute together; the first one writes.
        found = _predicted(replay, source, dataset, variables, metadata, settings)
        # A run beside this one may have made the same meanwhile.
        if run.primary and not folder.exists():
            with replacing_folder(folder) as made:
                write_store(made, found)
        run.wait_for_all(f"labels of {replay.name}")
    return Store(folder)


def _predicted(
    replay: Replay,
    source: str,
    dataset: GraphDataset,
    variables: Mapping[str, Any],
    metadata: Mapping[str, Any],
    settings: RunSettings,
) -> Sequence[Structure]:
    """The structures with what a checkpoint predicts."""
    heads = [HeadConfig.from_dict(head) for head in metadata["heads"]]
    head = next(one for one in heads if one.name == source)
    model, mesh = build_model(metadata["model"], heads), data_mesh()
    task = Task(name=head.name, kind=head.kind, stress=head.stress)
    bare = GraphDataset(head.name, dataset.structures, replay.graph, index=0)
    train = settings.train
    loader = BatchLoader(
        [bare],
        batch_size=train.validation.eval_batch_size or train.batching.batch_size,
        num_devices=mesh.size,
        shuffle=False,
        rows=own_rows(mesh),
    )
    evaluator = Evaluator(
        make_evaluation_step(partial(predict, model), [task], mesh),
        [task],
        mesh,
        lambda: (batch for _, batch in loader.batches()),
        num_structures=len(bare),
    )
    found, forces = [], head.kind == "energy_forces"
    for row in evaluator.predictions(place(dict(variables), mesh)):
        structure = bare.structure(row.structure)
        one = StructureResult.physical(
            structure.atomic_numbers,
            replay.references,
            (),
            energy=row.energy,
            forces=row.forces if forces else None,
            stress=row.stress if structure.pbc.all() else None,
        )
        labels = {"energy": one.energy, "forces": one.forces, "stress": one.stress}
        found.append(replace(structure, **labels, targets={}))
    return found
