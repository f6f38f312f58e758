"""Publishing what a job made: a dry run that lists everything, then an upload to a hub as a job."""
