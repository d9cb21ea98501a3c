"""Metrics of predicted classes, from counts of outcomes and from probabilities.

Those of outcomes follow from counts [C, C] of structures of a class (rows) that were given a class
(columns). Averages over classes are of those that occur among the labels.
"""

import numpy as np
from scipy.stats import rankdata

BALANCED_ERROR = "balanced_error_rate"


def outcome_metrics(counts: np.ndarray) -> dict[str, float]:
    """Metrics of counts of outcomes [C, C]; nothing where nothing is labelled.

    Returns:
        "balanced_error_rate", one less "balanced_accuracy", the mean over classes of the fraction
        that is given its class; "accuracy", the fraction of all; and "f1", 2 tp / (2 tp + fp + fn),
        of two classes that of the last, of more the mean.
    """
    labelled, given, right = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
    if not labelled.sum():
        return {}
    occurs = labelled > 0
    recall = float(np.mean(right[occurs] / labelled[occurs]))
    scores = 2 * right / np.maximum(labelled + given, 1)
    return {
        BALANCED_ERROR: 1.0 - recall,
        "balanced_accuracy": recall,
        "accuracy": float(right.sum() / labelled.sum()),
        "f1": float(scores[-1] if len(counts) == 2 else scores[occurs].mean()),
    }


def outcome_counts(true: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Counts of outcomes [C, C] of labels [S], places of classes, and probabilities [S, C]."""
    classes = probabilities.shape[1]
    pairs = true.astype(np.int64) * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_metrics(true: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """:func:`outcome_metrics`, and "roc_auc" where there are structures of two classes.

    The area under the curve of true against false positive rates is the fraction of pairs of a
    structure of the class and one of another in which the first has the larger probability, ties by
    half; of two classes that of the last, of more the mean over classes, each against all others.

    Args:
        true: [S] places of the classes, NaN where there is no label.
        probabilities: [S, C].
    """
    known = np.isfinite(true)
    true, probabilities = true[known], probabilities[known]
    found = outcome_metrics(outcome_counts(true, probabilities))
    classes = probabilities.shape[1]
    judged = [classes - 1] if classes == 2 else range(classes)
    areas = [_area(true == one, probabilities[:, one]) for one in judged]
    areas = [area for area in areas if area is not None]
    return {**found, "roc_auc": float(np.mean(areas))} if areas else found


def _area(positive: np.ndarray, scores: np.ndarray) -> float | None:
    """Fraction of pairs in which the positive one has the larger score; None without pairs."""
    count = int(positive.sum())
    pairs = count * (len(positive) - count)
    if not pairs:
        return None
    return float((rankdata(scores)[positive].sum() - count * (count + 1) / 2) / pairs)
