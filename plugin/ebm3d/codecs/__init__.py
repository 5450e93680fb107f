"""Label encodings of scalars: quantizer, codebooks, decoders."""
