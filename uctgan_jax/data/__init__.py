"""From pictures on disk to batches: sources, masks, the pipeline, the avatars data set."""
