"""What a recipe of ascent is made of: what to maximize, over what, seen how, stepped how."""
