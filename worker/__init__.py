"""cellstream's worker: recurrent models on live Kafka streams."""
