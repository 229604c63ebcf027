"""Converting modules of attention by running them once on an example: see `follower`."""
