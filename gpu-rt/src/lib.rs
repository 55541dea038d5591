//! What it is to be a GPU thread: ids, groups, barriers, votes, scoped atomics.
