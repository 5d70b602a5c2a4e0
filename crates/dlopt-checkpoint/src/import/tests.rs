//! Foreign files from their generator, damaged ones, and hostile ones.
