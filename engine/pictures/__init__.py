"""Pictures as they come and as a model takes them: reading, fitting, cutting out."""
