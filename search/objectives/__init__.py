"""What a trial measures: corpus, batches, training, evaluation, text samples. Of ours it imports models only."""
