//! The operator's words: what was written, what it means, and what is wrong with it.
