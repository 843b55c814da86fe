"""What a trial measures: corpus, batches, training, evaluation, text samples. Imports only `models` of ours."""
