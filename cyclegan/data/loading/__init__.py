"""Image files made batches on the device."""
