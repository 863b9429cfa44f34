"""HTML pages that stand alone, one builder a template."""
