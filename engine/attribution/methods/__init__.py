"""The methods of attribution, one family a file."""
