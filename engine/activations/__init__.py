"""What layers compute on pictures: streamed, reduced, summed up, ranked; and weights."""
