"""What looks at runs: a picture of one, a table and curves of several."""
