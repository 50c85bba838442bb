"""Which method is best on my noise, and which of my labels are wrong: all methods side by side."""
