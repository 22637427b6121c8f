"""A target behind ssh: its keys, its connection, its session, its set-up."""
