"""One run: set it up, resume it, decide when it stops, and do the work of each wake-up."""
