"""Statistics: intervals, resampling, permutations and corrections, of whatever is asked."""
