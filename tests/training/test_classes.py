"""Properties that are classes: labels, weights, metrics, training and predictions."""

import functools
import json
from pathlib import Path
from typing import Any

import ase.io
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms

import atomjax
from atomjax.command.__main__ import main
from atomjax.models import Prediction
from atomjax.runtime.config import ConfigError
from atomjax.structures import (
    ClassLabels,
    PropertyScale,
    ReferencesError,
    Structure,
    load_archive,
    save_archive,
)
from atomjax.structures.properties import target_scale
from atomjax.structures.readers import ReadError, read
from atomjax.structures.store.writing import write_store
from atomjax.studies.single import finetune
from atomjax.training.running.classification import class_metrics
from atomjax.training.running.metrics import error_sums, physical_metrics
from atomjax.training.settings import RunSettings
from atomjax.training.update.losses import label_counts, loss_sums, mean_terms, prediction_errors
from atomjax.training.update.tasks import Target, Task
from tests.training.standin import Labelled, make_batch
from tests.training.test_workflows import start_run
from tests.training.workflow import make_config

# Texts of three elements, and whether it is the third.
TARGETS = (
    {"name": "phase", "kind": "class", "pooling": "mean", "class_weights": "balanced"},
    {"name": "ionic", "kind": "class"},
)
PHASES = {1: "light", 6: "organic", 8: "oxide"}


def atom(**targets: Any) -> Structure:
    return Structure(atomic_numbers=[1], positions=np.zeros((1, 3)), targets=targets)


def test_classes_are_texts_or_integers_in_an_order():
    numbers = [atom(phase=float(one)) for one in (10, 2, 2, -1)]
    labels = ClassLabels.fit(numbers, "phase")
    assert labels.classes == ("-1", "2", "10")
    assert [labels.normalize(one) for one in numbers] == [2.0, 1.0, 1.0, 0.0]
    texts = [atom(phase=one) for one in ("hcp", "bcc", "bcc", "bcc")]
    assert ClassLabels.fit(texts, "phase").classes == ("bcc", "hcp")
    named = ClassLabels.fit(texts, "phase", classes=("hcp", "fcc", "bcc"), weights={"fcc": 2.0})
    assert (named.normalize(texts[0]), named.weights) == (0.0, (1.0, 2.0, 1.0))
    balanced = ClassLabels.fit(texts, "phase", weights="balanced")
    assert balanced.weights == pytest.approx((4 / (2 * 3), 4 / (2 * 1)))
    assert target_scale(json.loads(json.dumps(balanced.to_dict()))).to_dict() == balanced.to_dict()
    np.testing.assert_allclose(balanced.value([1], [0.0, np.log(3.0)]), [0.25, 0.75])


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["a", "a"], {}, "all structures have the class 'a' as 'phase'"),
        (["a", "b"], {"classes": ("a", "c")}, r"'phase' is 'b', a class .* training set \(a, c\)"),
        (["a", "b"], {"weights": {"c": 1.0}}, "class_weights of 'phase' name c; .* a, b"),
        (["a", "b"], {"classes": ("a", "b", "c"), "weights": "balanced"}, "has the class c"),
        ([0.5, 1.0], {}, "'phase' is 0.5; a class is a text or an integer"),
    ],
)
def test_labels_that_are_no_classes_are_explained(labels, options, message):
    with pytest.raises(ReferencesError, match=message):
        ClassLabels.fit([atom(phase=one) for one in labels], "phase", **options)


def test_a_text_is_no_number():
    with pytest.raises(ReferencesError, match=r"'gap' is the text 'wide'.*kind=.class"):
        PropertyScale.fit([atom(gap="wide")], "gap")


def test_texts_are_kept_in_stores_and_archives(tmp_path: Path):
    structures = [atom(phase=one, gap=float(i)) for i, one in enumerate(("fcc", "bcc", "fcc"))]
    structures.append(atom(gap=5.0))
    store = write_store(tmp_path / "store", structures)
    save_archive(tmp_path / "a.npz", structures)
    for found in (list(store), load_archive(tmp_path / "a.npz")[0]):
        assert [dict(one.targets) for one in found] == [dict(one.targets) for one in structures]
    assert store.with_target("phase").tolist() == [True, True, True, False]
    assert store.with_target("gap").all()


def test_readers_keep_classes_that_are_asked_for(tmp_path: Path):
    atoms = Atoms("H", info={"phase": "fcc", "metal": True, "label": 3, "gap": 1.5})
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    (found,) = read(tmp_path / "a.xyz", classes=["phase", "metal", "absent"])
    assert found.targets == {"phase": "fcc", "metal": 1.0, "label": 3.0, "gap": 1.5}
    (found,) = read(tmp_path / "a.xyz")
    assert found.targets == {"label": 3.0, "gap": 1.5}
    with pytest.raises(ReadError, match="classes='phase': write a list"):
        read(tmp_path / "a.xyz", classes="phase")


def test_metrics_are_those_of_their_definitions():
    rng = np.random.default_rng(0)
    for classes in (2, 4):
        true = rng.integers(0, classes, 40)
        probabilities = rng.dirichlet(np.ones(classes), 40).round(1 if classes == 2 else 2)
        given = probabilities.argmax(axis=1)
        found = class_metrics(true.astype(float), probabilities)
        assert found["accuracy"] == pytest.approx((true == given).mean())
        recalls = [(given[true == c] == c).mean() for c in range(classes)]
        assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
        assert found["balanced_error_rate"] == pytest.approx(1 - np.mean(recalls))
        f1 = []
        for c in range(classes):
            precision = (true[given == c] == c).mean()
            f1.append(2 * precision * recalls[c] / (precision + recalls[c]))
        assert found["f1"] == pytest.approx(f1[-1] if classes == 2 else np.mean(f1))
        areas = []
        for c in range(classes):
            own, others = probabilities[true == c, c], probabilities[true != c, c]
            larger = (own[:, None] > others) + 0.5 * (own[:, None] == others)
            areas.append(larger.mean())
        assert found["roc_auc"] == pytest.approx(areas[-1] if classes == 2 else np.mean(areas))
    # The numbers that scikit-learn 1.9.1 gives for these.
    true, positive = np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.6, 0.4, 0.6, 0.9])
    found = class_metrics(true.astype(float), np.stack([1 - positive, positive], axis=1))
    assert (found["accuracy"], found["f1"]) == (pytest.approx(0.6), pytest.approx(2 / 3))
    assert found["balanced_accuracy"] == pytest.approx(7 / 12)
    assert found["roc_auc"] == pytest.approx(0.75)
    assert class_metrics(np.full(5, np.nan), np.full((5, 2), 0.5)) == {}
    assert "roc_auc" not in class_metrics(np.ones(5), np.full((5, 2), 0.5))


def test_the_loss_is_the_weighted_cross_entropy_and_heads_may_have_other_classes():
    items = [
        Labelled(np.array([1]), np.zeros((1, 3)), properties=given, dataset=d, index=i)
        for i, (d, given) in enumerate([(0, {"gap": 0.0}), (0, {"gap": 1.0}), (1, {"gap": 2.0})])
    ] + [Labelled(np.array([1]), np.zeros((1, 3)), dataset=1, index=3)]
    batch = make_batch(items, graphs=6, nodes=7)
    two = Target(name="gap", classes=("a", "b"), weights=(1.0, 3.0), coefficient=2.0)
    three = Target(name="gap", classes=("a", "b", "c"), weights=(1.0, 1.0, 0.5))
    tasks = tuple(Task(name=n, kind="scalar", targets=(t,)) for n, t in (("x", two), ("y", three)))
    scores = np.random.default_rng(0).normal(size=(6, 5))
    heads = {
        task.name: Prediction(None, None, jnp.zeros(7), {"gap": jnp.asarray(scores[:, :n])})
        for task, n in zip(tasks, (2, 3), strict=True)
    }
    errors = prediction_errors(heads, batch, tasks)
    terms = mean_terms(
        loss_sums(errors, batch, tasks, "structure"), label_counts(batch, tasks, "structure")
    )

    def entropy(row: int, count: int, place: int) -> float:
        own = scores[row, :count]
        return float(np.log(np.exp(own).sum()) - own[place])

    expected = 2 * (entropy(0, 2, 0) + 3 * entropy(1, 2, 1)) + 0.5 * entropy(2, 3, 2)
    assert float(terms.values["gap"]) == pytest.approx(expected / 3, rel=1e-5)
    metrics = physical_metrics(error_sums(errors, batch, tasks), tasks)
    right = [scores[0, :2].argmax() == 0, scores[1, :2].argmax() == 1]
    assert metrics["x/accuracy"] == pytest.approx(np.mean(right))
    assert metrics["y/accuracy"] == float(scores[2, :3].argmax() == 2)


def write_labelled(path: Path, count: int = 60, odd: str | None = None) -> Path:
    """Chains of one element and some hydrogen, with a text and a truth value for it."""
    rng, frames = np.random.default_rng(2), []
    for i in range(count):
        n, element = 3 + i % 5, list(PHASES)[i % 3]
        numbers = np.full(n, element)
        numbers[0] = 1
        positions = np.cumsum(rng.normal(0.8, 0.1, (n, 3)), axis=0)
        info = {"phase": PHASES[element], "ionic": element == 8}
        frames.append(Atoms(numbers, positions, info=info))
    if odd is not None:
        frames[0].info["phase"] = odd
    ase.io.write(path, frames, format="extxyz")
    return path


def config_of(path: Path, targets: Any, **train: Any) -> dict[str, Any]:
    fields = {"batch_size": 12, "learning_rate": 1e-2, **train}
    config = make_config(path, **fields)
    config["data"]["train"][0]["energy_kind"] = "none"
    config["workflow"], config["head"] = "finetune", {"kind": "scalar", "targets": targets}
    return config


trained = functools.partial(start_run, finetune)


def test_separable_classes_are_learned_and_predicted_in_every_form(tmp_path: Path):
    path = write_labelled(tmp_path / "chains.xyz")
    choice = {"select_by": "balanced_error_rate", "select_property": "phase"}
    config = config_of(path, TARGETS, epochs=20, eval_every=40, **choice)
    results, text = trained(config, tmp_path / "run")
    for name in ("phase", "ionic"):
        errors = results["test"][f"chains/{name}"]
        assert errors.keys() >= {"accuracy", "balanced_accuracy", "f1", "roc_auc"}
        assert errors["accuracy"] > 0.8, name
        assert errors["balanced_error_rate"] == pytest.approx(1 - errors["balanced_accuracy"])
    assert "phase       light " in text
    assert "ionic       0 " in text
    assert "test chains/phase: balanced error rate" in text
    assert "outcomes" in (tmp_path / "run" / "report.md").read_text()
    model = atomjax.load(tmp_path / "run")
    found = model.predict(path)
    assert model.classes() == found.class_names
    assert found.class_names == {"phase": ("light", "organic", "oxide"), "ionic": ("0", "1")}
    np.testing.assert_allclose(found.properties["phase"].sum(axis=1), 1)
    written = np.load(tmp_path / "run" / "predictions" / "chains.npz")
    rows = [list(found.identifiers).index(name) for name in written["identifier"]]
    expected = written["value_phase_predicted"]
    np.testing.assert_allclose(found.properties["phase"][rows], expected, atol=1e-5)
    np.testing.assert_array_equal(found.labels.properties["phase"][:3], [0, 1, 2])
    assert found.errors_by_target()["phase"]["accuracy"] > 0.8
    found.plot(tmp_path / "outcomes.png")
    both = atomjax.load([tmp_path / "run", tmp_path / "run"]).predict(path)
    np.testing.assert_allclose(both.properties["ionic"], found.properties["ionic"], atol=1e-6)
    for name in ("out.csv", "out.json", "out.xyz"):
        command = ["predict", str(tmp_path / "run"), str(path), "--output", str(tmp_path / name)]
        assert main(command) == 0
    first = json.loads((tmp_path / "out.json").read_text())[0]
    assert (first["value_phase_true"], first["value_ionic_true"]) == ("light", "0")
    assert 0.3 < first["value_phase_probability"] <= 1
    frame = ase.io.read(tmp_path / "out.xyz", 0)
    assert isinstance(frame, Atoms)
    assert frame.info["value_phase"] == first["value_phase"]


def test_an_unknown_class_is_an_error_that_names_it(tmp_path: Path):
    config = config_of(write_labelled(tmp_path / "chains.xyz"), TARGETS)
    other = write_labelled(tmp_path / "other.xyz", count=3, odd="glass")
    entry = {**config["data"]["train"][0], "path": str(other), "split": None}
    config["data"]["train"][0]["split"] = None
    config["data"]["validation"] = [entry]
    message = r"validation structure .*other\.xyz:0.* 'phase' is 'glass', a class .*light, organic"
    with pytest.raises(ConfigError, match=message):
        trained(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"unit": "eV"}, '"phase" is a class, without unit'),
        ({"pooling": "dipole"}, 'pooling "dipole" is for numbers'),
        ({"classes": ["a"]}, "two or more, all different"),
        ({"classes": ["a", "b"], "class_weights": {"c": 1.0}}, "class_weights: c=1.0"),
        ({"kind": "number", "classes": ["a", "b"]}, 'are for kind "class"'),
    ],
)
def test_contradictions_are_explained(tmp_path, target, message):
    config = config_of(tmp_path / "a.xyz", [{"name": "phase", "kind": "class", **target}])
    with pytest.raises(ConfigError, match=message):
        RunSettings.from_config(config)
