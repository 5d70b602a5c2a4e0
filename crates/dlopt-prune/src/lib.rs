//! What to remove, in what pattern, and how to store what is left.
