"""What is measured, a file each: a function that takes a `Bench` and gives a `Figure`."""
