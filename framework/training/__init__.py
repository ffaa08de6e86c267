"""Training: the loop, what it checks first, how it ends, and how it resumes."""
