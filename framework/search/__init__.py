"""Hyperparameter search: a sweep whose jobs are asked for one after the other, by Optuna."""
