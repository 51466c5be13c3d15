"""One run: assembling it, resuming it, when it stops, what a wake-up does."""
