//! Number formats, how scales are chosen, and the layouts that hold them.
