"""Registration and serving of a sequence model with the frame model inside."""
