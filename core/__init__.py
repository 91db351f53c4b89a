"""What every door meets in: messages, exchanges, queues, virtual hosts, the store."""
