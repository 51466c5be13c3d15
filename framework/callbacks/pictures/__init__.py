"""Pictures of data and predictions, drawn with matplotlib."""
