"""The compiled loop, its variants and their tuning; evaluation and prediction."""
