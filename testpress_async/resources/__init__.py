"""One file per endpoint family: path, filters, record types, and where each is documented."""
