"""One queue: its ready messages, consumers, expiry, dead-lettering and arguments."""
