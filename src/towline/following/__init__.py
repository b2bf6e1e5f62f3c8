"""Parts of the step `follow`: the log, side files, what the machine does, and how it ended."""
