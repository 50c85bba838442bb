"""Run folders of all five projects, read from their files alone (`reader`)."""
