"""Side-by-side measurements: ratios taken in one run on one machine, never absolute promises."""
