"""The catalog: named models with their origin, checksum, licence, preprocessing and labels."""
