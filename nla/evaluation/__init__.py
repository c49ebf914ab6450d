"""What a model is worth: metrics, intervals, pictures."""
