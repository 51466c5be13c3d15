"""Infers from a metric's name whether higher or lower is better."""

from __future__ import annotations

import re
from typing import Any

_HIGHER = {
    "accuracy", "acc", "auc", "auroc", "auprc", "roc", "ap", "map", "precision", "recall",
    "sensitivity", "specificity", "tpr", "tnr", "ppv", "npv", "f1", "f2", "fbeta", "fscore",
    "fmeasure", "dice", "jaccard", "iou", "miou", "kappa", "mcc", "matthews", "r2", "correlation",
    "pearson", "spearman", "kendall", "concordance", "cindex", "ndcg", "mrr", "hit", "hits", "bleu",
    "rouge", "rougel", "meteor", "cider", "chrf", "psnr", "ssim", "msssim", "reward", "return",
    "success", "win", "likelihood", "elbo", "match", "em", "similarity", "nmi", "ari", "ami", "snr",
    "sdr", "pesq", "stoi", "silhouette",
}  # fmt: skip
_LOWER = {
    "loss", "losses", "error", "errors", "err", "mse", "mae", "rmse", "mape", "msle", "smape",
    "nll", "perplexity", "ppl", "bpc", "bpd", "bpb", "wer", "cer", "ter", "eer", "der", "fid",
    "kid", "lpips", "fpr", "fnr", "brier", "ece", "mce", "divergence", "kl", "kld", "crossentropy",
    "hinge", "poisson", "chamfer", "hausdorff", "epe", "ade", "fde", "mpjpe", "miss", "failure",
    "regret", "logloss", "bce", "xent", "huber", "rmsle", "rmspe", "nrmse", "mase", "wape", "wmape",
    "crps", "cost", "penalty", "levenshtein",
}  # fmt: skip
# Endings that do not affect the direction: f1_score, error_rate, dice_coefficient.
_SUFFIXES = {
    "score", "rate", "coefficient", "coef", "coeff", "index", "value", "mean", "avg", "average",
    "epoch", "macro", "micro", "weighted", "total", "curve", "percentage", "val", "train", "test",
}  # fmt: skip
_WHOLE = {
    "max": (
        "rouge_l", "rouge_lsum", "true_positive", "true_negative", "true_positives",
        "true_negatives", "explained_variance",
        "log_likelihood", "exact_match", "roc_auc", "pr_auc", "inception", "reciprocal_rank",
        "r_squared", "hit_ratio",
    ),
    "min": (
        "false_positive", "false_negative", "false_positives", "false_negatives",
        "negative_log_likelihood", "false_discovery", "false_alarm", "false_acceptance",
        "false_rejection", "cross_entropy", "log_cosh", "logcosh", "hamming", "wasserstein",
        "bits_per_dim", "bits_per_byte", "bits_per_char", "mean_absolute_deviation",
        *(f"{kind}_distance" for kind in (
            "edit", "levenshtein", "hamming", "hausdorff", "chamfer", "frechet", "wasserstein",
            "cosine", "mover", "inception",
        )),
    ),
}  # fmt: skip
# In front of another word these reverse its direction, or make it ambiguous: neg_elbo,
# false_match_rate.
_TURNED = {
    "neg", "negative", "negated", "non", "no", "not", "false", "minus", "inverse", "inverted",
    "inv", "reverse", "anti", "to",
}  # fmt: skip
_TOP_K = re.compile(r"top_?\d+|top_?k")


def by_name(name: str) -> str | None:
    """Return `max` or `min` if a metric's name says which is better, else None.

    Example:
        >>> by_name("val/top5_accuracy"), by_name("val/error_rate"), by_name("val/ratio")
        ('max', 'min', None)

    Args:
        name: Full name of the metric.
    """
    last = name.rsplit("/", 1)[-1]
    last = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", last).lower().replace("io_u", "iou")
    top = bool(_TOP_K.search(last))
    words = [w for w in re.split(r"[^a-z0-9]+", _TOP_K.sub("", last)) if w and not w.isdigit()]
    if "at" in words[1:]:  # precision_at_recall, recall_at_5
        words = words[: words.index("at")]
    while len(words) > 1 and words[-1] in _SUFFIXES:
        words.pop()
    if not words:
        return "max" if top else None
    text = "_".join(words)
    whole = {name: mode for mode, names in _WHOLE.items() for name in names}
    fitting = max((n for n in whole if f"_{text}".endswith(f"_{n}")), key=len, default="")
    before = words[: -len(fitting.split("_"))]
    if _TURNED.intersection(before) or last.startswith("1-"):
        return None
    if fitting:
        return whole[fitting]
    word = words[-1] if words[-1] in _HIGHER | _LOWER else words[-1].rstrip("0123456789")
    if word in _LOWER:
        return "min"
    return "max" if word in _HIGHER or (top and set(words) <= _SUFFIXES) else None


def of_metric(metric: Any) -> str | None:
    """Return `max` or `min` if a Keras metric declares its direction, else None."""
    return {"up": "max", "down": "min"}.get(getattr(metric, "_direction", None) or "")
