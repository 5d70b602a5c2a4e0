//! The training core: batches, losses, optimisers, the loop.
