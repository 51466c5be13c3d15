"""Names of metrics that say which way is better, and those that do not."""

from __future__ import annotations

from framework.core.direction import by_name


def _words(text: str) -> list[str]:
    return text.split()


HIGHER = _words(
    """accuracy acc val_accuracy binary_accuracy top5 top_5_accuracy top5_accuracy auc
auc_1 pr_auc roc_auc average_precision map mAP precision recall precision_at_recall recall_at_5 f1
f1_score sensitivity specificity mean_io_u mean_iou iou dice dice_coefficient jaccard_index psnr
ssim bleu rouge_l ndcg mrr hit_rate r2 r2_score pearson spearman_correlation cohen_kappa mcc reward
mean_reward episode_return success_rate win_rate cosine_similarity log_likelihood elbo exact_match
mAP50-95 IoU AUC-ROC acc@1 hit_ratio mean_reciprocal_rank r_squared si_sdr nmi accuracy_val
true_positives balanced_accuracy macro_f1 f1_macro explained_variance inception_score"""
)
LOWER = _words(
    """loss val_loss critic_loss error error_rate word_error_rate wer cer mse mae rmse mape
mean_squared_error root_mean_squared_error mean_absolute_error top5_error perplexity nll
negative_log_likelihood kl_divergence binary_crossentropy cross_entropy hinge poisson fid fid_score
lpips brier_score ece calibration_error eer false_positive_rate false_negatives false_positives
logloss log_loss edit_distance cosine_distance huber rmsle cost loss_train
accuracy_loss dice_loss topology_error log_cosh hausdorff_distance chamfer bits_per_dim"""
)
UNKNOWN = """ratio score custom grad_norm learning_rate loss_scale masked entropy width temperature
neg_elbo negative_elbo neg_log_likelihood neg_mean_squared_error false_match_rate inverse_accuracy
one_minus_iou 1-auc non_match anti_correlation time_to_accuracy steps_to_error accuracy_std distance
travelled_distance loss_ratio"""


def test_unmistakable_names_are_known_and_no_others() -> None:
    assert {n: by_name(f"val/{n}") for n in HIGHER} == dict.fromkeys(HIGHER, "max")
    assert {n: by_name(f"val/{n}") for n in LOWER} == dict.fromkeys(LOWER, "min")
    names = UNKNOWN.split()
    assert {n: by_name(f"val/{n}") for n in names} == dict.fromkeys(names)
