//! openraft's own storage suite, over the engines in memory.
