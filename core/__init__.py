"""What every listener meets in: messages, exchanges, queues, virtual hosts, the store."""
